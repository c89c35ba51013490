"""craftsync keeps a local folder (the root) and a data store in sync.

A map of the house, in the order to read it:

    errors        everything raised on purpose, and the exit codes
    net/          requests and whatever waits: connections, hosts, tasks, rates
    core/         pure values and decisions: model, decide, merge, guard
    stores/       the remote side; `base` is the contract every store keeps
    local/        the folder: scanning it, and changing it safely
    state/        what both sides last agreed on: one SQLite database a pair
    engine/       one run: plan, execute, record; `session` is the door
    daemon/       when a run starts: file events, timers
    config/       what can be configured: options, the file, secrets, and what names stand for
    opening       from the words of a call to an open store, or to a folder and its store
    runs          one run, from the words of a call to its report
    datastore     the platform's five functions over any store; `filesystem` is the same for fsspec
    serve/        a data store server for the platform's SDK, over any store
    migrate/      from one store to another: the engine with a store on both sides
    doctor/       what could keep craftsync from working here
    cli/          the commands; one file for each group of them

Imports point upwards in this list, `core` imports nothing else of craftsync,
and a third-party library is imported only by the room that needs it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Unpack

    from craftsync.config.options import MigrateOptions, RunOptions
    from craftsync.datastore import DataStore as DataStore
    from craftsync.engine.report import Report
    from craftsync.migrate.options import MigrationReport

Place = str | os.PathLike[str]
"""A word as on the command line, or a path."""

__version__ = "0.1.0"
__all__ = ["DataStore", "check", "migrate", "pull", "push", "sync"]

# The package migrate/ and the function `migrate` share a name. Importing the
# package binds the name to it, but only the first time: so do it here.
import_module("craftsync.migrate")


def push(root: Place, store: Place, **options: Unpack[RunOptions]) -> Report:
    """Bring what changed in the root to the store; with `delete=True` the store mirrors the root.

    `store` is a word as on the command line or a path, and the options are its flags
    (`craftsync.config.options.RunOptions`). Raises a `CraftsyncError` when a whole
    side is broken; what concerns single paths is counted in the report.
    """
    return _run("push", root, store, options)


def pull(root: Place, store: Place, **options: Unpack[RunOptions]) -> Report:
    """Bring what changed in the store to the root; all else as in `push`."""
    return _run("pull", root, store, options)


def sync(root: Place, store: Place, **options: Unpack[RunOptions]) -> Report:
    """Bring both sides in sync; all else as in `push`."""
    return _run("sync", root, store, options)


def check(root: Place, store: Place, **options: Unpack[RunOptions]) -> Report:
    """Compare the content of both sides and change nothing; all else as in `push`.

    A store in the place of the root is compared in the same way.
    """
    from craftsync import runs
    from craftsync.config.places import word_of
    from craftsync.migrate import command

    words = [os.fspath(root), word_of(store)]
    compare = command.check if command.are_stores(words, options) else runs.check
    return compare(words, options)


def migrate(source: Place, target: Place, **options: Unpack[MigrateOptions]) -> MigrationReport:
    """Copy what one store has and the other has not; with `delete=True` the target mirrors the source.

    Both are words as on the command line, and the options are its flags
    (`craftsync.config.options.MigrateOptions`). Errors are as in `push`.
    """
    from craftsync.config.places import word_of
    from craftsync.migrate import command

    return command.run(word_of(source), word_of(target), options)


def _run(command: str, root: Place, store: Place, options: RunOptions) -> Report:
    from craftsync import runs
    from craftsync.config.places import word_of

    return runs.run(command, [os.fspath(root), word_of(store)], options)


def __getattr__(name: str) -> Any:
    # `DataStore` is imported when it is first asked for, so that importing craftsync is cheap.
    if name == "DataStore":
        from craftsync.datastore import DataStore

        return DataStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
