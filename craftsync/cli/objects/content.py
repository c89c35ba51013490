"""`cat`, `put`, `get` and `url`: the content of objects, to and from this machine."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from craftsync import lookup, objects
from craftsync.cli import params as common
from craftsync.cli.objects import words as shared
from craftsync.cli.objects.copying import (
    is_standard_input,
    put_standard_input,
    transfer,
    transfer_options,
)
from craftsync.cli.objects.transfers import (
    STANDARD_OUTPUT,
    Files,
    Objects,
    rules_of,
)
from craftsync.cli.output import say, say_json
from craftsync.cli.terminal import told
from craftsync.config.parsers import BadWord
from craftsync.core.model import Kind
from craftsync.lookup import Lookup, Place


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
    with shared.lookup_of(flags) as found:
        for place in shared.places_of(found, words):
            for each in lookup.found_at(place, recursive=False):
                with told():
                    place.store.download(each.object.path, sys.stdout.buffer)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="FILE... OBJECT|STORE"),
    transfer_options,
    common.written_options,
)
def put(words: tuple[str, ...], **flags: Any) -> int:
    """Write files, or standard input (-), to a store; folders with -r.

    Several, or one to a folder, keep their names. What is replaced stays
    recoverable in the store. For whole folders again and again, push is quicker.

    \b
    Examples:
      craftsync put iris.joblib dev:models/
      craftsync put -r data s3://bucket/data --store s3://bucket
      tar c data | craftsync put - dev:backup/data.tar
      craftsync put iris.joblib dev models/iris.joblib
    """
    _insist_on(words, "FILE and OBJECT")
    rules = rules_of(flags)
    with shared.lookup_of(flags) as found:
        old = len(words) == 3 and not flags["recursive"] and not found.names_store(words[2])
        if old:
            place = found.store(*words[1:])
        else:
            with shared.sources_first(found, words[:-1], recursive=True):
                place = found.place(words[-1], change=True)
        found.refuse_written(place)
        files = words[:1] if old else words[:-1]
        if is_standard_input(files):
            return put_standard_input("put", place, flags)
        sources = [Files(file, flags["recursive"], rules) for file in files]
        return transfer("put", Kind.UPLOAD, sources, place, words[-1], flags, exact=old)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT... FILE|FOLDER"),
    transfer_options,
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
    left_out, rules = shared.LeftOut(), rules_of(flags)
    with shared.lookup_of(flags) as found:
        places = _sources_of(found, words[:-1], flags["recursive"])
        if words[-1] in STANDARD_OUTPUT and not flags["dry_run"]:
            _get_to_standard_output(places)
            return 0
        sources = [Objects(place, flags["recursive"], rules, left_out) for place in places]
        code = transfer("get", Kind.DOWNLOAD, sources, None, words[-1], flags)
    return code or left_out.exit_code()


def _sources_of(found: Lookup, words: tuple[str, ...], recursive: bool) -> list[Place]:
    if recursive:
        return [found.place(word) for word in words]
    return shared.places_of(found, words)


def _get_to_standard_output(places: list[Place]) -> None:
    for place in places:
        for each in lookup.found_at(place, recursive=False):
            with told():
                place.store.download(each.object.path, sys.stdout.buffer)


def _insist_on(words: tuple[str, ...], what: str) -> None:
    if len(words) < 2:
        raise click.UsageError(f"Missing argument: give {what}.")


_DURATION = re.compile(r"(\d{1,9})\s*([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _seconds(word: object) -> int:
    """Read "90", "15m" or "1h" as seconds."""
    found = _DURATION.fullmatch(str(word).strip().lower())
    if not found or not int(found[1]):
        raise BadWord("is not a duration", "Use one such as 1h, 15m or 7d.")
    return int(found[1]) * _SECONDS[found[2]]


@click.command(cls=common.Command)
@common.all_of(
    click.argument("words", nargs=-1, required=True, metavar="OBJECT..."),
    click.option(
        *("--expires", "--expires-in"),
        metavar="TIME",
        callback=shared.parsed("--expires", _seconds),
        help="How long it works on S3, such as 1h, 15m or 7d. [1h]",
    ),
    common.json_option,
    shared.access_options,
)
def url(words: tuple[str, ...], expires: int | None, **flags: Any) -> None:
    """Print a URL by which anybody can read an object for a while, without a login.

    On S3 it is presigned with your keys; of an environment it is the
    platform's own, which decides how long it works. A folder has none.

    \b
    Examples:
      craftsync url s3://bucket/report.html --expires 15m
      craftsync url dev:models/iris.joblib
    """
    with shared.lookup_of(flags) as found:
        for place in shared.places_of(found, words):
            for each in lookup.found_at(place, recursive=False):
                signed = objects.signed_url(place.store, each.object.path, expires)
                if flags["json"]:
                    say_json({"path": each.object.path, "url": signed})
                else:
                    say(signed)
