"""A few faults with real servers; a short form of `make campaign`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.faults.__main__ import Campaign, Cell, every_cell
from tests.faults.requests import FAULTS
from tests.injected.stores import PROXIED, motos

CELLS = [
    Cell("moto", "put", "reset after"),
    Cell("moto", "list", "cut in the middle"),
    Cell("rclone", "copy", "503 after"),
    Cell("rclone", "get", "a bit flipped"),
    Cell("serve", "address", "500 InternalError"),
    Cell("serve", "put", "hung up after"),
]


@pytest.mark.parametrize("store", ["moto", "rclone", "serve"])
def test_each_request_fault_is_survived_and_reported_truthfully(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    stores = dict(PROXIED)
    if store == "moto":
        stores["moto"] = partial(motos, running=request.getfixturevalue("moto"))
    campaign = Campaign(tmp_path, 1, trace=False, stores=stores)
    campaign.go([cell for cell in CELLS if cell.store == store])
    assert campaign.failed == []
    assert campaign.missed == []


def test_every_fault_is_tried_with_every_store() -> None:
    cells = list(every_cell())
    assert len(set(cells)) == len(cells) > 900
    for store in ("moto", "rclone", "serve"):
        assert {cell.fault for cell in cells if cell.store == store} == set(FAULTS)
