"""A store that is migrated into another while people work in both: killed, failed, resumed, and right in the end."""

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
from tests.simulator.judge import Wrong
from tests.simulator.pages import PAGES
from tests.simulator.people import OLD_TIME
from tests.simulator.steps import Act, Change, Crash, Disaster, Run, Step, are_at_odds
from tests.simulator.store import is_own
from tests.simulator.world import PowerCut, ShuffledPool, World
from tests.support.world import Bytes

INTO = " into "
"""Between the personalities of source and target."""
_RUNS = 5
"""Within which all must be over."""


class Migrating(World):
    """A source, a target, and what is remembered of the way between them. People write in both."""

    life = None

    def __init__(
        self, folder: Path, *, personality: str, seed: int, trace: Any, **_: object
    ) -> None:
        source, target = personality.split(INTO)
        super().__init__(
            folder, clients=0, personality=target, seed=seed, template=folder, trace=trace
        )
        if source in SERVERS and isinstance(self.store, SimulatedBucket):
            self.source: Any = self.store.beside("source/")
        else:
            self.source = self._made_store(source, "source")
        self._state = folder / "migration"
        self._written: set[bytes] = set()
        self._spoilt: set[bytes] = set()
        """What power cuts have left in the source of what its writers had not flushed."""
        self._unread: dict[str, bytes] = {}
        """What the source shows, which nothing but people changes."""

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
        self.say(f"  {act}")
        side = self.source if act.side < 0 else self.store
        if any(are_at_odds(act.path, path) for path in (*_shown(self.source), *_shown(self.store))):
            return
        if act.what in ("write", "put over"):
            self._written.add(act.content)
            mtime = OLD_TIME if act.how == "old time" else self.clock.now_ns()
            side.put(act.path, Bytes(act.content, mtime))
        elif act.path in side.contents():
            side.take(act.path)
        self._unread, self._contents = _shown(self.source), self.all_contents()

    def all_contents(self) -> set[bytes]:
        return set(self.store.contents().values())

    def settle(self) -> None:
        """Let the migration run until nothing is left to do; then the target holds all that the source does."""
        self.say("at rest")
        for side in (self.source, self.store):
            if isinstance(side, SimulatedBucket):
                side.calm()
        for _ in range(_RUNS):
            self.clock.advance(60.0)
            report = self._run_once(Run(0))
            if report is None or report.exit_code:
                raise Wrong(f"a run without trouble reports {report}")
            if not report.copied:
                break
        else:
            raise Wrong("it does not come to rest")
        there = _shown(self.store)
        for path, content in self._unread.items():
            # What a power cut spoilt in the source has the size and time of what was copied.
            if there.get(path) != content and content not in self._spoilt:
                raise Wrong(
                    f"{path} is {content!r} in the source, {there.get(path)!r} in the target"
                )

    def _run_once(self, plan: Run) -> MigrationReport | None:
        self.clock.advance(1e-3)  # No two runs begin in the same microsecond.
        self._begin(plan)
        self._running = self  # type: ignore[assignment]
        before = _shown(self.store)
        self._unread = _shown(self.source)
        try:
            report = self._migrated(plan)
        except PowerCut:
            self._after_death()
            return None
        except StoreUnavailable as error:
            self.say(f"  broken off: {error}")
            return None
        finally:
            self._running = None
        kept = {path for path in before if path not in self._unread}
        if not plan.delete and not plan.mods and kept - _shown(self.store).keys():
            raise Wrong("what only the target holds was deleted")
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
        source, target = (self._connected(side, chance) for side in (self.source, self.store))
        try:
            migration = Migration(
                source, target, state, self._state, self.clock, lambda _: ShuffledPool(chance)
            )
            report = migration.run(options, self.listen)
            self._must_be_alive()
            return report
        finally:
            state.close()
            source.close()
            target.close()

    def _look(self, what: str) -> None:
        if _shown(self.source) != self._unread:
            raise Wrong(f"the source changed in {what}")
        contents = self.all_contents()
        if lost := self._contents - contents - set(self.source.contents().values()):
            raise Wrong(f"lost in {what}: {sorted(lost)}")
        if torn := set(_shown(self.store).values()) - self._written:
            raise Wrong(f"torn: the target shows {sorted(torn)}")
        self._contents = contents

    def _hear_lies(self) -> None:
        """What was never stored is copied by the next run."""
        if isinstance(self.store, SimulatedBucket):
            self.store.lied.clear()

    def _is_in_a_window(self, act: Act, what: str) -> bool:
        if act.side < 0 or self._is_noticed(act, what):
            return False
        copies = isinstance(self.source, SimulatedBucket) and self.now.mode != "pull"
        looks = isinstance(self.store, SimulatedBucket) and not self.store.checks_conditions
        return copies or looks  # A copy by the server replaces without a condition.

    def _die(self, crash: Crash) -> None:
        self.say(f"  {'the power is cut' if crash.cut else 'the process is killed'}")
        self._cut, self._dead = crash.cut, True
        saved = self._folder / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(self._state, saved)
        if crash.cut:
            PAGES.lose(self._state, saved, self.chance)
        raise PowerCut

    def _after_death(self) -> None:
        shutil.rmtree(self._state)
        PAGES.forget(self._state)
        shutil.copytree(self._folder / "saved", self._state)
        (self._state / "state.db-shm").unlink(missing_ok=True)
        self.kernel.end_process()
        self._dead = False
        if self._cut:
            self.kernel.boots[self.kernel.owner] += 1
            for disk in self.kernel.disks.values():
                disk.lose(self.chance)
            self._spoilt |= set(_shown(self.source).values()) - self._written
            self._written |= set(_shown(self.store).values()) | set(_shown(self.source).values())
        self._unread, self._contents = _shown(self.source), self.all_contents()


def _shown(side: Any) -> dict[str, bytes]:
    return {path: content for path, content in side.contents().items() if not is_own(path)}
