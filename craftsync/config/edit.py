"""Checks new entries of the configuration file, and edits it without changing anything else, comments included."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from craftsync.config import file as configuration
from craftsync.config import places
from craftsync.config.file import Config, CraftAiEnvironment, NotYaml
from craftsync.config.options import Transport
from craftsync.config.places import CraftAiLocation, DirectoryLocation, Location, S3Location
from craftsync.errors import ConfigError, CraftsyncError, UsageError
from craftsync.local.files import replacing

_HEADER = """\
# The configuration of craftsync, written by `craftsync init`. config.example.yaml
# lists every key (`craftsync config example` prints it). Precedence: flag,
# CRAFTSYNC_* variable, this file, default. A relative path starts at the folder of
# this file. Secrets never belong in this file.
"""
_SECTIONS = {
    "environments": "# Names for stores: `craftsync ls NAME`.",
    "folders": "# Names for folders and their stores: `craftsync sync NAME`, `craftsync watch`.",
}

Entries = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Entries to add to the configuration: {section: (name, keys)}."""


def with_entries(old: str, file: Path, entries: Entries) -> str:
    """Return the content of the file with `entries`, {section: (name, keys)}, added.

    Raises `ConfigError` if that would change anything else.
    """
    content = old or _HEADER
    for section, entry in entries.items():
        content = _with_line(content, section, _line_of(*entry))
    names = {section: name for section, (name, _) in entries.items()}
    if not _differs_only_in(old, content, file, names):
        raise ConfigError(
            f"{file}: cannot add lines to its YAML safely.",
            remedy="\n".join(["Add this by hand:", *as_lines(entries)]),
        )
    return content


def as_lines(entries: Entries) -> list[str]:
    """Return entries as lines of the file."""
    lines = ((f"{section}:", f"  {_line_of(*entry)}") for section, entry in entries.items())
    return [line for pair in lines for line in pair]


def _line_of(name: str, keys: Mapping[str, Any]) -> str:
    return f"{in_yaml(name)}: {in_yaml(keys)}"


def without_entry(content: str, file: Path, section: str, name: str) -> str:
    """Return the content of the file without an entry of a section.

    Raises `ConfigError` if that would change anything else.
    """
    lines = content.splitlines(keepends=True)
    first, last = configuration.lines_of(content, section, name)
    deeper = re.compile(" " * (len(lines[first]) - len(lines[first].lstrip(" "))) + " +#")
    while last < len(lines) and deeper.match(lines[last]):
        # A comment that is indented further than the name belongs to the entry.
        last += 1
    new = "".join(lines[:first] + lines[last:])
    if not _differs_only_in(content, new, file, {section: name}):
        raise ConfigError(
            f"{file}: cannot remove lines from its YAML safely.",
            remedy=f"Remove {name} from {section} by hand.",
        )
    return new


def _with_line(content: str, section: str, line: str) -> str:
    """Return the content with a line added to a section; a missing section is added at the end."""
    found = re.search(
        rf"^{section}:[ \t]*(#.*)?\n(?:[ \t]*(?:#.*)?\n)*(?P<indent> *)", content, re.M
    )
    if found is None:
        gap = "" if not content or content.endswith("\n") else "\n"
        return f"{content}{gap}\n{_SECTIONS[section]}\n{section}:\n  {line}\n"
    head = content.index("\n", found.start()) + 1
    return f"{content[:head]}{found['indent'] or '  '}{line}\n{content[head:]}"


def _differs_only_in(old: str, new: str, file: Path, names: Mapping[str, str]) -> bool:
    """Return whether both contents are valid and differ only in these entries."""
    with suppress(ConfigError):
        before, after = (configuration.parse(content, file) for content in (old, new))
        changed = all(
            (name in getattr(before, section)) != (name in getattr(after, section))
            for section, name in names.items()
        )
        return changed and _without(before, names) == _without(after, names)
    return False


def _without(config: Config, names: Mapping[str, str]) -> Config:
    rest: dict[str, Any] = {
        section: {key: value for key, value in getattr(config, section).items() if key != name}
        for section, name in names.items()
    }
    return replace(config, **rest)


def in_yaml(value: Any) -> str:
    """Return a value as YAML on one line; a string is quoted only if necessary."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {in_yaml(word)}" for key, word in value.items()) + "}"
    if isinstance(value, str) and re.fullmatch(r"[\w/~.][\w/.~%-]*(://[\w/.~:-]+)?", value):
        with suppress(NotYaml):
            if configuration.read_yaml(value) == value:
                return value
    return json.dumps(value, ensure_ascii=False)


def refuse_unwritable(file: Path) -> None:
    """Raise `ConfigError` if `write` could not create the file."""
    folder = Path(os.path.realpath(file)).parent
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"{file} cannot be written: {existing} is not writable.",
            remedy="Choose another file with --config, or change the permissions.",
        )


def write(file: Path, content: str) -> None:
    """Replace the file atomically. Only its owner can access a new file; an existing one keeps its mode."""
    place = Path(os.path.realpath(file))
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(place, None if place.exists() else 0o600) as stream:
            stream.write(content.encode())
    except (OSError, UnicodeEncodeError) as error:
        raise CraftsyncError(f"{file} cannot be written ({error}).") from error


_NOT_A_NAME = re.compile(r"[^\w.-]+")
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)

NEW_DAYS = 30
"""Days for which the trash of a new linked folder keeps versions."""

_NEW_TRASH = {"keep": f"{NEW_DAYS}d"}


def refuse_root(word: str, known: Config) -> None:
    """Raise `UsageError` if the path cannot be used as a folder, or overlaps with a configured folder."""
    root = places.absolute(word)
    for name, folder in known.folders.items():
        if relation := places.relation(root, folder.root):
            raise UsageError(
                f"{root} {relation} {folder.root}, the configured folder {name}.",
                remedy=f"Use the configured folder (craftsync sync {name}), or two separate folders.",
            )
    refuse_unusable(root)


def refuse_unusable(folder: Path) -> None:
    """Raise `UsageError` if the path is not a folder, or is missing and cannot be created."""
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise UsageError(f"{existing} is not a folder.", remedy="Choose another folder.")
    if existing != folder and not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder} does not exist and cannot be created: {existing} is not writable.",
            remedy=f"Choose another folder, or change the permissions of {existing}.",
        )


def refuse_name(name: str, file: Path, taken: Collection[str], kind: str) -> None:
    """Raise `UsageError` if the name is taken, or cannot be used on the command line."""
    if name in taken:
        raise UsageError(
            f"{file} already has {kind} {name!r}.",
            remedy="Give another NAME, or edit the existing entry in the file.",
        )
    if not name or _NOT_A_NAME.search(name) or places.is_path(name):
        raise UsageError(
            f"{name!r} is not a valid NAME.",
            remedy="Use letters, digits, dots, dashes, underscores.",
        )


def refuse_variable(name: str) -> None:
    """Raise `UsageError` if `name` is not a variable name. The message omits it: it may be the token itself."""
    if not _VARIABLE.fullmatch(name):
        raise UsageError(
            "The value is not a variable name.",
            remedy="Use letters, digits and underscores, such as PROD_TOKEN, and set that variable to"
            " the token: the configuration never contains tokens.",
        )


def refuse_same_token(location: CraftAiLocation, known: Config) -> None:
    """Raise `UsageError` if another environment has its token in the same variable."""
    if other := with_same_token(location, known):
        variable = location.access.token_env
        raise UsageError(
            f"{variable} holds the token of another environment, {other}.",
            remedy=f"Name the variable that holds the token of {location.url} with --token-env NAME"
            f" ({variable} again if both environments use one token).",
        )


def with_same_token(location: CraftAiLocation, known: Config) -> str | None:
    """Return the environment at another address that has its token in the same variable, or `None`."""
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
    return {"environments": (name, _keys_of(location))}


def new_entries(
    known: Config, name: str, root: str, store: str, location: Location, *, is_new: bool
) -> Entries:
    """Return the entries to add: the folder, and its environment if that is new.

    If this client has kept no version of the folder so far (`is_new`), and the file does not set
    for how long versions are kept, it is `NEW_DAYS`: `note_on_trash` is then to be printed.
    """
    added: dict[str, tuple[str, Mapping[str, Any]]] = {}
    environment = store
    if not is_environment(store, known):
        label = _free(name, known)
        added["environments"] = (label, _keys_of(location))
        folder = getattr(location, "folder", "")
        environment = f"{label}:{folder}" if folder else label
    keys: dict[str, Any] = {"root": root, "environment": environment}
    if is_new and "keep" not in known.trash:
        keys["trash"] = _NEW_TRASH
    added["folders"] = (name, keys)
    return added


def note_on_trash(entries: Entries, file: Path) -> str:
    """Return how long versions and history of a new folder are kept, and how to change that; empty if unset."""
    _, keys = entries["folders"]
    if "trash" not in keys:
        return ""
    return (
        f"Replaced and deleted versions, and the history, are kept for {NEW_DAYS} days; to keep them"
        f" longer, change trash: {in_yaml(keys['trash'])} in {file}."
    )


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
