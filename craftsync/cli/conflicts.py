"""`conflicts`: the files of which both versions were kept, and which of them is to stay."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening
from craftsync.cli import parameters as common
from craftsync.cli.groups import Group
from craftsync.cli.output import say, say_json, shown, size_shown
from craftsync.clock import SystemClock, iso, stamp
from craftsync.config import pairs
from craftsync.core.model import LocalFile
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.kept import KeptVersion
from craftsync.state.outside import Outside

if TYPE_CHECKING:
    from craftsync.sync.conflicts import Conflict

_CONFLICTS_WAIT = 4
_LONGEST_TEXT = 256 << 10
"""Bytes up to which two texts are compared line by line."""


@click.group(cls=Group)
def conflicts() -> None:
    """List and settle conflicts: files that were changed on both sides.

    The file is the root's version; the store's version lies beside it, as
    `name (conflict TIME STORE).ext`, on both sides.

    \b
    Examples:
      craftsync conflicts list
      craftsync conflicts show data/train.csv
      craftsync conflicts resolve data/train.csv --keep remote
    """


@conflicts.command("list", cls=common.Command)
@common.all_of(common.json_option, common.path_options)
def list_(**flags: Any) -> int:
    """List the files that have a conflict copy beside them; exits with 4 while there are any.

    \b
    Examples:
      craftsync conflicts list
      craftsync conflicts list --json --folder datasets
    """
    from craftsync.sync import conflicts as engine

    found = False
    with _opened(".", flags) as (root, rules, _):
        for conflict in engine.find(root, rules):
            found = True
            if flags["json"]:
                say_json(_facts(conflict))
            else:
                say(shown(conflict.path))
                for line in _versions(conflict):
                    say(line)
    if not found and not flags["json"]:
        say("No conflict copy is there.")
    return _CONFLICTS_WAIT if found else 0


@conflicts.command(cls=common.Command)
@common.all_of(click.argument("path"), common.json_option, common.path_options)
def show(path: str, **flags: Any) -> None:
    """Show both versions of a file: size, time, SHA-256, and for short texts what differs.

    PATH is the file, the conflict copy, or a folder with conflicts in it.

    \b
    Examples:
      craftsync conflicts show data/train.csv
      craftsync conflicts show --folder datasets train.csv
    """
    from craftsync.sync import conflicts as engine

    with _opened(path, flags) as (root, rules, inside):
        for conflict in engine.at(root, rules, inside):
            found = _compared(root, conflict)
            if flags["json"]:
                say_json(found)
                continue
            say(shown(conflict.path))
            for line, side in zip(_versions(conflict), ("local", "remote"), strict=True):
                say(f"{line}, SHA-256 {found[side]['sha256']}" if found[side] else line)
            for line in found["diff"] or ():
                say("\t".join(map(shown, line.split("\t"))))


@conflicts.command(cls=common.Command)
@common.all_of(
    click.argument("path"),
    click.option(
        "--keep",
        type=click.Choice(["local", "remote", "both"]),
        required=True,
        help="The root's version, the store's, or both under two names.",
    ),
    common.path_options,
)
def resolve(path: str, keep: str, **flags: Any) -> None:
    """Say which version of a file is to stay; the other goes to the trash.

    PATH is the file, or one conflict copy of several. With `both` the copy
    stays under a name without the word conflict. It is done in the root; a
    running daemon, or the next pass, carries it to the store.

    \b
    Examples:
      craftsync conflicts resolve data/train.csv --keep local
      craftsync conflicts resolve --folder datasets train.csv --keep both
    """
    from craftsync.sync import conflicts as engine

    with _opened(path, flags) as (root, rules, inside):
        found = engine.at(root, rules, inside)
        place = Outside(pairs.state_dir_of(common.asked_of(flags)), os.path.realpath(root.path))
        clock = SystemClock()

        def note(version: KeptVersion) -> None:
            place.note([version], clock.now_ns())

        stays = engine.resolve(root, found, engine.Keep(keep), stamp(clock), note)
    say(f"kept: {', '.join(map(shown, stays)) or 'nothing; the file itself was deleted before'}")
    if keep != "both":
        say("What went is in the trash: craftsync trash list")


@contextmanager
def _opened(path: str, flags: dict[str, Any]) -> Iterator[tuple[Folder, IgnoreRules, str]]:
    """Give the root a path belongs to, which paths take part, and the path within."""
    pair, inside = opening.around(path, common.words_of(flags), common.asked_of(flags))
    settings = pair.settings
    with Folder.open(pair.root) as root:
        root.reserve = pair.reserve
        yield root, IgnoreRules(root, include=settings.include, exclude=settings.exclude), inside


def _versions(conflict: Conflict) -> list[str]:
    """Return a line for each of the two versions."""
    local = _in_words(conflict.local) if conflict.local else "not there any more"
    return [
        f"  local   {local}",
        f"  remote  {_in_words(conflict.copy)}, in {shown(conflict.copy.path)}",
    ]


def _in_words(file: LocalFile) -> str:
    return f"{size_shown(file.size)}, modified {iso(file.mtime_ns)}"


def _facts(conflict: Conflict) -> dict[str, Any]:
    sides = {"local": conflict.local, "remote": conflict.copy}
    versions = {
        side: file and {"path": file.path, "size": file.size, "modified": iso(file.mtime_ns)}
        for side, file in sides.items()
    }
    reason = f"the store's version is beside it as {conflict.copy.path.rpartition('/')[2]}"
    return {"type": "conflict", "path": conflict.path, "reason": reason, **versions}


def _compared(root: Folder, conflict: Conflict) -> dict[str, Any]:
    """Return the facts of a conflict with what only reading tells."""
    facts = _facts(conflict)
    for side, file in (("local", conflict.local), ("remote", conflict.copy)):
        if file is not None:
            with root.open_file(file.path) as opened:
                facts[side]["sha256"] = opened.digest().hex()
    return {**facts, "diff": _difference(root, conflict)}


def _difference(root: Folder, conflict: Conflict) -> list[str] | None:
    """Return what differs, line by line from the root's version to the store's; `None` if it is no short text."""
    here, there = _text(root, conflict.local), _text(root, conflict.copy)
    if here is None or there is None:
        return None
    return list(difflib.unified_diff(here, there, "local", "remote", lineterm=""))


def _text(root: Folder, file: LocalFile | None) -> list[str] | None:
    if file is None or file.size > _LONGEST_TEXT:
        return None
    with root.open_file(file.path) as opened:
        content = opened.read_at(0, file.size)
    try:
        return None if b"\0" in content else content.decode().splitlines()
    except UnicodeDecodeError:
        return None
