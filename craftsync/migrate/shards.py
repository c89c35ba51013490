"""Shares of a migration: ranges of keys that several machines copy in parallel.

The bounds come from a listing of the source. The first share writes them to the
target, where all others, now and in later runs, read them. So every key is in
exactly one share, even if the source changes between two listings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, TypeVar

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.errors import ObjectNotFound, PreconditionFailed, StateError
from craftsync.stores.base import Store
from craftsync.stores.sources import BytesSource

_Entry = TypeVar("_Entry", bound=RemoteObject | Skipped)


@dataclass(frozen=True, slots=True)
class Shard:
    """The share `number` (from 1) of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


class Span(NamedTuple):
    """The paths after `after` up to and including `last`; `None` for no bound."""

    after: str | None = None
    last: str | None = None

    def holds(self, path: str) -> bool:
        return (self.after is None or path > self.after) and (
            self.last is None or path <= self.last
        )

    def of(self, entries: Iterable[_Entry], *, in_order: bool) -> Iterator[_Entry]:
        """Yield the entries in this range; a sorted listing is read only up to its end."""
        for entry in entries:
            if self.holds(entry.path):
                yield entry
            elif in_order and self.last is not None and entry.path > self.last:
                return


def span_of(shard: Shard, source: Store, target: Store, *, read_only: bool) -> Span:
    """Return the range of a share; unless `read_only`, new bounds are written to the target."""
    place = _place(shard, source)
    bounds = _read_bounds(target, place)
    if bounds is None:
        bounds = _even_bounds(source, shard.count)
        if not read_only:
            try:
                content = BytesSource(json.dumps(bounds).encode())
                target.write(place, content, expect=ABSENT, operation=content.digest.hex()[:32])
            except PreconditionFailed:
                # Another share was faster, so use its bounds.
                bounds = _read_bounds(target, place) or bounds
    after = [None, *bounds][shard.number - 1]
    return Span(after, [*bounds, None][shard.number - 1])


def _place(shard: Shard, source: Store) -> str:
    name = sha256(source.location.encode()).hexdigest()[:16]
    return f"{OWN_FOLDER}/shards/{name}-{shard.count}.json"


def _read_bounds(target: Store, place: str) -> list[str] | None:
    try:
        with target.read(place) as reader:
            bounds = json.loads(b"".join(reader))
    except ObjectNotFound:
        return None
    except ValueError:
        bounds = None
    if not isinstance(bounds, list) or not all(isinstance(bound, str) for bound in bounds):
        raise StateError(
            f"{place} in {target.location} does not contain the bounds of shares.",
            remedy="Delete it while no share is running; the next run writes new bounds.",
        )
    return bounds


def _even_bounds(source: Store, count: int) -> list[str]:
    """Return the last path of each share except the last one, from a sample of a listing.

    The sample is bounded: when it is full, every other path is dropped, and
    from then on half as many are added.
    """
    kept: list[str] = []
    every = 1
    for number, entry in enumerate(source.list()):
        if number % every == 0:
            kept.append(entry.path)
        if len(kept) > _KEPT * count:
            kept = kept[::2]
            every *= 2
    kept.sort(key=lambda path: path.encode(errors="surrogateescape"))
    cuts = {kept[max(len(kept) * number // count - 1, 0)] for number in range(1, count) if kept}
    return _padded(sorted(cuts), count - 1)


_KEPT = 100
"""Sampled paths for each share, so that sizes vary by about one percent."""


def _padded(bounds: list[str], length: int) -> list[str]:
    """Extend the bounds to `length` by repeating the last one; shares between equal bounds are empty."""
    filler = bounds[-1] if bounds else ""
    return bounds + [filler] * (length - len(bounds))
