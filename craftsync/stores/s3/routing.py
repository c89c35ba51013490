"""Which road the bytes of an object take: obstore where it can, a request of our own elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from craftsync.stores.opening import Enter, Opening
from craftsync.stores.s3.carrier import can_carry, can_send
from craftsync.stores.s3.errors import MetadataNotRead, PartialNotMarked
from craftsync.stores.s3.objects import NO_HEADERS, Carrier, Condition, Found, Opened


class RoutingCarrier:
    """Keeps `objects.Carrier` for every key, by two others: `obstore`, and `own` for what it cannot do."""

    def __init__(self, obstore: Carrier, own: Carrier) -> None:
        self._obstore = obstore
        self._own = own
        self._partial_by_own = False

    def put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        condition: Condition,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> str:
        carrier = self._for(key) if can_send(headers, metadata) else self._own
        return carrier.put(key, body, metadata, condition, headers)

    def head(self, key: str) -> Found | None:
        try:
            return self._for(key).head(key)
        except MetadataNotRead:
            return self._own.head(key)

    def get(
        self, key: str, version: str | None, offset: int, length: int | None
    ) -> AbstractContextManager[Opened]:
        return Opening(lambda enter: self._opened(enter, key, version, offset, length))

    def _opened(
        self, enter: Enter[Opened], key: str, version: str | None, offset: int, length: int | None
    ) -> Opened:
        """Open an object, and once more by requests of our own after an answer obstore did not understand."""
        is_part = offset > 0 or length is not None
        carrier = self._own if is_part and self._partial_by_own else self._for(key)
        try:
            return enter(carrier.get(key, version, offset, length))
        except (PartialNotMarked, MetadataNotRead) as error:
            self._partial_by_own = self._partial_by_own or isinstance(error, PartialNotMarked)
            return enter(self._own.get(key, version, offset, length))

    def _for(self, key: str) -> Carrier:
        return self._obstore if can_carry(key) else self._own
