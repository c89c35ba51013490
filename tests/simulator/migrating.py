"""A migration from store to store while users change both: it is killed, fails, resumes, and ends complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

from craftsync.core.model import Policy
from craftsync.engine.report import Options
from craftsync.errors import StoreUnavailable
from craftsync.migrate.migration import Migration
from craftsync.migrate.options import MigrationOptions, MigrationReport, Verify
from craftsync.state.migration import MigrationState
from tests.simulator.bucket import SERVERS, SimulatedBucket
from tests.simulator.judge import Violation
from tests.simulator.pages import PAGES
from tests.simulator.people import OLD_TIME
from tests.simulator.steps import Act, Change, Crash, Disaster, Run, Step, are_at_odds
from tests.simulator.store import is_own
from tests.simulator.world import PowerCut, ShuffledPool, World
from tests.support.world import Bytes

INTO = " into "
"""Stands between the personalities of source and target."""
_RUNS = 5
"""Runs after which nothing may be left to copy."""


class Migrating(World):
    """A source, a target, and the state of the migration between them. Users write to both."""

    daemon = None

    def __init__(
        self, folder: Path, *, personality: str, seed: int, trace: Any, **_: object
    ) -> None:
        source, target = personality.split(INTO)
        super().__init__(
            folder, clients=0, personality=target, seed=seed, template=folder, trace=trace
        )
        if source in SERVERS and isinstance(self.store, SimulatedBucket):
            self.source: Any = self.store.sibling("source/")
        else:
            self.source = self._make_store(source, "source")
        self._state = folder / "migration"
        self._written: set[bytes] = set()
        self._damaged: set[bytes] = set()
        """Contents of the source that a power cut has damaged."""
        self._in_source: dict[str, bytes] = {}
        """What the source must hold: only users change it."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        alone = isinstance(self.source, SimulatedBucket)
        with super().installed(), self.source.installed() if alone else nullcontext():
            yield

    def step(self, step: Step) -> None:
        if isinstance(step, Run):
            self._run_once(step)
        elif not isinstance(step, Disaster | Change):
            super().step(step)

    def act(self, act: Act) -> None:
        self.trace(f"  {act}")
        side = self.source if act.side < 0 else self.store
        if any(are_at_odds(act.path, path) for path in (*_shown(self.source), *_shown(self.store))):
            return
        if act.what in ("write", "put over"):
            self._written.add(act.content)
            mtime = OLD_TIME if act.how == "old time" else self.clock.now_ns()
            side.put(act.path, Bytes(act.content, mtime))
        elif act.path in side.contents():
            side.remove(act.path)
        self._in_source, self._known_contents = _shown(self.source), self.all_contents()

    def all_contents(self) -> set[bytes]:
        return set(self.store.contents().values())

    def settle(self) -> None:
        """Run the migration until nothing is left to copy; then the target must hold all of the source."""
        self.trace("at rest")
        for side in (self.source, self.store):
            if isinstance(side, SimulatedBucket):
                side.calm()
        for _ in range(_RUNS):
            self.clock.advance(60.0)
            report = self._run_once(Run(0))
            if report is None or report.exit_code:
                raise Violation(f"an undisturbed run reports {report}")
            if not report.copied:
                break
        else:
            raise Violation("it does not come to rest")
        target = _shown(self.store)
        for path, content in self._in_source.items():
            # A file of the source that a power cut damaged keeps the size and time that were copied.
            if target.get(path) != content and content not in self._damaged:
                raise Violation(
                    f"{path} is {content!r} in the source, {target.get(path)!r} in the target"
                )

    def _run_once(self, plan: Run) -> MigrationReport | None:
        self.clock.advance(1e-3)  # No two runs begin in the same microsecond.
        self._prepare_run(plan)
        self._running = self  # type: ignore[assignment]
        before = _shown(self.store)
        self._in_source = _shown(self.source)
        try:
            report = self._migrated(plan)
        except PowerCut:
            self._after_death()
            return None
        except StoreUnavailable as error:
            self.trace(f"  broken off: {error}")
            return None
        finally:
            self._running = None
        kept = {path for path in before if path not in self._in_source}
        if not plan.delete and not plan.mods and kept - _shown(self.store).keys():
            raise Violation("an object that only the target has was deleted")
        return report

    def _migrated(self, plan: Run) -> MigrationReport:
        chance = Random(self.chance.random())
        verify = Verify.FULL if plan.mode == "push" else Verify.CHECKSUM
        options = MigrationOptions(
            Options(policy=Policy(delete=plan.delete), transfers=4),
            verify=verify,
            server_side=plan.mode != "pull",
        )
        state = MigrationState.open(self._state)
        source, target = (self._connect(side, chance) for side in (self.source, self.store))
        try:
            migration = Migration(
                source, target, state, self._state, self.clock, lambda _: ShuffledPool(chance)
            )
            report = migration.run(options, self.on_event)
            self._must_be_alive()
            return report
        finally:
            state.close()
            source.close()
            target.close()

    def _check_contents(self, what: str) -> None:
        if _shown(self.source) != self._in_source:
            raise Violation(f"the source changed in {what}")
        contents = self.all_contents()
        if lost := self._known_contents - contents - set(self.source.contents().values()):
            raise Violation(f"lost in {what}: {sorted(lost)}")
        if torn := set(_shown(self.store).values()) - self._written:
            raise Violation(f"torn: the target shows {sorted(torn)}")
        self._known_contents = contents

    def _hide_objects(self) -> None:
        """Record that two pages hide objects of the target: those of the source may overwrite them."""
        if isinstance(self.store, SimulatedBucket) and not self.store.checks_conditions:
            target = _shown(self.store)
            self._known_contents -= {target[path] for path in target.keys() & self._in_source}

    def _take_in_lost_writes(self) -> None:
        """Expect nothing: the next run copies what the target lost."""
        if isinstance(self.store, SimulatedBucket):
            self.store.lost_writes.clear()

    def _is_in_a_window(self, act: Act, what: str) -> bool:
        if act.side < 0 or self._will_be_noticed(act, what):
            return False
        copies = isinstance(self.source, SimulatedBucket) and self.current_run.mode != "pull"
        looks = isinstance(self.store, SimulatedBucket) and not self.store.checks_conditions
        return copies or looks  # A copy by the server replaces without a condition.

    def _die(self, crash: Crash) -> None:
        self.trace(f"  {'the power is cut' if crash.cut else 'the process is killed'}")
        self._power_is_cut, self._is_dead = crash.cut, True
        saved = self._folder / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(self._state, saved)
        if crash.cut:
            PAGES.lose_unflushed(self._state, saved, self.chance)
        raise PowerCut

    def _after_death(self) -> None:
        shutil.rmtree(self._state)
        PAGES.forget(self._state)
        shutil.copytree(self._folder / "saved", self._state)
        (self._state / "state.db-shm").unlink(missing_ok=True)
        self.kernel.end_process()
        self._is_dead = False
        if self._power_is_cut:
            self.kernel.boots[self.kernel.owner] += 1
            for disk in self.kernel.disks.values():
                disk.lose_unflushed(self.chance)
            self._damaged |= set(_shown(self.source).values()) - self._written
            self._written |= set(_shown(self.store).values()) | set(_shown(self.source).values())
        self._in_source, self._known_contents = _shown(self.source), self.all_contents()


def _shown(side: Any) -> dict[str, bytes]:
    return {path: content for path, content in side.contents().items() if not is_own(path)}
