"""Runs histories, finds the shortest one that still fails, and prints it."""

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
_MIGRATIONS = 0.15
"""Share of histories in which one store is migrated into another."""
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class History:
    """All that decides what happens."""

    seed: int
    clients: int
    personality: str
    steps: tuple[Step, ...]
    keep: tuple[float | None, ...] = (None,)
    """Seconds each client keeps what it displaced, `None` for ever; the last one is that of all others."""

    def __str__(self) -> str:
        lines = "\n".join(f"        {step}," for step in self.steps)
        return (
            f"History(\n    seed={self.seed}, clients={self.clients},"
            f" personality={self.personality!r}, keep={self.keep},\n    steps=(\n{lines}\n    ),\n)"
        )


def made_up(seed: int, steps: int = STEPS) -> History:
    """Return the history of a seed."""
    chance = Random(seed)
    clients, personality = (
        chance.choice((1, 2, 2, 3)),
        chance.choice((*sorted(PERSONALITIES), *sorted(SERVERS), FOLDER)),
    )
    if chance.random() < _MIGRATIONS:
        personality += INTO + chance.choice((*sorted(PERSONALITIES), *sorted(SERVERS), FOLDER))
        clients = 1
    keep = tuple(chance.choice((None, 3_600.0, 40_000.0, 100_000.0)) for _ in range(clients))
    if chance.random() < 0.6:
        keep = (None,)
    author = Author(chance.getrandbits(32), clients, newer=seed >= NEWER)
    return History(seed, clients, personality, tuple(author.history(steps)), keep)


@contextmanager
def workplace() -> Iterator[Path]:
    """Yield a folder in memory, with the template of a state database."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="simulator-", dir=place) as name:
        make_template(Path(name) / "template.db")
        yield Path(name)


def play(history: History, place: Path, trace: Callable[[str], None] | None = None) -> World:
    """Let a history happen and come to rest; raises what was wrong."""
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
    """Return what stands for all effects of a history, in their order."""
    traced = sha256()
    play(history, place, lambda line: traced.update(line.encode() + b"\n"))
    return traced.hexdigest()


def failure(history: History, place: Path) -> str | None:
    """Return what is wrong with a history, in one line."""
    try:
        play(history, place)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
        place_of = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place_of.filename).name}:{place_of.lineno})"
    return None


def shrunk(history: History, place: Path) -> History:
    """Return the shortest history found that fails in the same way."""
    kind = _kind(failure(history, place))

    def fails(steps: Sequence[Step]) -> bool:
        return _kind(failure(replace(history, steps=tuple(steps)), place)) == kind

    steps = _without(list(history.steps), fails)
    for number, step in enumerate(steps):
        if isinstance(step, Run):

            def fails_with(mods: Sequence[object], number: int = number, step: Run = step) -> bool:
                run = replace(step, mods=tuple(mods))  # type: ignore[arg-type]
                return fails([*steps[:number], run, *steps[number + 1 :]])

            mods = _without(list(step.mods), fails_with)
            steps[number] = replace(step, mods=tuple(mods))
    return replace(history, steps=tuple(_without(steps, fails)))


def _without(items: list, fails: Callable[[list], bool]) -> list:  # type: ignore[type-arg]
    """Leave out as many items as can be, first many at once."""
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


def _kind(wrong: str | None) -> str | None:
    """Return what failures of one kind have in common: the words, without names and contents."""
    return None if wrong is None else re.sub(r"b'.*?'|\S*/\S*|\d+", "", wrong)
