"""`conflicts`: list files that changed on both sides, and choose which version to keep."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import OutcomePrinter, outcomes, say, say_json
from craftsync.cli.review import meant_by, refuse_unnamed
from craftsync.clock import SystemClock, iso, stamp
from craftsync.config import pairs
from craftsync.core.model import LocalFile
from craftsync.engine.review.selection import Selection, parse_time_ns
from craftsync.errors import UsageError
from craftsync.linked_folders import OnUnnamed
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.history import KeptVersion, Outside
from craftsync.wording import shown, size_shown

if TYPE_CHECKING:
    from craftsync.engine.review.conflicts import Conflict, Resolved

_CONFLICTS_WAIT = 4
_LONGEST_TEXT = 256 << 10
"""The size in bytes up to which two texts are compared line by line."""
_NONE = "No conflict copy found."

_since = common.when_option("--since", "Only conflicts whose copy was made since then (UTC).")


@click.group(cls=Group)
def conflicts() -> None:
    """List and settle conflicts: files that changed on both sides.

    The file is the folder's version; the store's version is beside it, as
    `name (conflict TIME STORE).ext`, on both sides.

    \b
    Examples:
      craftsync conflicts list
      craftsync conflicts show data/train.csv
      craftsync conflicts resolve data/train.csv --keep remote
      craftsync conflicts resolve --all --keep newer -n
    """


@conflicts.command("list", cls=common.Command)
@common.all_of(common.paths_argument, _since, common.json_option, common.path_options)
def list_(paths: tuple[str, ...], since: str | None, **flags: Any) -> int:
    """List the files that have a conflict copy beside them; the exit code is 4 if there are any.

    PATH is a file, a folder or a glob; without PATH, all are listed.

    \b
    Examples:
      craftsync conflicts list
      craftsync conflicts list "data/*.csv" --since yesterday
      craftsync conflicts list --json --folder datasets
    """
    from craftsync.engine.review.conflicts import find

    found = False
    with _opened(paths, flags) as place:
        since_ns = parse_time_ns(since) if since else None
        for conflict in find(place.root, place.rules, place.wanted, since_ns):
            found = True
            if flags["json"]:
                say_json(_conflict_facts(conflict))
            else:
                say(shown(conflict.path))
                for line in _versions(conflict):
                    say(line)
    if not found and not flags["json"]:
        say(_NONE)
    return _CONFLICTS_WAIT if found else 0


@conflicts.command(cls=common.Command)
@common.all_of(
    click.argument("paths", nargs=-1, required=True, metavar="PATH..."),
    common.json_option,
    common.path_options,
)
def show(paths: tuple[str, ...], **flags: Any) -> None:
    """Show both versions of a file: size, time, SHA-256 and, for short texts, a diff.

    PATH is the file or the conflict copy, or a folder or glob with conflicts in it.

    \b
    Examples:
      craftsync conflicts show data/train.csv
      craftsync conflicts show --folder datasets train.csv
    """
    with _opened(paths, flags) as place:
        for conflict in _found(place):
            found = _compared(place.root, conflict)
            if flags["json"]:
                say_json(found)
                continue
            say(shown(conflict.path))
            for line, side in zip(_versions(conflict), ("local", "remote"), strict=True):
                say(f"{line}, SHA-256 {found[side]['sha256']}" if found[side] else line)
            for line in found["diff"] or ():
                say("\t".join(map(shown, line.split("\t"))))


@conflicts.command(cls=common.CommandWithSummary)
@common.all_of(
    common.paths_argument,
    click.option("--all", "everything", is_flag=True, help="All conflicts of the folder."),
    click.option(
        "--keep",
        type=click.Choice(["local", "remote", "both", "newer"]),
        required=True,
        help="Keep the folder's version, the store's, both under two names, or the one modified last.",
    ),
    _since,
    common.dry_run_option,
    common.json_option,
    common.path_options,
)
def resolve(
    paths: tuple[str, ...], everything: bool, keep: str, since: str | None, **flags: Any
) -> int:
    """Choose which version of files to keep; the other goes to the trash.

    PATH is a file, one conflict copy of several, a folder or a glob. `both`
    keeps the copy under a name without the word conflict. resolve changes the
    folder; a running daemon or the next run transfers that to the store. A
    file for which the choice is unclear, or that is changing, is left as it
    is and listed (exit code 6).

    \b
    Examples:
      craftsync conflicts resolve data/train.csv --keep local
      craftsync conflicts resolve models "data/*.csv" --keep newer -n
      craftsync conflicts resolve --all --since yesterday --keep remote
      craftsync conflicts resolve --folder datasets train.csv --keep both
    """
    from craftsync.engine.review.conflicts import Keep, Resolving, by_file

    if everything and paths:
        raise click.UsageError("Give PATHs or --all, not both.")
    if not (everything or paths or since):
        raise click.UsageError("Give each PATH, --since or --all.")
    clock = SystemClock()
    with outcomes("resolve", flags) as output, _opened(paths, flags, refuse_unnamed) as place:

        def note(versions: list[KeptVersion]) -> None:
            place.kept.note(versions, clock.now_ns())

        files = by_file(_found(place, since))
        resolving = Resolving(place.root, Keep(keep), stamp(clock), note, flags["dry_run"])
        for one in resolving.run(files.values()):
            _say_resolved(output, one, keep)
        if not files:
            output.say(_NONE)
        elif output.done and keep != "both" and not flags["dry_run"]:
            output.say(f"The other versions are in the trash: craftsync trash list{place.naming}")
    return output.exit_code


_VERSION = {
    "local": "the folder's version",
    "remote": "the store's version",
    "both": "both versions",
    "newer": "the newer version",
}


def _say_resolved(output: OutcomePrinter, one: Resolved, keep: str) -> None:
    if one.status in {"problem", "skipped"}:
        output.left(one.status, one.path, f"not resolved: {shown(one.path)}", one.reason)
        return
    kept = ", ".join(map(shown, one.stays)) or "nothing; the file itself was already deleted"
    verb = f"would keep {_VERSION[keep]}" if one.status == "planned" else "kept"
    facts = {"action": "resolve", "path": one.path, "size": one.size}
    output.did(one.status, f"{verb}: {kept}", {**facts, "keep": keep, "stays": list(one.stays)})


class _Place(NamedTuple):
    """An open folder, its ignore rules, the selected paths, and the record of kept versions."""

    root: Folder
    rules: IgnoreRules
    wanted: Selection
    kept: Outside
    naming: str
    """The flags that name the linked folder in commands to copy."""


@contextmanager
def _opened(
    paths: Sequence[str], flags: dict[str, Any], on_unnamed: OnUnnamed | None = None
) -> Iterator[_Place]:
    pair, inside, asked = meant_by(paths, flags, on_unnamed)
    settings = pair.settings
    with Folder.open(pair.root) as root:
        root.reserve = pair.reserve
        rules = IgnoreRules(root, include=settings.include, exclude=settings.exclude)
        kept = Outside(pairs.state_dir_of(asked), os.path.realpath(root.path))
        yield _Place(
            root, rules, Selection(inside or ()), kept, common.naming(common.words_of(flags))
        )


def _found(place: _Place, since: str | None = None) -> list[Conflict]:
    """Return the selected conflicts; raises `UsageError` for a word that selects none."""
    from craftsync.engine.review.conflicts import find_exactly

    since_ns = parse_time_ns(since) if since else None
    found = find_exactly(place.root, place.rules, place.wanted, since_ns)
    for word in place.wanted.words:
        if word != "." and not any(conflict.is_meant(word) for conflict in found):
            raise UsageError(
                f"No conflict copy of {word}{f' since {since}' if since else ''}.",
                remedy=f"To list all conflicts, run craftsync conflicts list{place.naming}.",
            )
    return found


def _versions(conflict: Conflict) -> list[str]:
    """Return a line for each of the two versions."""
    local = _in_words(conflict.local) if conflict.local else "deleted since"
    return [
        f"  local   {local}",
        f"  remote  {_in_words(conflict.copy)}, in {shown(conflict.copy.path)},"
        f" since {iso(conflict.since_ns)}",
    ]


def _in_words(file: LocalFile) -> str:
    return f"{size_shown(file.size)}, modified {iso(file.mtime_ns)}"


def _conflict_facts(conflict: Conflict) -> dict[str, Any]:
    sides = {"local": conflict.local, "remote": conflict.copy}
    versions = {
        side: file and {"path": file.path, "size": file.size, "modified": iso(file.mtime_ns)}
        for side, file in sides.items()
    }
    reason = f"the store's version is next to it as {conflict.copy.path.rpartition('/')[2]}"
    facts = {"type": "conflict", "path": conflict.path, "reason": reason}
    return {**facts, "since": iso(conflict.since_ns), **versions}


def _compared(root: Folder, conflict: Conflict) -> dict[str, Any]:
    """Return the fields of a conflict, including those that need both versions read."""
    facts = _conflict_facts(conflict)
    for side, file in (("local", conflict.local), ("remote", conflict.copy)):
        if file is not None:
            with root.open_file(file.path) as opened:
                facts[side]["sha256"] = opened.digest().hex()
    return {**facts, "diff": _difference(root, conflict)}


def _difference(root: Folder, conflict: Conflict) -> list[str] | None:
    """Return a line-by-line diff from the folder's version to the store's; `None` if one is not a short text."""
    local, remote = _text(root, conflict.local), _text(root, conflict.copy)
    if local is None or remote is None:
        return None
    return list(difflib.unified_diff(local, remote, "local", "remote", lineterm=""))


def _text(root: Folder, file: LocalFile | None) -> list[str] | None:
    if file is None or file.size > _LONGEST_TEXT:
        return None
    with root.open_file(file.path) as opened:
        content = opened.read_at(0, file.size)
    try:
        return None if b"\0" in content else content.decode().splitlines()
    except UnicodeDecodeError:
        return None
