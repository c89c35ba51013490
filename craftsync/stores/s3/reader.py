"""An object on its way here: asked for, checked against what was expected, and counted as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from craftsync.core.model import RemoteObject
from craftsync.errors import ObjectNotFound, StoreError, StoreUnavailable
from craftsync.stores.properties import Properties
from craftsync.stores.s3.calls import Calls
from craftsync.stores.s3.displacing import check
from craftsync.stores.s3.errors import RangeBeyond
from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.objects import Found


class ObjectReader:
    """Keeps `stores.properties.DescribedReader`: hands the chunks on and raises unless all of them came."""

    def __init__(
        self,
        described: RemoteObject,
        found: Found,
        chunks: Iterator[bytes],
        length: int,
    ) -> None:
        self.object = described
        self._found = found
        self._chunks = chunks
        self._length = length

    @property
    def properties(self) -> Properties:
        return self._found.properties

    def __iter__(self) -> Iterator[bytes]:
        missing = self._length
        for chunk in self._chunks:
            missing -= len(chunk)
            if missing < 0:
                break
            yield chunk
        if missing:
            raise StoreUnavailable(
                f"{self.object.path} did not arrive as announced: "
                f"{self._length - missing} of {self._length} bytes came.",
                remedy="Try again later.",
            )


class Reading:
    """Opens objects of one store for reading."""

    def __init__(self, calls: Calls, location: str, facts: Callable[[], ProbedFacts]) -> None:
        """`facts` returns what is known of the server by now."""
        self._calls = calls
        self._location = location
        self._facts = facts

    @contextmanager
    def opened(
        self, path: str, key: str, expect: RemoteObject | None, offset: int, length: int | None
    ) -> Iterator[ObjectReader]:
        """Open the object at a key; the rest is as in `Store.read`."""
        try:
            if length == 0:
                raise RangeBeyond(f"Nothing of {path} was asked for.")
            match = self._facts().read_form.of(expect.version if expect else None)
            with self._calls.get(key, match, offset, length) as opened:
                described = opened.found.at(path)
                check(path, described, expect)
                rest = max(described.size - offset, 0)
                wanted = rest if length is None else min(length, rest)
                if (opened.start, opened.length) != (offset, wanted):
                    raise StoreError(f"{self._location} sent other bytes of {path} than asked for.")
                yield ObjectReader(described, opened.found, opened.chunks, wanted)
        except RangeBeyond:
            found = self._calls.head(key)
            if found is None:
                raise ObjectNotFound(f"There is no {path} in {self._location}.") from None
            described = found.at(path)
            check(path, described, expect)
            yield ObjectReader(described, found, iter(()), 0)
