"""`craftsync put`, `cp`, `mv` and `rm`: commands on single objects beside the runs.

For the judge, the user changes these objects himself. But nothing may be lost, and
no other path may change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from craftsync import datastore, objects
from craftsync.config.places import DirectoryLocation
from craftsync.core.retention import Reserve
from craftsync.datastore import DataStore
from craftsync.engine.report import Report
from craftsync.errors import CraftsyncError, StoreUnavailable
from craftsync.objects import copying
from craftsync.stores.base import Store
from tests.simulator.determinism import replaced
from tests.simulator.judge import Violation
from tests.simulator.steps import Act, Run, are_at_odds
from tests.support.world import Bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulator.client import Client
    from tests.simulator.world import World


class _OpenedStore(DataStore):
    """A `DataStore` whose store is one of the simulator's."""

    def __init__(self, store: Store, place: Path, state_dir: Path) -> None:
        self._set_up("the store", DirectoryLocation(place, Reserve()), Reserve(), state_dir)
        self._opened = store


def carry_out(world: World, client: Client, run: Run) -> Report:
    """Carry out one of `steps.OBJECTS`; raise `Violation` if it fails or does anything else undisturbed."""
    report, before = Report(run.what), dict(world.store.contents())
    if _cannot_work(run, before):
        return report
    content = Act("write", 0, run.path, run.token).content
    if run.what == "put":
        world.judge.written.add(content)
    expected = _expected_result(run, before, content)
    store = world.connect(Random(world.chance.random()))
    with _deterministic(world, content):
        data = _OpenedStore(store, client.state_dir / "store", client.state_dir)
        try:
            _call(data, run)
        except StoreUnavailable:
            raise
        except CraftsyncError as error:
            if not run.mods:
                raise Violation(f"{run.what} failed undisturbed: {error}") from error
            world.trace(f"  failed: {error}")
            return report
        finally:
            store.close()
    now = world.store.contents()
    if not run.mods and any(now.get(path) != what for path, what in expected.items()):
        raise Violation(
            f"{run} left { ({path: now.get(path) for path in expected}) }, not {expected}"
        )
    return report


def may_change(run: Run) -> tuple[str, ...]:
    """Return the paths that a command on single objects may change."""
    return {"cp": (run.target,), "mv": (run.path, run.target)}.get(run.what, (run.path,))


def _cannot_work(run: Run, stored: dict[str, bytes]) -> bool:
    if run.what != "put" and run.path not in stored:
        return True
    target = run.target or run.path
    if run.what in ("cp", "mv") and run.path == target:
        return True
    return run.what != "rm" and any(are_at_odds(target, path) for path in stored)


def _expected_result(run: Run, stored: dict[str, bytes], content: bytes) -> dict[str, bytes | None]:
    match run.what:
        case "put":
            return {run.path: content}
        case "cp":
            return {run.path: stored[run.path], run.target: stored[run.path]}
        case "mv":
            return {run.path: None, run.target: stored[run.path]}
    return {run.path: None}


def _call(data: DataStore, run: Run) -> None:
    match run.what:
        case "put":
            data.upload_data_store_object("", run.path)
        case "cp":
            objects.copy(data, run.path, data, run.target)
        case "mv":
            objects.move(data, run.path, data, run.target)
        case "rm":
            objects.remove(data, run.path)


@contextmanager
def _deterministic(world: World, content: bytes) -> Iterator[None]:
    @contextmanager
    def source_of(_: Any) -> Iterator[Bytes]:
        yield Bytes(content, world.clock.now_ns())

    def token(size: int) -> str:
        return world.chance.randbytes(size).hex()

    with replaced(
        (datastore, "SystemClock", lambda: world.clock),
        (copying, "SystemClock", lambda: world.clock),
        (datastore, "token_hex", token),
        (copying, "token_hex", token),
        (datastore, "source_of", source_of),
    ):
        yield
