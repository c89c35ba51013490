"""Changes of the configuration file that leave everything else in it as it is, comments too."""

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
    """Return the content of the file with entries, each a name and its keys by the section it belongs to.

    Raises `ConfigError` where it is not certain that the content gives the same beside them.
    """
    lines = {
        section: f"{in_yaml(name)}: {_flow(keys)}" for section, (name, keys) in entries.items()
    }
    content = old or _HEADER
    for section, line in lines.items():
        content = _with_line(content, section, line)
    names = {section: name for section, (name, _) in entries.items()}
    if not _differs_only_in(old, content, file, names):
        raise ConfigError(
            f"{file}: it is written in a way that cannot be extended line by line.",
            remedy="Add this by hand:\n"
            + "\n".join(f"{section}:\n  {line}" for section, line in lines.items()),
        )
    return content


def without_entry(content: str, file: Path, section: str, name: str) -> str:
    """Return the content of the file without an entry of a section.

    Raises `ConfigError` where it is not certain that the content gives the same beside it.
    """
    lines = content.splitlines(keepends=True)
    first, last = configuration.lines_of(content, section, name)
    deeper = re.compile(" " * (len(lines[first]) - len(lines[first].lstrip(" "))) + " +#")
    while last < len(lines) and deeper.match(lines[last]):
        # A comment that is indented further than the name is about what was in the entry.
        last += 1
    new = "".join(lines[:first] + lines[last:])
    if not _differs_only_in(content, new, file, {section: name}):
        raise ConfigError(
            f"{file}: it is written in a way that cannot be changed line by line.",
            remedy=f"Remove {name} from {section} by hand.",
        )
    return new


def _with_line(content: str, section: str, line: str) -> str:
    """Return the content with a line in a section, which is begun at the end if it is not there."""
    found = re.search(
        rf"^{section}:[ \t]*(#.*)?\n(?:[ \t]*(?:#.*)?\n)*(?P<indent> *)", content, re.M
    )
    if found is None:
        gap = "" if not content or content.endswith("\n") else "\n"
        return f"{content}{gap}\n{_SECTIONS[section]}\n{section}:\n  {line}\n"
    head = content.index("\n", found.start()) + 1
    return f"{content[:head]}{found['indent'] or '  '}{line}\n{content[head:]}"


def _differs_only_in(old: str, new: str, file: Path, names: Mapping[str, str]) -> bool:
    """Tell whether both contents are valid and give the same, but for entries that only one of them has."""
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
    """Return a value in a line of YAML: a word bare where that means the same, quoted where not."""
    if isinstance(value, str) and re.fullmatch(r"[\w/~.][\w/.~%-]*(://[\w/.~:-]+)?", value):
        with suppress(NotYaml):
            if configuration.read_yaml(value) == value:
                return value
    return json.dumps(value, ensure_ascii=False)


def refuse_unwritable(file: Path) -> None:
    """Raise `ConfigError` where `write` could not put the file."""
    folder = Path(os.path.realpath(file)).parent
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"{file} cannot be written: {there} may not be written to.",
            remedy="Name another file with --config, or change the permissions.",
        )


def write(file: Path, content: str) -> None:
    """Replace the file in one step; a new one is for its owner alone, an old one keeps its mode."""
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
