"""Makes, runs and shortens histories."""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.simulator.author import NEWER, Author
from tests.simulator.bucket import SERVERS
from tests.simulator.migrating import INTO, Migrating
from tests.simulator.steps import Run, Step
from tests.simulator.store import PERSONALITIES
from tests.simulator.world import FOLDER, World, make_template

STEPS = 50
_SHARE_OF_MIGRATIONS = 0.15
"""Share of histories that migrate one store into another."""
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class History:
    """Everything that a run of the simulator depends on; prints as the code that makes it."""

    seed: int
    clients: int
    personality: str
    steps: tuple[Step, ...]
    keep: tuple[float | None, ...] = (None,)
    """Retention of each client's trash in seconds, `None` for ever; the last one holds for all further clients."""

    def __str__(self) -> str:
        lines = "\n".join(f"        {step}," for step in self.steps)
        return (
            f"History(\n    seed={self.seed}, clients={self.clients},"
            f" personality={self.personality!r}, keep={self.keep},\n    steps=(\n{lines}\n    ),\n)"
        )


def history_of(seed: int, steps: int = STEPS) -> History:
    """Return the random history of a seed."""
    chance = Random(seed)
    clients, personality = (
        chance.choice((1, 2, 2, 3)),
        chance.choice((*sorted(PERSONALITIES), *sorted(SERVERS), FOLDER)),
    )
    if chance.random() < _SHARE_OF_MIGRATIONS:
        personality += INTO + chance.choice((*sorted(PERSONALITIES), *sorted(SERVERS), FOLDER))
        clients = 1
    keep = tuple(chance.choice((None, 3_600.0, 40_000.0, 100_000.0)) for _ in range(clients))
    if chance.random() < 0.6:
        keep = (None,)
    author = Author(chance.getrandbits(32), clients, newer=seed >= NEWER)
    return History(seed, clients, personality, tuple(author.history(steps)), keep)


@contextmanager
def workplace() -> Iterator[Path]:
    """Yield a folder, in memory if possible, with an empty state database as a template."""
    place = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="simulator-", dir=place) as name:
        make_template(Path(name) / "template.db")
        yield Path(name)


def play(history: History, place: Path, trace: Callable[[str], None] | None = None) -> World:
    """Carry out a history until it is at rest. Raises `Violation`, or whatever craftsync raised."""
    kind = Migrating if INTO in history.personality else World
    with tempfile.TemporaryDirectory(dir=place) as folder:
        world = kind(
            Path(folder),
            clients=history.clients,
            personality=history.personality,
            seed=history.seed,
            template=place / "template.db",
            keep=history.keep,
            trace=trace,
        )
        with world.installed():
            for step in history.steps:
                world.step(step)
            world.settle()
        return world


def trace_hash(history: History, place: Path) -> str:
    """Return a hash of all effects of a history, in their order."""
    traced = sha256()
    play(history, place, lambda line: traced.update(line.encode() + b"\n"))
    return traced.hexdigest()


def failure(history: History, place: Path) -> str | None:
    """Return the error of a history in one line; `None` if it has none."""
    try:
        play(history, place)
    except Exception as error:  # noqa: BLE001 (any error is a finding)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    return None


def shrink(history: History, place: Path) -> History:
    """Return the shortest history found that fails in the same way, by leaving out steps and disturbances.

    A history without a failure is returned unchanged.
    """
    kind = _kind_of_failure(failure(history, place))
    if kind is None:
        return history

    def fails(steps: Sequence[Step]) -> bool:
        return _kind_of_failure(failure(replace(history, steps=tuple(steps)), place)) == kind

    steps = _leave_out(list(history.steps), fails)
    for number, step in enumerate(steps):
        if isinstance(step, Run):

            def fails_with(mods: Sequence[object], number: int = number, step: Run = step) -> bool:
                run = replace(step, mods=tuple(mods))  # type: ignore[arg-type]
                return fails([*steps[:number], run, *steps[number + 1 :]])

            mods = _leave_out(list(step.mods), fails_with)
            steps[number] = replace(step, mods=tuple(mods))
    return replace(history, steps=tuple(_leave_out(steps, fails)))


def _leave_out(items: list, fails: Callable[[list], bool]) -> list:  # type: ignore[type-arg]
    """Leave out as many items as possible: first half of them at once, in the end one by one."""
    size = max(1, len(items) // 2)
    while items:
        for start in range(len(items) - size, -1, -size):
            shorter = items[:start] + items[start + size :]
            if fails(shorter):
                items = shorter
        if size == 1:
            return items
        size //= 2
    return items


def _kind_of_failure(message: str | None) -> str | None:
    """Return what failures of one kind have in common: the message without paths, numbers and contents."""
    return None if message is None else re.sub(r"b'.*?'|\S*/\S*|\d+", "", message)
