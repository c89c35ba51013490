"""A few faults with real servers; a short form of `make campaign`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.__main__ import Campaign, Cell, every_cell
from tests.faults.requests import FAULTS, Step, kind_of
from tests.injected.stores import PROXIED, motos
from tests.injected.trial import Trial
from tests.support.cli import DEADLINE
from tests.support.fake_s3 import Request

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


@pytest.mark.parametrize("path", ["fetched", "edited", "gone 0"])
def test_bit_flipped_in_an_object_of_an_environment_is_noticed(tmp_path: Path, path: str) -> None:
    """`fetched` is another client's object; the others are read to be kept in the trash."""
    waiting: list[str] = []

    def script(request: Request) -> Step | None:
        is_met = any(quote(each) in request.target for each in waiting)
        if not is_met or kind_of(request) != "get":
            return None
        waiting.clear()
        return FAULTS["a bit flipped"]

    with PROXIED["serve"](tmp_path, script) as stores:
        (tmp_path / "trial").mkdir()
        trial = Trial(tmp_path / "trial", 1, stores(tmp_path / "trial"))
        trial.change(conflict=False, large=False)
        waiting.append(path)
        assert trial.killed_after(DEADLINE).code == 1
        assert not waiting
        trial.heal(twice=False)


def test_every_fault_is_tried_with_every_store() -> None:
    cells = list(every_cell())
    assert len(set(cells)) == len(cells) > 900
    for store in ("moto", "rclone", "serve"):
        assert {cell.fault for cell in cells if cell.store == store} == set(FAULTS)
