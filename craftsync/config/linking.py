"""A new linked folder for the configuration: its name, its entries, and checks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from craftsync.config import places
from craftsync.config.file import Config
from craftsync.config.places import DirectoryLocation, Location, S3Location
from craftsync.config.secrets import TOKEN_ENV
from craftsync.errors import UsageError

_NOT_A_NAME = re.compile(r"[^\w.-]+")


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


def refuse_name(name: str, file: Path, known: Config) -> None:
    """Raise `UsageError` for a name that is taken, or not usable on the command line."""
    if name in known.folders:
        raise UsageError(
            f"{file} has a folder {name!r} already.",
            remedy="Give another NAME, or edit that one in the file.",
        )
    if not name or _NOT_A_NAME.search(name):
        raise UsageError(
            f"{name!r} cannot be a NAME.", remedy="Use letters, digits, dots, dashes, underscores."
        )


def entries(
    known: Config, name: str, root: str, store: str, location: Location
) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the entries to add: the folder, and its environment if that is new."""
    added: dict[str, tuple[str, dict[str, str]]] = {}
    environment = store
    if store.partition(":")[0] not in known.environments or "://" in store:
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
        keys = {
            "store": "craft-ai",
            "url": location.url,
            "control_url": location.access.control_url,
            "token_env": TOKEN_ENV,
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
