"""`init`: put a folder and its store into the configuration."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from craftsync.cli import params as common
from craftsync.cli.output import say
from craftsync.cli.terminal import shown
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.config.file import Config
from craftsync.config.places import DirectoryLocation, Location, S3Location
from craftsync.config.secrets import TOKEN_ENV
from craftsync.errors import ConfigError, CraftsyncError, UsageError

_HEADER = """\
# The configuration of craftsync, written by `craftsync init`; every key there is
# stands in config.example.yaml. Precedence: flag, CRAFTSYNC_* variable, this file,
# default. A path that is not absolute starts at the folder of this file. A secret
# is never in here.
"""
_SECTIONS = {
    "environments": "# Names for stores: `craftsync ls NAME`.",
    "folders": "# Names for linked folders: `craftsync sync NAME`. `craftsync watch` keeps all of them in sync.",
}
_NOT_A_NAME = re.compile(r"[^\w.-]+")


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, metavar="[[NAME] ROOT STORE]"), common.access_options
)
def init(words: tuple[str, ...], **flags: Any) -> None:
    """Put a folder and its store into the configuration, and say what to do next.

    NAME is what the pair is called from then on; by default that of the
    folder. What the configuration says already stays as it is. Without words
    it asks.

    \b
    Examples:
      craftsync init
      craftsync init ~/datasets s3://bucket/datasets --profile prod
      craftsync init models ~/work/models ./backup
    """
    asked = common.asked_of(flags)
    file = Path(asked.get("config") or configuration.default_file()).expanduser()
    config = configuration.load(file) if file.exists() else Config()
    old = file.read_text("utf-8") if file.exists() else ""
    name, root, store = _words(words)
    _refuse_name(name, file, config)
    location = places.resolve(store, config, pairs.access_of(asked))
    places.refuse_nesting(Path(root), location)
    content = _extended(old, file, config, name, root, store, location)
    for folder in (Path(root), location.path if isinstance(location, DirectoryLocation) else None):
        if folder is not None and not folder.is_dir():
            folder.mkdir(parents=True)
            say(f"made {shown(str(folder))}")
    _write(file, content)
    say(f"{shown(str(file))}: {name} is {shown(root)} with {shown(store)}")
    for line in _next_steps(name):
        say(line)


def _words(words: tuple[str, ...]) -> tuple[str, str, str]:
    """Return name, root (absolute) and store; asks for what is not given."""
    match words:
        case [name, root, store]:
            return name, _absolute(root), store
        case [root, store]:
            return _name_of(_absolute(root)), _absolute(root), store
        case [] if sys.stdin.isatty():
            root = _absolute(click.prompt("Folder to keep in sync"))
            store = click.prompt(
                "Store (s3://bucket/prefix, craft-ai://, /folder or an environment)"
            )
            return click.prompt("Name", default=_name_of(root)), root, store
        case _:
            raise UsageError("It is not clear what is meant.", remedy="Give [NAME] ROOT STORE.")


def _refuse_name(name: str, file: Path, config: Config) -> None:
    """Raise `UsageError` for a name that is taken, or that would not be one word for the command line."""
    if name in config.folders:
        raise UsageError(
            f"{file} has a folder {name!r} already.",
            remedy="Give another NAME, or edit that one in the file.",
        )
    if not name or _NOT_A_NAME.search(name):
        raise UsageError(
            f"{name!r} cannot be a NAME.", remedy="Use letters, digits, dots, dashes, underscores."
        )


def _extended(
    old: str, file: Path, config: Config, name: str, root: str, store: str, location: Location
) -> str:
    """Return the content of the file with the pair in it; it is certain to say the same beside that."""
    lines, environment = {}, store
    if store.partition(":")[0] not in config.environments or "://" in store:
        label = _free(name, config)
        lines["environments"] = f"{_yaml(label)}: {_flow(_keys_of(location))}"
        folder = getattr(location, "folder", "")
        environment = f"{label}:{folder}" if folder else label
    lines["folders"] = f"{_yaml(name)}: {_flow({'root': root, 'environment': environment})}"
    content = old or _HEADER
    for section, line in lines.items():
        content = _with_line(content, section, line)
    if not _adds_only(content, file, config, name):
        raise ConfigError(
            f"{file}: it is written in a way that cannot be extended line by line.",
            remedy="Add this by hand:\n"
            + "\n".join(f"{section}:\n  {line}" for section, line in lines.items()),
        )
    return content


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


def _adds_only(content: str, file: Path, old: Config, name: str) -> bool:
    """Tell whether this content is valid, says all that was said before, and has the new folder."""
    with suppress(ConfigError):
        new = configuration.parse(content, file)
        environments = {key: new.environments.get(key) for key in old.environments}
        folders = {key: new.folders.get(key) for key in old.folders}
        same = (environments, folders) == (dict(old.environments), dict(old.folders))
        return (
            same and name in new.folders and (new.metrics, new.notify) == (old.metrics, old.notify)
        )
    return False


def _keys_of(location: Location) -> dict[str, str]:
    """Return the keys of the environment that stands for a place."""
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
        }
    else:
        keys = {
            "store": "craft-ai",
            "url": location.url,
            "control_url": location.access.control_url,
            "token_env": TOKEN_ENV,
        }
    return {key: value for key, value in keys.items() if value}


def _free(name: str, config: Config) -> str:
    """Return a name for an environment that no other has."""
    label, number = name, 2
    while label in config.environments:
        label, number = f"{name}-{number}", number + 1
    return label


def _name_of(root: str) -> str:
    return _NOT_A_NAME.sub("-", os.path.basename(root)).strip("-") or "folder"


def _absolute(word: str) -> str:
    return os.path.abspath(os.path.expanduser(word))


def _flow(keys: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {_yaml(value)}" for key, value in keys.items()) + "}"


def _yaml(word: str) -> str:
    """Return a word as YAML has it: bare where that means the same, quoted where not."""
    bare = (
        re.fullmatch(r"[\w/~.][\w/.~-]*(://[\w/.~:-]+)?", word)
        and configuration.read_yaml(word) == word
    )
    return word if bare else json.dumps(word, ensure_ascii=False)


def _write(file: Path, content: str) -> None:
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


def _next_steps(name: str) -> list[str]:
    steps = {
        "doctor": "is everything as it should be?",
        f"sync -n {name}": "what a first run would do; without -n it does",
        f"watch {name}": "keep both in sync until Ctrl-C",
        "service install": "keep every folder in sync, in the background",
    }
    width = max(map(len, steps))
    return ["Next:", *(f"  craftsync {step:{width}}  {what}" for step, what in steps.items())]
