"""`ls`, `tree`, `du`, `find`, `stat`, `cat` and `url`: list and read objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from craftsync import objects
from craftsync.cli import params as common
from craftsync.cli.objects import shared
from craftsync.cli.output import say, say_json
from craftsync.cli.terminal import put_word, writing
from craftsync.clock import SystemClock, iso
from craftsync.config.addresses import joined, within
from craftsync.config.parsers import parse_age, parse_seconds, parse_size
from craftsync.core.model import RemoteObject
from craftsync.objects import Entry, ObjectFilter, OnSkipped, arguments
from craftsync.objects.arguments import Place
from craftsync.stores.retrying import now_by
from craftsync.wording import counted, shown, size_shown


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="STORE|OBJECT..."),
    click.option("-l", "--long", is_flag=True, help="Also print the version of each object."),
    shared.recursive_option,
    shared.human_option,
    common.json_option,
    shared.access_options,
)
def ls(words: tuple[str, ...], **flags: Any) -> int:
    """List a store or a folder in it: size in bytes, last modification (UTC), path.

    It lists one level, or all with -R. Put patterns with *, ?, [...] and ** in
    quotes.

    \b
    Examples:
      craftsync ls dev:models
      craftsync ls -R --human s3://bucket/prefix
      craftsync ls 'dev:datasets/*.csv'
      craftsync ls --json ./backup
    """
    skipped = shared.SkippedKeys()
    with shared.arguments_of(flags) as found:
        for number, word in enumerate(words):
            if len(words) > 1 and not flags["json"]:
                for line in ("", f"{word}:")[not number :]:
                    say(line)
            place = found.place(word)
            for entry in arguments.entries_at(
                place, recursive=flags["recursive"], on_skipped=skipped
            ):
                _say_entry(entry, place, flags)
    return skipped.exit_code()


def _say_entry(entry: RemoteObject | Entry, place: Place, flags: dict[str, Any]) -> None:
    is_itself = entry.path == place.path
    path = (
        within(place.path.rpartition("/")[0] if is_itself else place.folder, entry.path)
        or entry.path
    )
    if isinstance(entry, Entry):
        more = f"{'-':36} " if flags["long"] else ""
        shared.say_object(f"{path}/", None, None, as_json=flags["json"], more=more)
        return
    modified = None if entry.modified_ns is None else iso(entry.modified_ns)
    more = f"{entry.version or '-':36} " if flags["long"] else ""
    shared.say_object(
        path, entry.size, modified, as_json=flags["json"], human=flags["human"], more=more
    )


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT..."),
    shared.human_option,
    common.json_option,
    shared.access_options,
)
def stat(words: tuple[str, ...], **flags: Any) -> None:
    """Describe objects: size in bytes, last modification (UTC), path in the store.

    \b
    Examples:
      craftsync stat dev:models/iris.joblib
      craftsync stat dev models/iris.joblib
    """
    with shared.arguments_of(flags) as found:
        for place in shared.places_of(found, words):
            for each in arguments.found_at(place, recursive=False):
                modified = each.object.modified_ns
                shared.say_object(
                    each.object.path,
                    each.object.size,
                    None if modified is None else iso(modified),
                    as_json=flags["json"],
                    human=flags["human"],
                )


class Node:
    """A folder of a tree: its entries, and the number and size of all objects below it."""

    def __init__(self) -> None:
        self.folders: dict[str, Node] = {}
        self.files: list[tuple[str, int]] = []
        self.size = self.count = 0

    def add(self, path: str, size: int, depth: int | None) -> None:
        """Add an object by its path from this folder; below `depth` it is only counted."""
        self.size += size
        self.count += 1
        name, below, rest = path.partition("/")
        if depth == 0:
            return
        if below:
            self.folders.setdefault(name, Node()).add(rest, size, _less(depth))
        else:
            self.files.append((name, size))


def _less(depth: int | None) -> int | None:
    return None if depth is None else depth - 1


def _tree_of(place: Place, depth: int | None, on_skipped: OnSkipped) -> Node:
    """Return all objects below a place as a tree; raises `ObjectNotFound` if there are none."""
    top = Node()
    for found in arguments.found_at(
        place, recursive=True, may_be_empty=True, on_skipped=on_skipped
    ):
        top.add(found.name, found.object.size, depth)
    return top


_depth_option = click.option(
    "-d",
    "--depth",
    type=click.IntRange(0, 10**9),
    metavar="N",
    help="The number of folder levels to show.",
)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("word", metavar="STORE|OBJECT"),
    _depth_option,
    shared.human_option,
    shared.access_options,
)
def tree(word: str, depth: int | None, **flags: Any) -> int:
    """Draw the folders and objects of a store as a tree, with sizes in bytes.

    \b
    Examples:
      craftsync tree dev:models
      craftsync tree -d 1 --human s3://bucket
    """
    skipped = shared.SkippedKeys()
    with shared.arguments_of(flags) as found:
        top = _tree_of(found.place(word), depth, skipped)
    say(shown(word))
    for line in _drawn(top, "", flags["human"], depth):
        say(line)
    folders = _folders_in(top)
    say(f"{counted(folders, 'folder')}, {counted(top.count, 'object')}, {size_shown(top.size)}")
    return skipped.exit_code()


def _drawn(node: Node, indent: str, human: bool, depth: int | None) -> Iterator[str]:
    entries: list[tuple[str, Node | int]] = sorted(
        [*node.folders.items(), *node.files], key=lambda entry: entry[0]
    )
    for number, (name, what) in enumerate(entries, 1):
        last = number == len(entries)
        branch = f"{indent}{'└── ' if last else '├── '}"
        if isinstance(what, int):
            yield f"{branch}{shown(name)}  {_size(what, human)}"
            continue
        closed = depth == 1
        inside = f"  {counted(what.count, 'object')}, {_size(what.size, human)}" if closed else ""
        yield f"{branch}{shown(name)}/{inside}"
        yield from _drawn(what, indent + ("    " if last else "│   "), human, _less(depth))


def _folders_in(node: Node) -> int:
    return sum(1 + _folders_in(folder) for folder in node.folders.values())


def _size(size: int, human: bool) -> str:
    return size_shown(size) if human else str(size)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="STORE|OBJECT..."),
    click.option(
        *("-d", "--depth", "--max-depth"),
        type=click.IntRange(0, 10**9),
        default=1,
        metavar="N",
        help="The number of folder levels to show; 0 prints only the total. [1]",
    ),
    shared.human_option,
    common.json_option,
    shared.access_options,
)
def du(words: tuple[str, ...], depth: int, **flags: Any) -> int:
    """Print the size of each folder, the largest first: bytes, objects, path. The total comes last.

    \b
    Examples:
      craftsync du --human dev:
      craftsync du -d 2 s3://bucket/prefix
    """
    skipped = shared.SkippedKeys()
    with shared.arguments_of(flags) as found:
        for word in words:
            top = _tree_of(found.place(word), depth, skipped)
            for path, node in _largest_first(top, "", depth):
                _say_sum(f"{path}/", node, flags)
            _say_sum(word, top, flags)
    return skipped.exit_code()


def _largest_first(node: Node, above: str, depth: int) -> Iterator[tuple[str, Node]]:
    for name, folder in sorted(node.folders.items(), key=lambda each: (-each[1].size, each[0])):
        yield joined(above, name), folder
        if depth > 1:
            yield from _largest_first(folder, joined(above, name), depth - 1)


def _say_sum(path: str, node: Node, flags: dict[str, Any]) -> None:
    if flags["json"]:
        say_json({"path": path, "size": node.size, "objects": node.count})
    else:
        say(f"{_size(node.size, flags['human']):>14} {node.count:>9} {shown(path)}")


@click.command(cls=common.Command)
@common.all_of(
    click.argument("word", metavar="STORE|OBJECT"),
    click.option(
        "--name", metavar="GLOB", help="Only objects whose name matches, such as '*.csv'."
    ),
    click.option(
        "--min-size",
        metavar="SIZE",
        callback=common.parsed(parse_size),
        help="Only objects of at least this size, such as 10M.",
    ),
    click.option(
        "--max-size",
        metavar="SIZE",
        callback=common.parsed(parse_size),
        help="Only objects of at most this size.",
    ),
    click.option(
        "--max-age",
        metavar="AGE",
        callback=common.parsed(parse_age),
        help="Only objects modified within this time, such as 7d.",
    ),
    click.option(
        *("-0", "--null", "null"),
        is_flag=True,
        help="End each OBJECT with a NUL instead of a line break, for xargs -0.",
    ),
    common.json_option,
    shared.access_options,
)
def find(
    word: str,
    name: str | None,
    min_size: int | None,
    max_size: int | None,
    max_age: int | None,
    **flags: Any,
) -> int:
    """Print the matching objects below a folder, each as an OBJECT for the other commands.

    Names are printed unchanged, but a terminal shows control characters escaped.
    A name may contain a line break: scripts use -0 or --json. With --json, paths
    are relative to the folder. Ages are by the store's clock.

    \b
    Examples:
      craftsync find dev: --name '*.csv' --min-size 10M
      craftsync find s3://bucket/models --max-age 7d --json
      craftsync find -0 dev:tmp --name '*.csv' | xargs -0 craftsync rm
    """
    skipped = shared.SkippedKeys()
    with shared.arguments_of(flags) as opened:
        place = opened.place(word)
        since = None
        if max_age is not None:
            since = now_by(place.store.opened(), SystemClock().now_ns()) - max_age
        wanted = ObjectFilter(name, min_size or 0, max_size, since)
        for each in arguments.found_at(
            place, recursive=True, may_be_empty=True, on_skipped=skipped
        ):
            if wanted(each.object):
                _say_found(place, each, flags)
    return skipped.exit_code()


def _say_found(place: Place, found: arguments.Found, flags: dict[str, Any]) -> None:
    word = place.named(found.object.path)
    if not flags["json"]:
        with writing():
            put_word(word, "\0" if flags["null"] else "\n")
        return
    modified = found.object.modified_ns
    say_json(
        {
            "path": found.name,
            "last_modified": None if modified is None else iso(modified),
            "size": found.object.size,
            "object": word,
        }
    )


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT..."), shared.access_options
)
def cat(words: tuple[str, ...], **flags: Any) -> None:
    """Write the content of objects to standard output, one after the other.

    \b
    Examples:
      craftsync cat dev:datasets/clients.csv | head
      craftsync cat 's3://bucket/logs/*.txt'
    """
    with shared.arguments_of(flags) as found:
        for place in shared.places_of(found, words):
            for each in arguments.found_at(place, recursive=False):
                with writing():
                    place.store.download(each.object.path, sys.stdout.buffer)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT..."),
    click.option(
        *("--expires", "--expires-in"),
        metavar="TIME",
        callback=common.parsed(parse_seconds),
        help="How long the URL is valid on S3, such as 1h, 15m or 7d. [1h]",
    ),
    common.json_option,
    shared.access_options,
)
def url(words: tuple[str, ...], expires: float | None, **flags: Any) -> None:
    """Print a URL with which anyone can read an object for some time, without a login.

    On S3, your keys presign it. For an environment, the platform signs it and
    decides how long it is valid. Objects in a folder have none.

    \b
    Examples:
      craftsync url s3://bucket/report.html --expires 15m
      craftsync url dev:models/iris.joblib
    """
    seconds = None if expires is None else round(expires)
    with shared.arguments_of(flags) as found:
        for place in shared.places_of(found, words):
            for each in arguments.found_at(place, recursive=False):
                signed = objects.signed_url(place.store, each.object.path, seconds)
                if flags["json"]:
                    say_json({"path": each.object.path, "url": signed})
                else:
                    say(signed)
