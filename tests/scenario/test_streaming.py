"""A run over a folder, and a look for what changed, take no more memory for many files than for few."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import pytest

from craftsync.core.model import Action, BaselineRow, Kind, LocalFile, RemoteObject
from craftsync.daemon.changes import StoreDifferences, changed_in_folder, changed_in_store
from craftsync.engine.planner import Planner
from craftsync.engine.report import Options, ignore_events
from craftsync.engine.session import Session
from craftsync.engine.sides import FolderSide, StoreSide
from tests.support.memory_store import MemoryStore
from tests.support.world import World

FILES = 10_000
MIB = 1 << 20
"""A set of the paths alone takes more."""
VERSION = "1"


def named(number: int) -> str:
    # The names of one folder are sorted in memory, up to a bound.
    return f"f/{number // 500:03}/{number:06}"


class LargeStore(MemoryStore):
    """Holds an object for each file, all alike, and keeps none of them."""

    def list(self, prefix: str = "", **options: object) -> Iterator[RemoteObject]:
        return (RemoteObject(named(number), 0, 1, VERSION) for number in range(FILES))

    def stat(self, path: str) -> RemoteObject | None:
        return RemoteObject(path, 0, 1, VERSION)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Give an empty folder and a store of many objects that no last synced state knows."""
    with World(tmp_path, LargeStore()).open() as session:
        yield session


@pytest.fixture
def filled(session: Session) -> Session:
    """Give a folder of many files that the store and the last synced state know."""
    for number in range(FILES):
        file = Path(session.root.path, named(number))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with session.state.transaction():
        session.state.baseline.put(
            (*session.root.stat(named(number)), False, None, 1, VERSION, False, "")  # type: ignore[misc]
            for number in range(FILES)
        )
    return session


def peak_of(work: Callable[[], object]) -> tuple[object, int]:
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_event_for_a_large_folder_is_processed_as_a_stream(filled: Session) -> None:
    session = filled
    rules = session.rules(Options())
    found, peak = peak_of(lambda: changed_in_folder(session, rules, ["f"], 1_000))
    assert found == set()
    assert peak < MIB


def test_a_poll_of_a_large_store_keeps_no_objects(session: Session) -> None:
    rules = session.rules(Options())
    (found, new), peak = peak_of(
        lambda: changed_in_store(session, rules, StoreDifferences(), 1_000)
    )  # type: ignore[misc]
    assert (new, found.number) == (None, FILES)
    assert peak < 2.5 * MIB  # A digest and a version of each.
    # Nothing is new at the next poll, and another object is.
    assert changed_in_store(session, rules, found, 1_000) == (found, set())
    with session.state.transaction():
        session.state.baseline.put([("g", 0, 0, 0, 0, False, None, 1, VERSION, False, "")])  # type: ignore[list-item]
    assert changed_in_store(session, rules, found, 1_000)[1] == {"g"}


def test_a_run_over_a_large_folder_is_planned_file_by_file(filled: Session) -> None:
    session = filled
    planner = Planner(
        FolderSide(session.root, session.rules(Options())),
        StoreSide(session.store),
        session.state,
        Options(),
        ignore_events,
        session.clock.now_ns(),
    )
    planned, peak = peak_of(lambda: planner.plan(["f"]))
    assert planned.unchanged == FILES  # type: ignore[attr-defined]
    assert peak < 3.5 * MIB  # Buffers, however many files there are.


def test_too_many_changed_paths_are_not_collected_in_memory(filled: Session) -> None:
    session = filled
    rules = session.rules(Options())
    for number in range(FILES):
        Path(session.root.path, named(number)).unlink()
    found, peak = peak_of(lambda: changed_in_folder(session, rules, ["f"], 1_000))
    assert found is None
    assert peak < MIB


def test_many_renamed_files_are_planned_within_bounded_memory(session: Session) -> None:
    state = session.state

    def renamed(number: int) -> Iterator[Action]:
        """Yield the delete and the upload of which a renamed file consists."""
        file = LocalFile(f"g/{number:06}", 1, number, 3, number)
        yield Action(Kind.DELETE_REMOTE, named(number), "deleted")
        yield Action(Kind.UPLOAD, file.path, "new", file)

    with state.transaction():
        state.baseline.put(
            BaselineRow(named(number), 1, number, 3, number, False, None, 1, VERSION, False)
            for number in range(FILES)
        )
        state.plan.begin(by_operation=True)
        state.plan.add(step for number in range(FILES) for step in renamed(number))

    def paired() -> Container[str]:
        with state.transaction():
            state.moves.pair(by_version=False)
        return state.moves.leaving()

    leaving, peak = peak_of(paired)
    assert state.plan.count(Kind.MOVE_REMOTE) == FILES
    assert isinstance(leaving, Container)
    assert [path in leaving for path in (named(0), named(FILES - 1), "g/000000")] == [1, 1, 0]
    assert peak < MIB // 4
