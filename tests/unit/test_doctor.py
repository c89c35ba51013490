"""The checks of `doctor`: those that cannot fail on this machine, and those that raise."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from craftsync.clock import SystemClock
from craftsync.core.model import RemoteObject
from craftsync.doctor import checks
from craftsync.doctor import store as of_store
from craftsync.doctor.report import Finding, Level, examined, exit_code_of, failed, ok
from craftsync.errors import (
    ConfigError,
    CraftsyncError,
    StoreDenied,
    StoreError,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.stores.base import Reader
from tests.support.memory_store import MemoryStore


def store_findings(store: MemoryStore) -> dict[str, Finding]:
    subject = of_store.OpenStore(store, SystemClock())
    return {finding.name: finding for finding in examined("", subject, of_store.CHECKS)}


def test_failing_doctor_check_becomes_a_finding_and_others_run() -> None:
    def _dividing(subject: int) -> Iterator[Finding]:
        yield ok("before", "fine")
        yield ok("never", str(1 // subject))

    def _after(subject: int) -> Iterator[Finding]:
        yield ok("after", "fine")

    before, dividing, after = examined("here", 0, (_dividing, _after))
    assert (before.name, after.name) == ("here: before", "here: after")
    assert (dividing.name, dividing.level, dividing.exit_code) == ("here: dividing", "error", 1)
    assert "report" in dividing.remedy


def test_unreachable_store_skips_the_remaining_store_checks() -> None:
    def _asking(subject: None) -> Iterator[Finding]:
        raise StoreUnavailable("nobody answers")
        yield

    def _asking_more(subject: None) -> Iterator[Finding]:
        raise AssertionError("asked again")
        yield

    (finding,) = examined("", None, (_asking, _asking_more))
    assert (finding.detail, finding.exit_code) == ("nobody answers", 5)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([StoreUnavailable("a"), StoreMissing("b")], 3),
        ([StoreMissing("a"), ConfigError("b"), StoreUnavailable("c")], 78),
        ([StoreUnavailable("a"), OSError(5, "b")], 5),
        ([ValueError("a")], 1),
        ([CraftsyncError("of no special kind")], 1),
    ],
)
def test_doctor_exit_code_is_that_of_the_worst_error(errors: list[Exception], code: int) -> None:
    found = [failed("name", error) for error in errors]
    assert exit_code_of([ok("fine", ""), *found]) == code


def test_wrong_clock_is_a_warning_and_test_objects_are_removed() -> None:
    store = MemoryStore()
    found = store_findings(store)
    assert found["clock"].level is Level.WARNING
    assert "behind this machine's" in found["clock"].detail
    assert "timedatectl" in found["clock"].remedy
    assert found["writing"].level is Level.OK
    assert list(store.list(".craftsync/")) == []


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, Level.OK), (20, Level.NOTE), (-20, Level.NOTE), (400, Level.WARNING)]
)
def test_severity_of_clock_skew_depends_on_its_size(seconds: int, level: Level) -> None:
    now = 1_795_342_272_500_000_000
    second = now // 10**9 * 10**9
    written = RemoteObject("a", 0, second + seconds * 10**9, None)
    assert of_store._clock(written, now, now + 1000).level is level


class ReadOnlyStore(MemoryStore):
    """Rejects every write."""

    def write(self, *_: object, **__: object) -> RemoteObject:
        raise StoreDenied("you may not write", remedy="Ask for it.")


def test_read_only_store_is_not_an_error() -> None:
    found = store_findings(ReadOnlyStore())
    assert found["writing"].level is Level.WARNING
    assert found["writing"].remedy == "Ask for it."
    assert found["promises"].level is Level.NOTE
    assert "conditional create" not in found


class KeepingStore(MemoryStore):
    """Accepts deletions and does not carry them out."""

    def delete(self, *_: object, **__: object) -> None:
        pass


def test_store_that_cannot_delete_is_an_error() -> None:
    finding = store_findings(KeepingStore())["writing"]
    assert finding.level is Level.ERROR
    assert "not deleted" in finding.detail


class DistortingStore(MemoryStore):
    """Returns content that was never written, as a captive portal does."""

    @contextmanager
    def read(self, path: str, **_: object) -> Iterator[Reader]:  # type: ignore[override]
        portal = io.BytesIO(b"<html>Welcome</html>")
        yield portal  # type: ignore[misc]


def test_store_that_returns_other_bytes_is_an_error() -> None:
    finding = store_findings(DistortingStore())["writing"]
    assert finding.level is Level.ERROR
    assert "other bytes" in finding.detail


class UnsortedStore(MemoryStore):
    """Lists backwards, but reports a sorted listing."""

    def list(self, *arguments: object, **others: object) -> Iterator[RemoteObject]:  # type: ignore[override]
        for name in ("b", "a"):
            yield RemoteObject(name, 1, None, None)


def test_listing_out_of_order_is_an_error() -> None:
    assert store_findings(UnsortedStore())["listing"].level is Level.ERROR


def test_doctor_reports_every_store_feature() -> None:
    from dataclasses import fields

    from craftsync.stores.base import Features

    others = {"folders", "max_path_bytes", "lists_uploads", "host"}
    others |= {"cheap_stats", "renames", "writes_as", "signed_urls"}
    told = {promise.fact for promise in of_store.PROMISES} | others
    of_migrate_alone = {"raw_keys", "origin", "properties", "conditional_source"}
    assert told | of_migrate_alone == {field.name for field in fields(Features)}


def test_filesystem_of_a_folder_is_its_innermost_mount(tmp_path: Path) -> None:
    assert checks.filesystem_type(Path("/proc/self")) == "proc"
    assert (
        checks.filesystem_type(tmp_path / "not there")
        == checks.filesystem_type(tmp_path)
        != "unknown"
    )
    assert checks.is_network("nfs4")
    assert not checks.is_network("ext4")


def test_folder_count_follows_no_links_and_stops_at_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".craftsync" / "tmp").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path)
    assert checks.count_folders(tmp_path, most=100) == 3
    assert checks.count_folders(tmp_path, most=2) == 2


def test_symlink_in_place_of_the_craftsync_folder_is_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / ".craftsync").symlink_to(outside)
    found = {finding.name: finding for finding in examined("", root, checks.ROOT_CHECKS)}
    assert found["names"].level is Level.NOTE
    assert "swapping" not in found


def test_failed_store_check_includes_a_remedy() -> None:
    finding = failed("name", StoreError("it is so", remedy="Do this."))
    assert (finding.detail, finding.remedy, finding.exit_code) == ("it is so", "Do this.", 3)
