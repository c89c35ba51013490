"""Examines the machine, folders and stores in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from craftsync.clock import SystemClock
from craftsync.config import file as configuration
from craftsync.config import places
from craftsync.config.file import Config
from craftsync.config.places import CraftAiLocation, DirectoryLocation, Location, S3Access
from craftsync.core.model import OWN_FOLDER
from craftsync.doctor import checks, store
from craftsync.doctor.report import Finding, examined, failed, note, ok, warning
from craftsync.engine.identity import STORE_ID_FILE
from craftsync.engine.review.retention import holdings_of
from craftsync.errors import ConfigError, CraftsyncError, UsageError
from craftsync.open_store import open_store
from craftsync.wording import counted, size_shown

_BOUND = "To limit it, set `trash: {keep: 30d}` in the configuration, or run craftsync trash purge."
_CLOCK = "It resumes by itself once the cause is gone. See craftsync status, and check the clock."


def examine(
    word: str | None,
    *,
    config_file: str | os.PathLike[str] | None,
    state_dir: Path,
    access: S3Access,
) -> Iterator[Finding]:
    """Check this machine, then the store `word`, or if it is `None` every configured folder and store.

    Errors become findings and are not raised.
    """
    config, broken = _loaded(config_file)
    roots = {} if word is not None else {name: each.root for name, each in config.folders.items()}
    subject = checks.Machine(config, broken, state_dir, tuple(roots.values()))
    yield from examined("", subject, checks.MACHINE_CHECKS)
    for name, root in roots.items():
        yield from examined(name, root, checks.ROOT_CHECKS)
        yield from _trash(name, config, state_dir, access)
    for name in [word] if word is not None else config.environments:
        yield from _named_store(name, config, broken, access)


def _trash(name: str, config: Config, state_dir: Path, access: S3Access) -> Iterator[Finding]:
    """Report the size of this client's trash for a linked folder, and how to limit it."""
    each = config.folders[name]
    try:
        address = places.address_of(places.resolve(each.environment, config, access))
        found = holdings_of(str(places.real(each.root)), address, state_dir, each.retention)
    except CraftsyncError:
        return  # The checks of the store and of the state report it.
    if not found["files"]:
        return
    versions = f"{counted(found['files'], 'version')} ({size_shown(found['bytes'])})"
    holds = f"holds {versions} that this client replaced or deleted"
    most = "" if found["max_size"] is None else f", up to {size_shown(found['max_size'])} in all"
    detail = f"{holds}, kept {found['keep']}{most}"
    if found["suspended"]:
        yield warning(
            f"{name}: trash", f"{detail}; nothing is removed: {found['suspended']}", _CLOCK
        )
    elif not each.retention.is_bounded:
        yield note(f"{name}: trash", detail, _BOUND)
    else:
        yield ok(f"{name}: trash", detail)


def _loaded(file: str | os.PathLike[str] | None) -> tuple[Config, ConfigError | None]:
    try:
        return configuration.load(file), None
    except ConfigError as error:
        return Config(), error


def _named_store(
    word: str, config: Config, broken: ConfigError | None, access: S3Access
) -> Iterator[Finding]:
    try:
        location = places.resolve(word, config, access)
    except UsageError as error:
        # Without a readable configuration, an unknown name is not a finding.
        if broken is None:
            yield failed(word, error)
    except CraftsyncError as error:
        yield failed(word, error)
    else:
        yield from _store(word, location)


def tried(location: Location) -> Iterator[Finding]:
    """Check whether a store is usable: reachable, listable and writable.

    Errors become findings and are not raised.
    """
    try:
        with _without_trace(location), open_store(location, create=False) as opened:
            yield from examined("", store.OpenStore(opened, SystemClock()), store.FIRST_CHECKS)
    except CraftsyncError as error:
        yield failed("reachable", error)


def _store(word: str, location: Location) -> Iterator[Finding]:
    try:
        with _without_trace(location), open_store(location, create=False) as opened:
            if isinstance(location, CraftAiLocation):
                yield from examined(word, location, checks.CONTRACT_CHECKS)
            yield from examined(word, store.OpenStore(opened, SystemClock()), store.CHECKS)
            if isinstance(location, DirectoryLocation):
                yield from examined(word, location.path, checks.DISK_CHECKS)
    except CraftsyncError as error:
        yield failed(f"{word}: reachable", error)


@contextmanager
def _without_trace(location: Location) -> Iterator[None]:
    """Remove the own folder that the checks create in an unused directory store."""
    if not isinstance(location, DirectoryLocation) or (location.path / OWN_FOLDER).exists():
        yield
        return
    try:
        yield
    finally:
        # With an identity file, another process has started to use the store.
        if not (location.path / STORE_ID_FILE).exists():
            own = location.path / OWN_FOLDER
            (own / "commit-lock").unlink(missing_ok=True)
            for inner, _, _ in os.walk(own, topdown=False):
                with suppress(OSError):
                    os.rmdir(inner)
