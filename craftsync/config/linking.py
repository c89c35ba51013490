"""A new linked folder for the configuration: its name, its entries, and checks."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from craftsync.config import places
from craftsync.config.file import Config, CraftAiEnvironment
from craftsync.config.options import Transport
from craftsync.config.places import CraftAiLocation, DirectoryLocation, Location, S3Location
from craftsync.errors import UsageError

_NOT_A_NAME = re.compile(r"[^\w.-]+")
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)

Entries = dict[str, tuple[str, dict[str, str]]]
"""What is added to the configuration: of a section, the name and the keys of one entry."""


def refuse_root(word: str, known: Config) -> None:
    """Raise `UsageError` for a path that cannot be a folder, or overlaps with a configured one."""
    root = Path(absolute(word))
    for name, folder in known.folders.items():
        if relation := places.relation(root, folder.root):
            raise UsageError(
                f"{root} {relation} {folder.root}, the folder {name} of the configuration.",
                remedy=f"Use that one (craftsync sync {name}), or folders beside each other.",
            )
    refuse_unusable(root)


def refuse_unusable(folder: Path) -> None:
    """Raise `UsageError` for what is not a folder, and for one that cannot be created."""
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise UsageError(f"{there} is not a folder.", remedy="Choose another folder.")
    if there != folder and not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder} does not exist and cannot be created: {there} is not writable.",
            remedy="Choose another folder, or change the permissions of that one.",
        )


def refuse_name(name: str, file: Path, taken: Collection[str], kind: str) -> None:
    """Raise `UsageError` for a name that is taken, or not usable on the command line."""
    if name in taken:
        raise UsageError(
            f"{file} has {kind} {name!r} already.",
            remedy="Give another NAME, or edit that one in the file.",
        )
    if not name or _NOT_A_NAME.search(name) or places.is_path(name):
        raise UsageError(
            f"{name!r} cannot be a NAME.", remedy="Use letters, digits, dots, dashes, underscores."
        )


def refuse_variable(name: str) -> None:
    """Raise `UsageError` for what is not the name of a variable; it may be the token itself, and is not repeated."""
    if not _VARIABLE.fullmatch(name):
        raise UsageError(
            "That is not the name of a variable.",
            remedy="Use letters, digits and underscores, such as PROD_TOKEN, and put the token into"
            " that variable: the configuration never holds it.",
        )


def refuse_same_token(location: CraftAiLocation, known: Config) -> None:
    """Raise `UsageError` where another environment has its token in the same variable."""
    if other := with_same_token(location, known):
        variable = location.access.token_env
        raise UsageError(
            f"{variable} holds the token of {other}, which is another environment.",
            remedy=f"Name the variable that holds the token of {location.url}: --token-env NAME of"
            f" craftsync init and config add ({variable} again if one token is for both).",
        )


def with_same_token(location: CraftAiLocation, known: Config) -> str | None:
    """Return the environment that has another address and its token in the same variable; `None` for none."""
    access = location.access
    if access.token_file is not None:
        return None
    for name, other in known.environments.items():
        if (
            isinstance(other, CraftAiEnvironment)
            and other.url.rstrip("/") != location.url.rstrip("/")
            and (other.token_env, other.token_file) == (access.token_env, None)
        ):
            return name
    return None


def is_environment(store: str, known: Config) -> bool:
    """Return whether a STORE is an environment of the configuration, or a folder of one."""
    return "://" not in store and store.partition(":")[0] in known.environments


def environment_entry(name: str, location: Location) -> Entries:
    """Return the entry to add for an environment."""
    return {"environments": (name, _keys_of(location))}


def entries(known: Config, name: str, root: str, store: str, location: Location) -> Entries:
    """Return the entries to add: the folder, and its environment if that is new."""
    added: Entries = {}
    environment = store
    if not is_environment(store, known):
        label = _free(name, known)
        added["environments"] = (label, _keys_of(location))
        folder = getattr(location, "folder", "")
        environment = f"{label}:{folder}" if folder else label
    added["folders"] = (name, {"root": root, "environment": environment})
    return added


def _keys_of(location: Location) -> dict[str, str]:
    """Return the keys of an environment for a location."""
    if isinstance(location, DirectoryLocation):
        return {"store": "directory", "path": str(location.path)}
    if isinstance(location, S3Location):
        access = location.access
        keys = {
            "store": "s3",
            "bucket": location.bucket,
            "prefix": location.prefix,
            "profile": access.profile,
            "region": access.region,
            "endpoint_url": access.endpoint_url,
            "request_payer": "true" if access.request_payer else None,
            "content_type": access.content_type,
            "storage_class": access.storage_class,
            "sse": access.sse,
        }
    else:
        known = location.access
        keys = {
            "store": "craft-ai",
            "url": location.url,
            "control_url": known.control_url,
            "token_env": None if known.token_file else known.token_env,
            "token_file": str(known.token_file) if known.token_file else None,
            "transport": None if known.transport is Transport.API else known.transport.value,
        }
    return {key: value for key, value in keys.items() if value}


def _free(name: str, known: Config) -> str:
    """Return an unused name for an environment."""
    label, number = name, 2
    while label in known.environments:
        label, number = f"{name}-{number}", number + 1
    return label


def name_of(root: str) -> str:
    """Return the default name of a folder."""
    return _NOT_A_NAME.sub("-", os.path.basename(root)).strip("-") or "folder"


def absolute(word: str) -> str:
    """Return the absolute path of an argument."""
    return os.path.abspath(os.path.expanduser(word))
