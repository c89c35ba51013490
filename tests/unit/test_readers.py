"""Readers of objects raise unless all bytes arrived, even if the connection ended cleanly."""

from __future__ import annotations

import pytest

from craftsync.core.model import RemoteObject
from craftsync.errors import StoreUnavailable
from craftsync.stores.craftai.reading import Incoming
from craftsync.stores.s3.objects import Found
from craftsync.stores.s3.reading import ObjectReader

OBJECT = RemoteObject("a", 4, 1, "v")


@pytest.mark.parametrize("chunks", [[], [b"12"], [b"12", b"3"], [b"12", b"34", b"5"]], ids=repr)
def test_craft_ai_object_of_another_length_raises(chunks: list[bytes]) -> None:
    with pytest.raises(StoreUnavailable):
        b"".join(Incoming(OBJECT, iter([*chunks, b"", b""]), 4))


@pytest.mark.parametrize("chunks", [[], [b"12"], [b"12", b"3"], [b"12", b"345"]], ids=repr)
def test_s3_object_of_another_length_raises(chunks: list[bytes]) -> None:
    found = Found(4, 1, "v", {})
    with pytest.raises(StoreUnavailable):
        b"".join(ObjectReader(OBJECT, found, iter(chunks), 4, lambda: True))
