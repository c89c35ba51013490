"""From the two words of a call to two open stores that do not overlap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from craftsync import opening
from craftsync.config import file as configuration
from craftsync.config import places
from craftsync.config.places import CraftAiLocation, DirectoryLocation, Location, S3Access
from craftsync.errors import UsageError
from craftsync.stores.base import Store

_REMEDY = "Name two stores that share nothing, or folders beside each other."


@contextmanager
def opened(
    source: Location, target: Location, *, create: bool, stand_in: bool
) -> Iterator[tuple[Store, Store]]:
    """Open both for the length of a `with`, keys as they are; raises `UsageError` where one lies in the other.

    A directory store that is not there is an error as a source; as a target it
    is made with `create`, and an empty folder stands in for it with `stand_in`.
    """
    _refuse_overlap(source, target)
    with ExitStack() as stack:
        address = places.address_of(target)
        if stand_in and not places.exists(target):
            empty = stack.enter_context(TemporaryDirectory(prefix="craftsync-"))
            target = DirectoryLocation(Path(empty))
        there = stack.enter_context(opening.open_store(source, create=False, raw_keys=True))
        here = stack.enter_context(opening.open_store(target, create=create, raw_keys=True))
        here.location = address
        _refuse_shared_place(there, here)
        yield there, here


def resolve(
    source: str,
    target: str,
    config: str | os.PathLike[str] | None,
    source_access: S3Access,
    target_access: S3Access,
) -> tuple[Location, Location]:
    """Return what two STORE words stand for."""
    known = configuration.load(config)
    return (
        places.resolve(source, known, source_access),
        places.resolve(target, known, target_access),
    )


def _refuse_overlap(source: Location, target: Location) -> None:
    match source, target:
        case DirectoryLocation(), DirectoryLocation():
            relation = places.relation(source.path, target.path)
        case CraftAiLocation(), CraftAiLocation() if source.url == target.url:
            relation = _relation_of_folders(source.folder, target.folder)
        case _:
            relation = None
    if relation is not None:
        raise UsageError(f"The source {source} {relation} the target {target}.", remedy=_REMEDY)


def _relation_of_folders(one: str, other: str) -> str | None:
    if one == other:
        return "is the same as"
    if f"{one}/".startswith(f"{other}/") or not other:
        return "lies inside"
    return "contains" if f"{other}/".startswith(f"{one}/") or not one else None


def _refuse_shared_place(source: Store, target: Store) -> None:
    """Refuse what only the stores themselves know to be the same place, whatever words they were named by."""
    origin, other = source.features.origin, target.features.origin
    if origin is not None and other is not None and origin.overlaps(other):
        raise UsageError(
            f"The source {source.location} and the target {target.location} overlap.",
            remedy=_REMEDY,
        )
