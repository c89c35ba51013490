"""Which road the bytes of an object take: obstore where it can, a request of our own elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from craftsync.stores.s3.carrier import can_carry
from craftsync.stores.s3.errors import PartialNotMarked
from craftsync.stores.s3.objects import Carrier, Condition, Found, Opened


class RoutingCarrier:
    """Keeps `objects.Carrier` for every key, by two others: `obstore`, and `own` for what it cannot do."""

    def __init__(self, obstore: Carrier, own: Carrier) -> None:
        self._obstore = obstore
        self._own = own
        self._partial_by_own = False

    def put(self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition) -> str:
        return self._for(key).put(key, body, metadata, condition)

    def head(self, key: str) -> Found | None:
        return self._for(key).head(key)

    def get(
        self, key: str, version: str | None, offset: int, length: int | None
    ) -> AbstractContextManager[Opened]:
        if offset > 0 or length is not None:
            return self._get_part(key, version, offset, length)
        return self._for(key).get(key, version, offset, length)

    @contextmanager
    def _get_part(
        self, key: str, version: str | None, offset: int, length: int | None
    ) -> Iterator[Opened]:
        carrier = self._own if self._partial_by_own else self._for(key)
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(carrier.get(key, version, offset, length))
            except PartialNotMarked:
                self._partial_by_own = True
                opened = stack.enter_context(self._own.get(key, version, offset, length))
            yield opened

    def _for(self, key: str) -> Carrier:
        return self._obstore if can_carry(key) else self._own
