"""Edits the configuration file without changing anything else in it, including comments."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from craftsync.config import file as configuration
from craftsync.config.file import Config, NotYaml
from craftsync.errors import ConfigError, CraftsyncError

_HEADER = """\
# The configuration of craftsync, written by `craftsync init`; every key there is
# stands in config.example.yaml (`craftsync config example` prints it). Precedence:
# flag, CRAFTSYNC_* variable, this file, default. A path that is not absolute starts
# at the folder of this file. A secret is never in here.
"""
_SECTIONS = {
    "environments": "# Names for stores: `craftsync ls NAME`.",
    "folders": "# Names for folders and their stores: `craftsync sync NAME`, `craftsync watch`.",
}


def with_entries(old: str, file: Path, entries: Mapping[str, tuple[str, Mapping[str, str]]]) -> str:
    """Return the content of the file with `entries`, {section: (name, keys)}, added.

    Raises `ConfigError` if it cannot be sure that everything else stays the same.
    """
    content = old or _HEADER
    for section, entry in entries.items():
        content = _with_line(content, section, _line_of(*entry))
    names = {section: name for section, (name, _) in entries.items()}
    if not _differs_only_in(old, content, file, names):
        raise ConfigError(
            f"{file}: cannot add lines to its YAML safely.",
            remedy="\n".join(["Add this by hand:", *lines_of(entries)]),
        )
    return content


def lines_of(entries: Mapping[str, tuple[str, Mapping[str, str]]]) -> list[str]:
    """Return entries as lines of the file."""
    lines = ((f"{section}:", f"  {_line_of(*entry)}") for section, entry in entries.items())
    return [line for pair in lines for line in pair]


def _line_of(name: str, keys: Mapping[str, str]) -> str:
    return f"{in_yaml(name)}: {_flow(keys)}"


def without_entry(content: str, file: Path, section: str, name: str) -> str:
    """Return the content of the file without an entry of a section.

    Raises `ConfigError` if it cannot be sure that everything else stays the same.
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


def _flow(keys: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {in_yaml(value)}" for key, value in keys.items()) + "}"


def in_yaml(value: Any) -> str:
    """Return a value as YAML on one line; a string is quoted only if necessary."""
    if isinstance(value, str) and re.fullmatch(r"[\w/~.][\w/.~%-]*(://[\w/.~:-]+)?", value):
        with suppress(NotYaml):
            if configuration.read_yaml(value) == value:
                return value
    return json.dumps(value, ensure_ascii=False)


def refuse_unwritable(file: Path) -> None:
    """Raise `ConfigError` if `write` could not create the file."""
    folder = Path(os.path.realpath(file)).parent
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"{file} cannot be written: {there} is not writable.",
            remedy="Choose another file with --config, or change the permissions.",
        )


def write(file: Path, content: str) -> None:
    """Replace the file atomically; a new one is accessible to its owner only, an existing one keeps its mode."""
    place = Path(os.path.realpath(file))
    part = place.with_name(f"{place.name}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
            if place.exists():
                os.fchmod(descriptor, place.stat().st_mode & 0o7777)
        os.replace(part, place)
    except (OSError, UnicodeEncodeError) as error:
        raise CraftsyncError(f"{file} cannot be written ({error}).") from error
