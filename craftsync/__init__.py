"""craftsync keeps a local folder (the root) and a data store in sync.

    import craftsync

    report = craftsync.push("data", "s3://bucket/prefix")
    report.raise_for_issues()

    push, pull, sync     a folder and a store, once; each returns a Report
    check                compares both, and changes nothing
    migrate              copies one store to another
    upload_folder, download_folder
                         a folder to a store, or back
    DataStore            the five functions of the platform's data store, over any store
    objects              list, find, copy, move and remove objects
    errors               everything raised on purpose

A store is a path, `s3://bucket/prefix`, `craft-ai://`, or the name of an
environment in the configuration. `help(craftsync.push)` names every option.

For those who work on craftsync, a map of the house, in the order to read it:

    errors          everything raised on purpose, and the exit codes
    install_hint    what to type to install craftsync, or more of it
    net/            requests and whatever waits: connections, hosts, tasks, rates
    core/           pure values and decisions: model, decide, merge, guard
    stores/         the remote side; `base` is the contract every store keeps
    local/          the folder: scanning it, and changing it safely
    state/          what both sides last agreed on: one SQLite database a pair
    engine/         one run: plan, execute, record; `session` is the door; review/ is what a person settles
    daemon/         when a run starts: file events, timers
    config/         what can be configured: options, the file, secrets, and what names stand for
    open_store      from a place to its open store: a directory, a bucket or an environment
    linked_folders  which linked folders the words of a call mean, and an open session of one
    runs            one run, from the words of a call to its report
    progress        how far it has come, on a terminal or in a notebook
    datastore       the platform's five functions over any store; `filesystem` is the same for fsspec
    objects/        what people do with objects: list a folder, find, copy, move, remove, between any two stores;
                    `arguments` leads from an OBJECT argument to its store and the objects it names
    serve/          a data store server for the platform's SDK, over any store
    migrate/        from one store to another: the engine with a store on both sides
    api             the functions of `import craftsync`
    doctor/         what could keep craftsync from working here
    ui/             the page in a browser
    cli/            the commands; one file for each group of them

Imports point upwards in this list, `core` imports nothing else of craftsync,
and a third-party library is imported only by the room that needs it.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
"""As in `typing`, which is not loaded here: Ctrl-C prints a traceback until `__main__.main` has begun."""

if TYPE_CHECKING:
    from craftsync import errors as errors
    from craftsync import objects as objects
    from craftsync.api import (
        check,
        download_folder,
        migrate,
        pull,
        push,
        sync,
        upload_folder,
    )
    from craftsync.datastore import DataStore
    from craftsync.engine.report import Report

__version__ = "0.1.0"
__all__ = [
    "DataStore",
    "Report",
    "check",
    "download_folder",
    "errors",
    "migrate",
    "objects",
    "pull",
    "push",
    "sync",
    "upload_folder",
]

_PLACES = {"DataStore": "craftsync.datastore", "Report": "craftsync.engine.report"}
"""Where a public name is defined that is not in `craftsync.api`."""

# The package migrate/ and the function `migrate` share a name. Importing the
# package binds the name to it, but only the first time: so do it here, and undo it.
import_module("craftsync.migrate")
del globals()["migrate"]

if not TYPE_CHECKING:  # So that a type checker still reports names that are not there.

    def __getattr__(name: str) -> object:
        # Imported when it is first used: importing craftsync is cheap.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module("craftsync.install_hint").refuse_other_systems()
        if name in ("errors", "objects"):
            return import_module(f"craftsync.{name}")
        value = getattr(import_module(_PLACES.get(name, "craftsync.api")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
