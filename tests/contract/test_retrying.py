"""The retry wrapper over stores that fail on purpose; what a lost answer on the wire does is in test_s3_faults."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from craftsync.clock import stamp
from craftsync.core.model import ABSENT, RemoteObject
from craftsync.core.paths import in_trash
from craftsync.errors import (
    ObjectNotFound,
    PreconditionFailed,
    StoreDenied,
    StoreUnavailable,
    UnknownHost,
)
from craftsync.serve.content import StoreWriter
from craftsync.stores.directory import DirectoryStore
from craftsync.stores.retrying import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, RetryingStore
from craftsync.stores.trash_copies import TrashCopy, left_in_trash
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import Bytes

LOST = StoreUnavailable("the answer was lost", ambiguous=True)
REFUSED = StoreUnavailable("the request did not arrive", ambiguous=False)
STAMP = "20260101T000000000000Z"


class Failing:
    """A store whose next calls fail: after they were carried out when the answer is lost, before otherwise."""

    def __init__(self, store: Any, **faults: list[Exception]) -> None:
        self._store = store
        self._faults = faults
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._store, name)
        if not callable(target):
            return target

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            fault = self._faults[name].pop(0) if self._faults.get(name) else None
            result = target(*args, **options) if fault in (None, LOST) else None
            if fault is not None:
                raise fault
            return result

        return call


def left_behind(store: RetryingStore) -> list[TrashCopy]:
    with left_in_trash(store) as copies:
        return copies


def patient(store: Failing, clock: FakeClock | None = None) -> RetryingStore:
    return RetryingStore(store, clock=clock or FakeClock(), rng=random.Random(0))  # type: ignore[arg-type]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DirectoryStore]:
    store = DirectoryStore.create(tmp_path / "store")
    yield store
    store.close()


def test_lost_write_is_recognized_by_content_without_metadata(
    directory: DirectoryStore,
) -> None:
    store = Failing(directory, write=[LOST])
    written = patient(store).write("a", Bytes(b"one", 10**18), expect=ABSENT, operation="op")
    assert written == directory.stat("a")
    assert store.calls == ["write", "stat", "read"]


def test_another_object_of_equal_size_and_time_is_not_the_lost_write(
    directory: DirectoryStore,
) -> None:
    directory.write("a", Bytes(b"two", 10**18), expect=ABSENT, operation="theirs")
    store = Failing(directory, write=[StoreUnavailable("no answer", ambiguous=True)])
    with pytest.raises(PreconditionFailed):
        patient(store).write("a", Bytes(b"one", 10**18), expect=ABSENT, operation="op")


def test_lost_write_is_unconfirmed_without_metadata_and_time(
    directory: DirectoryStore,
) -> None:
    store = Failing(directory, write=[LOST])
    with pytest.raises(PreconditionFailed):
        patient(store).write("a", Bytes(b"one"), expect=ABSENT, operation="op")


def test_object_of_equal_size_is_not_the_lost_write() -> None:
    memory = MemoryStore()
    memory.write("a", Bytes(b"old"), expect=None, operation="theirs")
    store = Failing(memory, write=[StoreUnavailable("no answer", ambiguous=True)])
    written = patient(store).write("a", Bytes(b"new"), expect=memory.stat("a"), operation="mine")
    assert written.operation == "mine"
    assert store.calls == ["write", "stat", "write"]


class Foreign(MemoryStore):
    """A store whose objects another tool wrote: they have no digest, time of the file or operation id."""

    def stat(self, path: str) -> RemoteObject | None:
        found = super().stat(path)
        return found and found._replace(digest=None, mtime_ns=None, operation=None)


class Bare(Foreign):
    """A store that keeps no metadata."""

    def __init__(self) -> None:
        super().__init__()
        self.features = replace(self.features, metadata=False)


def test_lost_write_is_recognized_by_content_without_a_time() -> None:
    bare = Bare()
    store = Failing(bare, write=[LOST])
    written = patient(store).write("a", Bytes(b"one", 10**18), expect=ABSENT, operation="mine")
    assert written == bare.stat("a")
    assert store.calls == ["write", "stat", "read"]


class Unversioned(Bare):
    """A store that tells versions apart by their time alone."""

    def stat(self, path: str) -> RemoteObject | None:
        found = super().stat(path)
        return found and found._replace(version=None)

    def _held(self, path: str, expect: RemoteObject | None) -> tuple[RemoteObject, bytes]:
        return super()._held(path, None)


def test_lost_write_over_an_object_without_a_version_is_recognized_by_content() -> None:
    store = Unversioned()
    store.write("a", Bytes(b"old"), expect=None, operation="theirs")
    failing = Failing(store, write=[LOST])
    replaced = store.stat("a")
    written = patient(failing).write("a", Bytes(b"new"), expect=replaced, operation="mine")
    assert written == store.stat("a")
    assert failing.calls == ["write", "stat", "read"]


def test_object_that_a_write_did_not_replace_is_not_read() -> None:
    bare = Bare()
    bare.write("a", Bytes(b"old"), expect=None, operation="theirs")
    store = Failing(bare, write=[StoreUnavailable("no answer", ambiguous=True)])
    patient(store).write("a", Bytes(b"new"), expect=bare.stat("a"), operation="mine")
    assert store.calls == ["write", "stat", "write"]


def test_object_without_metadata_is_not_read_where_the_store_keeps_it() -> None:
    foreign = Foreign()
    foreign.write("a", Bytes(b"old"), expect=None, operation="theirs")
    store = Failing(foreign, write=[StoreUnavailable("no answer", ambiguous=True)])
    patient(store).write("a", Bytes(b"new"), expect=None, operation="mine")
    assert "read" not in store.calls


def test_object_of_equal_size_is_not_the_lost_write_without_times() -> None:
    bare = Bare()
    bare.write("a", Bytes(b"two"), expect=ABSENT, operation="theirs")
    store = Failing(bare, write=[StoreUnavailable("no answer", ambiguous=True)])
    with pytest.raises(PreconditionFailed):
        patient(store).write("a", Bytes(b"one", 10**18), expect=ABSENT, operation="mine")


def test_a_repeated_write_leaves_the_version_kept_before_its_answer_was_lost() -> None:
    bare = Bare()
    bare.write("a", Bytes(b"old"), expect=None, operation="theirs")
    unreadable = PreconditionFailed("a changed while it was read.")
    store = patient(Failing(bare, write=[LOST, LOST], read=[unreadable, unreadable]))
    store.write("a", Bytes(b"new one"), expect=None, operation="mine", trash_stamp=STAMP)
    with bare.read(in_trash(STAMP, "a")) as kept:
        assert b"".join(kept) == b"old"
    found = [(STAMP, "a", 3), (f"{STAMP}-2", "a", 7), (f"{STAMP}-3", "a", 7)]
    assert left_behind(store) == found
    assert left_behind(store) == []


class Overtaken(MemoryStore):
    """A store in which another program replaces each object after it was kept, and before it is replaced."""

    def _check_expected(self, path: str, expect: Any) -> RemoteObject | None:
        current = super()._check_expected(path, expect)
        if current is not None:
            self._keep(path, current, STAMP)
            self._put(path, b"theirs", None, "theirs")
            raise PreconditionFailed(f"{path} changed in the store.")
        return current


def store_after_an_overtaken_write() -> RetryingStore:
    """Return a store in which a write failed and left its copy of the object in the trash."""
    overtaken = Overtaken()
    overtaken.write("a", Bytes(b"old"), expect=ABSENT, operation="theirs")
    store = patient(Failing(overtaken))
    with pytest.raises(PreconditionFailed):
        store.write("a", Bytes(b"new"), expect=None, operation="mine", trash_stamp=STAMP)
    return store


def test_a_copy_whose_original_was_replaced_by_others_is_reported() -> None:
    assert left_behind(store_after_an_overtaken_write()) == [(STAMP, "a", 3)]


def test_a_failed_delete_reports_no_copy_that_was_removed() -> None:
    memory = MemoryStore()
    memory.write("a", Bytes(b"old"), expect=ABSENT, operation="theirs")
    memory.write(in_trash(STAMP, "a"), Bytes(b"old"), expect=ABSENT, operation="theirs")
    store = patient(Failing(memory, delete=[StoreDenied("not permitted")]))
    with pytest.raises(StoreDenied):
        store.delete("a", expect=None, trash_stamp=STAMP)
    assert left_behind(store) == []


def test_copies_of_a_parent_are_not_those_of_its_forked_child() -> None:
    store = store_after_an_overtaken_write()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = len(left_behind(store))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert left_behind(store) == [(STAMP, "a", 3)]


def test_a_change_through_serve_notes_all_copies_in_the_trash() -> None:
    bare = Bare()
    bare.write("a", Bytes(b"old"), expect=None, operation="theirs")
    unreadable = PreconditionFailed("a changed while it was read.")
    failing = Failing(bare, write=[LOST, StoreDenied("not permitted")], read=[unreadable])
    noted: list[tuple[str, str, int]] = []
    clock = FakeClock()
    writer = StoreWriter(patient(failing), clock, lambda *copy: noted.append(copy))
    with pytest.raises(StoreDenied):
        writer.write("a", Bytes(b"new one"))
    assert noted == [(stamp(clock, days_ago=0), "a", 3)]


def test_a_later_copy_leaves_the_version_kept_before_an_answer_was_lost() -> None:
    bare = Bare()
    bare.write("a", Bytes(b"old"), expect=None, operation="theirs")
    bare.write("b", Bytes(b"new one"), expect=None, operation="theirs")
    store = patient(Failing(bare, copy=[LOST]))

    def copy_over(operation: str) -> None:
        source, current = bare.stat("b"), bare.stat("a")
        assert source is not None
        store.copy(source, "a", expect=current, operation=operation, trash_stamp=STAMP)

    with pytest.raises(PreconditionFailed):
        copy_over("first")
    copy_over("second")
    with bare.read(in_trash(STAMP, "a")) as kept:
        assert b"".join(kept) == b"old"


def test_a_repeated_delete_leaves_the_version_kept_before_its_answer_was_lost() -> None:
    memory = MemoryStore()
    memory.write("a", Bytes(b"old"), expect=None, operation="theirs")

    class Meanwhile(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if memory.stat("a") is None:
                memory.write("a", Bytes(b"another's"), expect=None, operation="theirs")

    failing = Failing(memory, delete=[LOST], stat=[REFUSED])
    patient(failing, Meanwhile()).delete("a", expect=None, trash_stamp=STAMP)
    with memory.read(in_trash(STAMP, "a")) as kept:
        assert b"".join(kept) == b"old"


def test_equal_content_under_another_operation_is_the_lost_write() -> None:
    memory = MemoryStore()
    memory.write("a", Bytes(b"same"), expect=None, operation="begun before a crash")
    store = Failing(memory, write=[StoreUnavailable("no answer", ambiguous=True)])
    written = patient(store).write("a", Bytes(b"same"), expect=ABSENT, operation="after")
    assert written.operation == "begun before a crash"


def test_unchanged_object_of_equal_content_is_not_the_lost_write() -> None:
    memory = MemoryStore()
    damaged = memory.write(
        "a", Bytes(b"same"), expect=None, operation="before its content went bad"
    )
    store = Failing(memory, write=[StoreUnavailable("no answer", ambiguous=True)])
    patient(store).write("a", Bytes(b"same"), expect=damaged, operation="the repair")
    now = memory.stat("a")
    assert now is not None and now.operation == "the repair"


def test_refused_write_is_retried_without_a_stat() -> None:
    store = Failing(MemoryStore(), write=[REFUSED, REFUSED])
    patient(store).write("a", Bytes(b"one"), expect=ABSENT, operation="op")
    assert store.calls == ["write", "write", "write"]


def test_failed_stat_is_retried_before_the_write() -> None:
    store = Failing(MemoryStore(), write=[LOST], stat=[REFUSED, REFUSED])
    patient(store).write("a", Bytes(b"one"), expect=ABSENT, operation="op")
    assert store.calls == ["write", "stat", "stat", "stat"]


class Late(MemoryStore):
    """A store that carries its first write out only when the second one arrives."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way: list[dict[str, Any]] = []

    def write(self, path: str, source: Any, **options: Any) -> Any:
        if not self._under_way:
            self._under_way.append(options)
            raise StoreUnavailable("no answer", ambiguous=True)
        super().write(path, source, **self._under_way[0])
        return super().write(path, source, **options)


def test_write_arriving_after_its_stat_is_still_recognized() -> None:
    store = Late()
    written = patient(Failing(store)).write("a", Bytes(b"x"), expect=ABSENT, operation="op")
    assert written == store.stat("a")


def test_immediate_precondition_failure_causes_no_stat() -> None:
    memory = MemoryStore()
    memory.write("a", Bytes(b"same"), expect=None, operation="theirs")
    store = Failing(memory)
    with pytest.raises(PreconditionFailed):
        patient(store).write("a", Bytes(b"same"), expect=ABSENT, operation="mine")
    assert store.calls == ["write"]


def test_a_read_is_retried_only_until_it_is_open() -> None:
    memory = MemoryStore()
    memory.write("a", Bytes(b"one"), expect=None, operation="op")
    store = Failing(memory, read=[REFUSED, REFUSED])
    with patient(store).read("a") as reader:
        assert b"".join(reader) == b"one"
    with pytest.raises(StoreUnavailable), patient(store).read("a"):
        raise StoreUnavailable("while it was read")
    assert store.calls == ["read"] * 4


@pytest.mark.parametrize("error", [StoreDenied("no"), ObjectNotFound("no"), UnknownHost("no")])
def test_permanent_errors_are_raised_at_once(error: Exception) -> None:
    store = Failing(MemoryStore(), stat=[error])
    with pytest.raises(type(error)):
        patient(store).stat("a")
    assert store.calls == ["stat"]


def test_retry_waits_are_random_with_doubling_bound() -> None:
    clock = FakeClock()
    store = RetryingStore(
        Failing(MemoryStore(), stat=[REFUSED] * 12),  # type: ignore[arg-type]
        clock=clock,
        attempts=13,
        rng=random.Random(1),
    )
    store.stat("a")
    bounds = [min(FIRST_WAIT_SECONDS * 2**n, LONGEST_WAIT_SECONDS) for n in range(12)]
    assert all(wait <= bound for wait, bound in zip(clock.slept, bounds, strict=True))
    assert max(clock.slept) > LONGEST_WAIT_SECONDS / 4
    assert len(set(clock.slept)) == 12


def test_prepare_and_barrier_are_retried() -> None:
    store = Failing(MemoryStore(), prepare=[REFUSED], barrier=[REFUSED])
    patient(store).prepare(None)
    patient(store).barrier()
    assert store.calls == ["prepare"] * 2 + ["barrier"] * 2
