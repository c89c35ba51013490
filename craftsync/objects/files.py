"""Uploads files as objects, and downloads objects as files; a move removes each once the other side holds it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from craftsync.core.model import RemoteObject
from craftsync.datastore import DataStore
from craftsync.errors import (
    Interrupted,
    PathBusy,
    PathError,
)
from craftsync.objects.copying import GROUP, OF_ONE, Copying, Outcome, Outcomes, check_made
from craftsync.stores.base import Store
from craftsync.stores.sources import BREAKS, OnBytes, at_once

_Fingerprint = tuple[int, ...]
"""Values that change whenever the file does; empty if it is missing."""


def upload_each(
    files: Iterable[tuple[str, str]],
    target: DataStore,
    *,
    remove_files: bool = False,
    on_bytes: OnBytes | None = None,
) -> Outcomes:
    """Upload several files; each pair is a file and the path of its object. All else is as in `copy_each`.

    With `remove_files`, each file that has not changed since is removed once its object is durable.
    """

    def upload(file: str, path: str) -> int:
        made[path] = target.upload(file, path, on_bytes)
        return made[path].size

    rest = iter(files)
    while group := list(islice(rest, GROUP)):
        made = dict[str, RemoteObject]()
        before = {file: _fingerprint(file) for file, _ in group} if remove_files else {}
        # A single file that cannot be read must not create a store.
        stores = [target.opened_to_change(create=True)] if len(group) > 1 else []
        ended = deque[Outcome]()
        try:
            for outcome in at_once(group, partial(_transferred, upload), *stores):
                ended.append(outcome)
            if not all(outcome.error for outcome in ended):
                target.opened().barrier()
            while ended:
                outcome = ended[0]
                if remove_files and outcome.error is None:
                    remove = partial(_remove_uploaded, target.opened(), made, before)
                    outcome = _transferred(remove, outcome[:2])
                    outcome = outcome._replace(copied=outcome.error is not None)
                ended.popleft()
                yield outcome
        except BREAKS:
            yield from ended
            raise


def download_each(
    source: DataStore,
    pairs: Iterable[tuple[RemoteObject, str]],
    *,
    make_folders: bool = True,
    remove: bool = False,
    on_bytes: OnBytes | None = None,
) -> Outcomes:
    """Download several objects; each pair is an object and its file.

    `make_folders` creates missing folders. `remove` then removes each object from the store, unless
    it has changed since.
    """

    def download(found: RemoteObject, file: str) -> int:
        if make_folders:
            os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        return source.download(found.path, file, on_bytes)

    def removed(found: RemoteObject, file: str) -> int:
        Copying(source, source, True, None).removed(found, "")
        return found.size

    def act(pair: tuple[RemoteObject, str]) -> Outcome:
        outcome = _transferred(download, pair)
        if outcome.error is None and remove:
            with suppress(Interrupted):  # The file exists; the caller notices the stop by itself.
                outcome = _transferred(removed, pair)
                outcome = outcome._replace(copied=outcome.error is not None)
        return outcome

    yield from at_once(pairs, act, source.opened())


def _transferred(act: Callable[[Any, str], int], pair: tuple[Any, str]) -> Outcome:
    given, to = pair
    path = given.path if isinstance(given, RemoteObject) else given
    try:
        return Outcome(path, to, act(given, to))
    except OF_ONE as error:
        return Outcome(path, to, 0, error)
    except OSError as error:
        return Outcome(path, to, 0, PathError(f"{error.filename or path}: {error.strerror}."))


def _fingerprint(file: str) -> _Fingerprint:
    with suppress(OSError):
        status = os.stat(file)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return ()


def _remove_uploaded(
    store: Store,
    made: Mapping[str, RemoteObject],
    before: Mapping[str, _Fingerprint],
    file: str,
    path: str,
) -> int:
    """Remove a file that was uploaded as `made[path]`; return its size. Raises `PathBusy` as `check_made`, and if the file has changed."""
    check_made(store, made[path], file)
    if _fingerprint(file) != before[file]:
        raise PathBusy(f"{file} has changed since it was uploaded, and stays.", remedy="Try again.")
    os.unlink(file)
    return before[file][0]
