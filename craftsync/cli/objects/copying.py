"""`cp`, `mv`, `rm`, `put` and `get`: copy, move and remove objects within a store, between stores, and to and from this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import click

from craftsync import objects
from craftsync.cli import params as common
from craftsync.cli.objects import shared
from craftsync.cli.objects.transfers import (
    STANDARD_INPUT,
    STANDARD_OUTPUT,
    Call,
    Files,
    Item,
    NestingCheck,
    Objects,
    Source,
    Target,
    reported,
    rules_of,
    target_of,
    with_replaced,
)
from craftsync.cli.output import say
from craftsync.cli.terminal import writing
from craftsync.core.model import Kind, RemoteObject
from craftsync.errors import UsageError
from craftsync.objects import Outcome, Outcomes
from craftsync.objects.arguments import Arguments, Place
from craftsync.wording import counted, size_shown

_transfer_options = common.all_of(
    shared.recursive_option,
    common.option("include"),
    common.option("exclude"),
    common.dry_run_option,
    common.output_options,
    shared.access_options,
)


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT|FILE... OBJECT|FILE"),
    _transfer_options,
    common.written_options,
)
def cp(words: tuple[str, ...], **flags: Any) -> int:
    """Copy objects to another path or another store; a server copies by itself if it can.

    A bare path is a file on this machine; file:///folder is a folder used as a
    store. -r copies the contents of a folder, as aws and rclone do.

    \b
    Examples:
      craftsync cp dev:models/iris.joblib prod:models/
      craftsync cp -r s3://bucket/2026 dev:archive/2026
      craftsync cp 'dev:datasets/*.csv' prod:csv/
      craftsync cp model.bin s3://bucket/models/ --store s3://bucket
    """
    return _copy_or_move("cp", words, flags)


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT|FILE... OBJECT|FILE"),
    _transfer_options,
    common.written_options,
    common.yes_option,
)
def mv(words: tuple[str, ...], **flags: Any) -> int:
    """Copy as cp does, and remove each object once its copy exists. For several, it asks on a terminal.

    \b
    Examples:
      craftsync mv dev:models/draft.bin dev:models/final.bin
      craftsync mv -r dev:old s3://archive/old --store s3://archive
      craftsync mv -n 'dev:*.tmp' dev:tmp/
    """
    return _copy_or_move("mv", words, flags)


def _copy_or_move(name: str, words: tuple[str, ...], flags: dict[str, Any]) -> int:
    if len(words) < 2:
        raise click.UsageError("Missing argument: give a source and a target.")
    rules, skipped_keys, moves = rules_of(flags), shared.SkippedKeys(), name == "mv"
    with shared.arguments_of(flags) as found:
        with shared.sources_first(found, words[:-1], recursive=flags["recursive"]):
            target = _place_or_file(found, words[-1], change=True)
        found.refuse_written(target)
        sources: list[Source] = []
        for word in words[:-1]:
            place = _place_or_file(found, word, change=moves)
            if place is not None:
                sources.append(Objects(place, flags["recursive"], rules, skipped_keys))
            else:
                sources.append(Files(word, flags["recursive"], rules))
        if name == "cp" and target is not None and _is_standard_input(words[:-1]):
            return _put_standard_input(name, target, flags)
        if target is None and any(isinstance(source, Files) for source in sources):
            raise UsageError(
                f"Neither {words[0]} nor {words[-1]} is in a store.",
                remedy="Name one as dev:path, s3://bucket/path or file:///folder/path;"
                f" for two files on this machine use the system's {name}.",
            )
        if name == "cp" and words[-1] in STANDARD_OUTPUT and not flags["dry_run"]:
            _to_standard_output(sources)
            return skipped_keys.exit_code()
        kind: Kind | str = "copy"
        if target is None or any(isinstance(source, Files) for source in sources):
            kind = Kind.DOWNLOAD if target is None else Kind.UPLOAD
        elif moves:
            kind = Kind.MOVE_REMOTE
        code = transfer(name, kind, sources, target, words[-1], flags)
    return code or skipped_keys.exit_code()


def _place_or_file(found: Arguments, word: str, *, change: bool) -> Place | None:
    """Return the place that a word names in a store; `None` for a file on this machine."""
    if word in STANDARD_INPUT | STANDARD_OUTPUT:
        return None
    if not found.names_store(word) and not _is_like_an_environment(word):
        return None
    if found.is_file(word):
        return None
    return found.place(word, change=change)


def _is_like_an_environment(word: str) -> bool:
    """Return whether a word is NAME:PATH and not an existing file."""
    name, colon, _ = word.partition(":")
    return bool(colon) and "/" not in name and not os.path.lexists(word)


def _is_standard_input(words: Sequence[str]) -> bool:
    """Return whether standard input is the source; raises `UsageError` if it is one of several."""
    given = [word for word in words if word in STANDARD_INPUT]
    if given and len(words) > 1:
        raise UsageError(
            f"{given[0]} is standard input, which cannot be one of several sources.",
            remedy="Copy it in a separate call, to a named object.",
        )
    return bool(given)


def _put_standard_input(name: str, place: Place, flags: dict[str, Any]) -> int:
    """Write standard input to an object; with `-n`, read it and print its size."""
    if place.is_folder or not place.path:
        raise UsageError(
            "Standard input has no name.", remedy=f"Name an object, such as {place.named('name')}."
        )
    with reported(name, Kind.UPLOAD, flags, single=True) as call:
        to = place.named(place.path)
        if flags["dry_run"]:
            call.streamed("-", to, place.path, sum(map(len, sys.stdin.buffer)), "planned")
            return call.end()
        size = place.store.upload(sys.stdin.buffer, place.path, call.on_bytes).size
        place.store.opened().barrier()
        call.streamed("-", to, place.path, size, "done")
        return call.end()


def _to_standard_output(sources: Sequence[Source]) -> None:
    """Write the content of objects to standard output, one after the other."""
    for source in sources:
        assert isinstance(source, Objects)
        for item in source.items(lambda path, reason: None):
            with writing():
                source.place.store.download(item.path, sys.stdout.buffer)


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT..."),
    _transfer_options,
    common.yes_option,
)
def rm(words: tuple[str, ...], **flags: Any) -> int:
    """Remove objects; they go to the trash of their store. -r removes folders, and asks on a terminal.

    \b
    Examples:
      craftsync rm dev:models/old.joblib
      craftsync rm -rn dev:tmp
      craftsync rm -r s3://bucket/logs --include '*.tmp' --store s3://bucket
    """
    rules, skipped_keys = rules_of(flags), shared.SkippedKeys()
    with shared.arguments_of(flags) as found:
        with shared.sources_first(found, words, recursive=flags["recursive"]):
            places = _sources_of(found, words, flags["recursive"], change=True)
        for place in places:
            _refuse_whole_store(place)
        sources = [Objects(place, flags["recursive"], rules, skipped_keys) for place in places]
        code = transfer("rm", Kind.DELETE_REMOTE, list(sources), None, "", flags)
    return code or skipped_keys.exit_code()


def _refuse_whole_store(place: Place) -> None:
    if not place.path:
        raise UsageError(
            f"{place.word} is a whole store, which rm does not remove.",
            remedy=f"Name objects or folders in it, such as {place.named('folder')}, or a pattern.",
        )


def transfer(
    name: str,
    kind: Kind | str,
    sources: Sequence[Source],
    place: Place | None,
    word: str,
    flags: dict[str, Any],
    *,
    exact: bool = False,
) -> int:
    """Carry out one of the commands, or with `-n` print what it would do; return the exit code.

    With `exact`, the target is that very path, never a folder.
    """
    several = len(sources) > 1 or sources[0].several
    target = None
    if name != "rm":
        target = Target(place, word, False) if exact else target_of(place, word, list(sources))
    with reported(name, kind, flags, single=not several) as call:
        checked = _checked_first(sources, target)
        for source in sources:
            items = checked(source, source.items(call.skipped))
            if flags["dry_run"]:
                for item, replaces in with_replaced(target, items):
                    call.planned(source, item, target, replaces)
                continue
            if several and name in ("rm", "mv"):
                items = _confirmed(name, items, source, flags, call)
            elif not several:
                items = [*items]
                call.expect(1, items[0].size)
            outcomes = _done(source, items, target, call, moves=name == "mv", several=several)
            _each(outcomes, partial(call.done, source, target))
        code = call.end()
        if not (flags["json"] or flags["quiet"]):
            _say_undo_commands(call, flags)
        return code


def _say_undo_commands(call: Call, flags: dict[str, Any]) -> None:
    named = [(f"--{name}", flags[name]) for name in ("profile", "region") if flags[name]]
    named += [("--endpoint-url", flags["endpoint_url"])] * bool(flags["endpoint_url"])
    for each in call.in_trash:
        line = shlex.join([*each.undo_command(), *chain.from_iterable(named)])
        say(f"To restore: {line}", to_stderr=True)


def _each(outcomes: Outcomes, report: Callable[[Outcome], None]) -> None:
    """Report each outcome; after a stop, also those of objects that were under way and finished."""
    try:
        for outcome in outcomes:
            report(outcome)
    except KeyboardInterrupt as stop:
        left = outcomes.throw(stop)  # Raises the stop again after the last outcome.
        while True:
            report(left)
            left = next(outcomes)


_Check = Callable[[Source, Iterable[Item]], Iterable[Item]]
"""Yields the items of a source; raises `UsageError` for one that cannot be copied."""


class _Distinct:
    """Detects two sources with the same target."""

    def __init__(self, target: Target | None, check: _Check) -> None:
        self._target = target
        self._check = check
        self._seen: dict[str, str] = {}

    def checked(self, source: Source, items: Iterable[Item]) -> Iterator[Item]:
        for item in self._check(source, items):
            if self._target is None:
                yield item
                continue
            path, label = self._target.path_of(item), source.label(item.path)
            if (other := self._seen.setdefault(path, label)) != label:
                raise UsageError(
                    f"{other} and {label} would both become {self._target.label(path)}.",
                    remedy="Copy them in two calls, to different folders.",
                )
            yield item


def _checked_first(sources: Sequence[Source], target: Target | None) -> _Check:
    """Return the check of each item; where one may be refused, check all items first, so that nothing changes.

    Memory holds the names only if there are several sources.
    """
    nesting = NestingCheck(sources, target)
    check: _Check = nesting.checked
    if len(sources) > 1:
        check = _Distinct(target, check).checked
    elif not nesting.is_nested:
        return check
    for source in sources:
        if isinstance(source, Objects):  # The transfer itself reports skipped keys.
            source = replace(source, skipped_keys=shared.SkippedKeys())
        deque(check(source, source.items(lambda path, reason: None)), maxlen=0)
    return check


def _confirmed(
    name: str, items: Iterable[Item], source: Source, flags: dict[str, Any], call: Call
) -> Iterable[Item]:
    """Ask for confirmation on a terminal, with the number and size of the objects."""
    if flags["yes"] or not sys.stdin.isatty():
        return items
    items = list(items)
    size = sum(item.size for item in items)
    call.expect(len(items), size)
    what = counted(len(items), "object")
    verb = "Move" if name == "mv" else "Remove"
    click.confirm(f"{verb} {what} ({size_shown(size)})?", abort=True, err=True)
    return items


def _done(
    source: Source,
    items: Iterable[Item],
    target: Target | None,
    call: Call,
    *,
    moves: bool,
    several: bool,
) -> Outcomes:
    """Carry out the command for one source."""
    if isinstance(source, Files):
        assert target is not None and target.place is not None
        files = ((item.path, target.path_of(item)) for item in items)
        return objects.upload_each(
            files, target.place.store, remove_files=moves, on_bytes=call.on_bytes
        )
    store, on_bytes = source.place.store, call.on_bytes
    if target is None:
        return objects.remove_each(store, map(_object, items))
    if target.place is None:
        pairs = ((_object(item), target.path_of(item)) for item in items)
        return objects.download_each(
            store, pairs, make_folders=several, remove=moves, on_bytes=on_bytes
        )
    pairs = ((_object(item), target.path_of(item)) for item in items)
    act = objects.move_each if moves else objects.copy_each
    return act(store, target.place.store, pairs, on_bytes=on_bytes)


def _object(item: Item) -> RemoteObject:
    assert item.object is not None
    return item.object


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="FILE... OBJECT|STORE"),
    _transfer_options,
    common.written_options,
)
def put(words: tuple[str, ...], **flags: Any) -> int:
    """Write files, or standard input (-), to a store; folders with -r.

    Several files, or one to a folder, keep their names. Replaced versions can
    be restored. For repeated transfers of whole folders, push is faster.

    \b
    Examples:
      craftsync put iris.joblib dev:models/
      craftsync put -r data s3://bucket/data --store s3://bucket
      tar c data | craftsync put - dev:backup/data.tar
      craftsync put iris.joblib dev models/iris.joblib
    """
    _insist_on(words, "FILE and OBJECT")
    rules = rules_of(flags)
    with shared.arguments_of(flags) as found:
        old = len(words) == 3 and not flags["recursive"] and not found.names_store(words[2])
        files = words[:1] if old else words[:-1]
        for file in files:
            shared.refuse_in_store(found, "put", file, words[1:] if old else None)
        if old:
            place = found.store(*words[1:])
        else:
            with shared.sources_first(found, words[:-1], recursive=True):
                place = found.place(words[-1], change=True)
        found.refuse_written(place)
        if _is_standard_input(files):
            return _put_standard_input("put", place, flags)
        sources = [Files(file, flags["recursive"], rules) for file in files]
        return transfer("put", Kind.UPLOAD, sources, place, words[-1], flags, exact=old)


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT... FILE|FOLDER"),
    _transfer_options,
)
def get(words: tuple[str, ...], **flags: Any) -> int:
    """Read objects into a file or a folder, or to standard output (-); folders with -r.

    \b
    Examples:
      craftsync get dev:models/iris.joblib .
      craftsync get 'dev:datasets/*.csv' data/
      craftsync get -r s3://bucket/models models
      craftsync get dev models/iris.joblib iris.joblib
    """
    _insist_on(words, "OBJECT and FILE")
    skipped_keys, rules = shared.SkippedKeys(), rules_of(flags)
    with shared.arguments_of(flags) as found:
        old = len(words) == 3 and not flags["recursive"] and not found.names_store(words[1])
        shared.refuse_in_store(found, "get", words[-1], words[:2] if old else None)
        places = _sources_of(found, words[:-1], flags["recursive"])
        sources = [Objects(place, flags["recursive"], rules, skipped_keys) for place in places]
        if words[-1] in STANDARD_OUTPUT and not flags["dry_run"]:
            _to_standard_output(sources)
            return skipped_keys.exit_code()
        code = transfer("get", Kind.DOWNLOAD, sources, None, words[-1], flags)
    return code or skipped_keys.exit_code()


def _sources_of(
    found: Arguments, words: tuple[str, ...], recursive: bool, *, change: bool = False
) -> list[Place]:
    if recursive:
        return [found.place(word, change=change) for word in words]
    return shared.places_of(found, words, change=change)


def _insist_on(words: tuple[str, ...], what: str) -> None:
    if len(words) < 2:
        raise click.UsageError(f"Missing argument: give {what}.")
