"""`ls`, `stat`, `put`, `get` and `rm`: the data store's five functions on the command line."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from craftsync.cli import params as common
from craftsync.cli.output import say, say_json
from craftsync.cli.terminal import shown, told
from craftsync.core.model import Skipped
from craftsync.datastore import DataStore, ObjectInformation
from craftsync.errors import CraftsyncError, ObjectNotFound

_STANDARD_INPUT = frozenset({"-", "/dev/stdin"})
_STANDARD_OUTPUT = frozenset({"-", "/dev/stdout"})
"""By their names in /dev, too: opened by that name, a file behind them is begun anew."""


def _store(word: str, flags: dict[str, Any]) -> DataStore:
    return DataStore(word, **common.place_of(flags))


@contextmanager
def _object_of(opened: DataStore, path: str) -> Iterator[None]:
    """Say of an object that is not there whether it is a folder."""
    try:
        yield
    except ObjectNotFound as error:
        below = None
        with suppress(CraftsyncError):
            below = next(opened.iter_data_store_objects(path), None)
        raise ObjectNotFound(
            f"{path}: object not found.",
            remedy=f"It is a folder: there are objects below it, such as {below['path']}."
            if below
            else "craftsync ls shows what there is.",
        ) from error


def _say_object(found: ObjectInformation, *, as_json: bool) -> None:
    if as_json:
        say_json({name: found[name] for name in ("path", "last_modified", "size")})
    else:
        say(f"{found['size']:>14} {found['last_modified'] or '-':20} {shown(found['path'])}")


@click.command(cls=common.Command)
@common.all_of(click.argument("store"), common.json_option, common.access_options)
def ls(store: str, **flags: Any) -> int:
    """List the objects of a store: size in bytes, last modification (UTC), path.

    \b
    Examples:
      craftsync ls dev:models
      craftsync ls --json s3://bucket/prefix
    """
    skipped: list[Skipped] = []
    with _store(store, flags) as opened:
        is_empty = True
        for found in opened.iter_data_store_objects(on_skipped=skipped.append):
            is_empty = False
            _say_object(found, as_json=flags["json"])
        if is_empty and not skipped:
            opened.refuse_nothing()
    for entry in skipped:
        say(f"skipped: {shown(entry.path)}: {entry.reason}", to_stderr=True)
    return 6 if skipped else 0


@click.command(cls=common.Command)
@common.all_of(
    click.argument("store"), click.argument("path"), common.json_option, common.access_options
)
def stat(store: str, path: str, **flags: Any) -> None:
    """Describe one object: size in bytes, last modification (UTC), path.

    \b
    Example:
      craftsync stat dev models/iris.joblib
    """
    with _store(store, flags) as opened, _object_of(opened, path):
        found = opened.get_data_store_object_information(path)
    _say_object(found, as_json=flags["json"])


@click.command(cls=common.Command)
@common.all_of(
    click.argument("file"),
    click.argument("store"),
    click.argument("path"),
    common.access_options,
    common.written_options,
)
def put(file: str, store: str, path: str, **flags: Any) -> None:
    """Write a file, or standard input (-), to an object of a store.

    What it replaces stays recoverable in the store.

    \b
    Examples:
      craftsync put iris.joblib dev models/iris.joblib
      tar c data | craftsync put - s3://bucket backup/data.tar
    """
    with _store(store, flags) as opened:
        source = sys.stdin.buffer if file in _STANDARD_INPUT else file
        opened.upload_data_store_object(source, path)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("store"), click.argument("path"), click.argument("file"), common.access_options
)
def get(store: str, path: str, file: str, **flags: Any) -> None:
    """Read an object of a store into a file or a folder, or to standard output (-).

    \b
    Examples:
      craftsync get dev models/iris.joblib iris.joblib
      craftsync get dev models/iris.joblib models/
      craftsync get ./backup data.csv - | head
    """
    with _store(store, flags) as opened, _object_of(opened, path):
        if file not in _STANDARD_OUTPUT:
            if os.path.isdir(folder := os.path.expanduser(file)):
                file = os.path.join(folder, posixpath.basename(path))
            opened.download_data_store_object(path, file)
            return
        with told():
            opened.download_data_store_object(path, sys.stdout.buffer)


@click.command(cls=common.Command)
@common.all_of(click.argument("store"), click.argument("path"), common.access_options)
def rm(store: str, path: str, **flags: Any) -> None:
    """Delete an object of a store; it stays recoverable there.

    \b
    Example:
      craftsync rm dev models/old.joblib
    """
    with _store(store, flags) as opened, _object_of(opened, path):
        opened.get_data_store_object_information(path)
        opened.delete_data_store_object(path)
