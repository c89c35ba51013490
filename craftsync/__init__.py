"""craftsync keeps a local folder and a data store in sync.

    import craftsync

    report = craftsync.push("data", "s3://bucket/prefix")
    report.raise_for_issues()

    push, pull, sync     sync a folder and a store once; each returns a Report
    check                compare both, without changing anything
    migrate              copy one store to another
    upload_folder, download_folder
                         copy a folder to a store, or back
    DataStore            the five functions of the platform's data store, over any store
    objects              list, find, copy, move and remove objects
    errors               every error that craftsync raises

A store is a path, `s3://bucket/prefix`, `craft-ai://`, or the name of an
environment in the configuration. `help(craftsync.push)` lists every option.

For developers of craftsync, its packages and modules, in the order to read them:

    errors          every error that craftsync raises, and the exit codes
    install_hint    the command that installs craftsync, or an extra of it
    net/            HTTP requests and all waiting: connections, hosts, tasks, rates
    core/           values and decisions, pure: model, decide, merge, guard
    stores/         the stores; `base` is the contract of all of them
    local/          the folder on disk: scan it, watch it, replace its files safely
    state/          the last synced state and more: one SQLite database for each linked folder
    engine/         one run: plan, carry out, record; start with `session`. review/: what users review
    daemon/         starts runs: by file events and timers
    config/         the configuration: options, the file, secrets, and what names stand for
    open_store      opens the store at a place: a directory, a bucket or an environment
    linked_folders  finds the linked folders that the arguments of a call mean, and opens a session of one
    runs            one run, from the arguments of a call to its report
    progress        shows the progress of a run, on a terminal or in a notebook
    datastore       the platform's five functions over any store; `filesystem` is the same for fsspec
    objects/        objects of any stores: list a folder, find, copy, move, remove;
                    `arguments` finds the store and the objects that an OBJECT argument means
    serve/          a data store server for the platform's SDK, over any store
    migrate/        from one store to another: the engine with a store on both sides
    api             the functions of `import craftsync`
    doctor/         checks of the machine, the folder and the store
    ui/             the page in a browser
    cli/            the commands, a file for each group

A module imports only those above it in this list, and `core` no other package of
craftsync. Each third-party library has one package that imports it.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
"""As in `typing`. Importing that would take time, in which Ctrl-C prints a traceback (`__main__.main`)."""

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
"""The modules of public names that are not in `craftsync.api`."""

# The package migrate/ and the function `migrate` share a name. The first import of the package
# binds the name to it. So import it here, and delete the name.
import_module("craftsync.migrate")
del globals()["migrate"]

if not TYPE_CHECKING:  # Hidden from type checkers, so that they report unknown names.

    def __getattr__(name: str) -> object:
        # Import at the first use, so that importing craftsync stays cheap.
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
