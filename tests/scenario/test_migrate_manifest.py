"""What the manifest of a migration says after something went another way than planned."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import RemoteObject
from craftsync.state.migration import MigrationState
from craftsync.stores.directory import DirectoryStore
from tests.support.memory_store import MemoryStore
from tests.support.moving import Moving

LARGE = bytes(range(256)) * (17 << 12)
"""17 MiB: more than is ever read in one piece."""


@pytest.mark.parametrize("side", ["source", "target"])
def test_manifest_omits_hidden_objects(tmp_path: Path, side: str) -> None:
    source, target = (DirectoryStore.create(tmp_path / name) for name in ("source", "target"))
    moving = Moving(tmp_path, source, target)
    moving.put(moving.source, "a", "1")
    moving.put(moving.source, "b", "2")
    moving.run()
    (tmp_path / side / "a").unlink()
    (tmp_path / side / "a").symlink_to("b")
    report = moving.run()
    # A link in the source takes no part; one in the target is in the way of a copy.
    assert (report.exit_code, moving.said) == (6 if side == "target" else 0, ["skipped a"])
    assert manifested(report.manifest) == ["b"]
    (tmp_path / side / "a").unlink()
    (tmp_path / side / "a").write_text("1")
    assert manifested(moving.run().manifest) == ["a", "b"]


def test_manifest_leaves_out_an_object_whose_delete_is_held(tmp_path: Path) -> None:
    moving = Moving(tmp_path, MemoryStore("source"), MemoryStore("target"))
    for path in ("a", "b", "c"):
        moving.put(moving.source, path, path)
    moving.run()
    for path in ("a", "b"):
        moving.source.delete(path, expect=None)
    report = moving.run(delete=True, delete_limit=DeleteLimit(files=1, share=0.0))
    assert (report.held, manifested(report.manifest)) == (2, ["c"])


def manifested(file: str | None) -> list[str]:
    assert file is not None
    return [json.loads(line)["path"] for line in Path(file).read_text().splitlines()]


def test_unrecorded_large_copy_has_its_digest_in_the_manifest(tmp_path: Path) -> None:
    moving = Moving(tmp_path, MemoryStore("source"), WithoutDigests("target"))
    moving.put(moving.source, "large", LARGE)
    moving.run()
    forget(moving, "large")
    report = moving.run()
    assert (report.copied, report.adopted, report.verified) == (0, 1, {"read back": 1})
    assert report.manifest is not None
    assert json.loads(Path(report.manifest).read_text())["sha256"] == (
        hashlib.sha256(LARGE).hexdigest()
    )


class WithoutDigests(MemoryStore):
    """Has no digest beside its objects, like S3 beside one that was sent in parts while it was read."""

    def stat(self, path: str) -> RemoteObject | None:
        found = super().stat(path)
        return None if found is None else found._replace(digest=None)


def forget(moving: Moving, path: str) -> None:
    """Lose the record of a copy, as a crash just after it does."""
    state = MigrationState.open(moving.folder / "state")
    with state.transaction():
        state.baseline.forget([path])
    state.close()
