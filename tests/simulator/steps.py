"""The steps of a history: values that print as code, so that a failing history can be pasted into a test."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from craftsync.core.filters import Filter, Listed

PATHS = ("a", "b", "c.txt", "d/x", "d/y", "e/f/z")
FOLDERS = ("d", "e", "e/f")
"""Which are now and then a file."""
STORE = -1


@dataclass(frozen=True)
class Act:
    """What a person does on one side (`STORE` or the number of a client).

    `what` is write, remove or move (to `target`), or with a folder "remove all" or "move all"; `how` a write is done: in
    place, as a new file, with an old time, or with the time that was there.
    Within a run, `at` says at which effect.
    """

    what: str
    side: int
    path: str
    token: int = 0
    how: str = "in place"
    target: str = ""
    at: int = 0

    @property
    def content(self) -> bytes:
        """All of one size, but for every seventh, which is large."""
        return b"%08d" % self.token + b"+" * (72 if self.token % 7 == 0 else 0)


@dataclass(frozen=True)
class Crash:
    """The process dies at an effect; with `cut` the machine does, too."""

    at: int
    cut: bool = False


@dataclass(frozen=True)
class Fail:
    """The requests from the `first` on fail, `count` of them: before they are carried out, or after.

    `doubt`: the client is not told which. `kind` is one of `KINDS`, and for S3 alone.
    """

    first: int
    count: int = 1
    after: bool = False
    doubt: bool = False
    kind: str = ""


KINDS = (
    *("", "", "", ""),
    "error",  # 500, whether it was carried out or not
    "throttled",
    "portal",  # 200, from somebody who is not the store
    "cut",  # The body ends in its middle.
    "truncated",  # A page of a listing says that it is the last.
    "repeated",  # A page of a listing comes again.
    "lie",  # A write is acknowledged, and nothing is stored.
)


@dataclass(frozen=True)
class Wait:
    """Time passes; with `jump` the wall clock alone is set, forward or back. Within a run, `at` says at which effect."""

    seconds: float
    jump: bool = False
    at: int = 0


@dataclass(frozen=True)
class Run:
    """A client runs once; `mods` happen meanwhile. A `daemon` goes on living, and does what is due by now.

    `beside` a daemon that lives, a run is refused. `mode` is that of `core.model.Mode`,
    and with `delete` a push or a pull deletes as well.
    """

    client: int
    mods: tuple[Act | Crash | Fail | Wait, ...] = field(default=())
    daemon: bool = False
    beside: bool = False
    mode: str = "two-way"
    delete: bool = False
    filter: str = ""
    """One of `FILTERS`."""
    what: str = ""
    """In place of a run one of `COMMANDS`, for all or for a path."""
    path: str = ""
    limit: int | None = None
    """Deletes that it carries out unasked; by default as many as craftsync does."""


COMMANDS = (
    *("dry run", "check", "plan", "apply", "approve", "reject"),
    *("restore", "restore over", "undo", "undo over"),
    *("keep local", "keep remote", "keep newer", "keep both"),
)
"""What people do with commands besides runs; see `commands`."""


LISTED = Listed(frozenset(PATHS[::2]))
FILTERS = {
    "": Filter(),
    "list": Filter(listed=LISTED),
    "existing": Filter(existing=True),
    "ignore existing": Filter(ignore_existing=True),
    "size": Filter(max_size=40),
    "age": Filter(max_age=100 * 10**9),
}


@dataclass(frozen=True)
class Disaster:
    """What befalls a client or the store: one of `DISASTERS`."""

    what: str
    client: int = 0


DISASTERS = (
    "state saved",
    "state rolled back",
    "state lost",
    "store saved",
    "store restored",
    "folder not the one it was",
    "folder without identity",
    "store without identity",
)
Step = Act | Run | Wait | Disaster


_FOR_ALL = (
    "dry run",
    "check",
    "plan",
    "apply",
    "keep local",
    "keep remote",
    "keep newer",
    "keep both",
)
_WAITS = (0.001, 1.0, 5.0, 90.0, 700.0)
_LONG_WAITS = (1.0, 700.0, 2_000.0, 4_000.0, 50_000.0, 90_000.0)
"""In which the trash ends its retention."""


class Author:
    """Makes up histories by chance."""

    def __init__(self, seed: int, clients: int) -> None:
        self._chance = Random(seed)
        self._clients = clients
        self._token = 0
        self._filters = Random(~seed)
        self._commanding = Random(seed ^ 0x5EED)
        self._commands = self._commanding.random() < 0.5
        self._tidying = Random(seed ^ 0xF01DE5)
        self._folders = self._tidying.random() < 0.4
        self._limit = self._commanding.choice((None, 0, 0, 1)) if self._commands else None
        self._jumps = self._chance.random() < 0.2
        self._one_way = self._chance.random() < 0.2
        self._long_waits = self._chance.random() < 0.25
        self._daemons = self._chance.random() < 0.4
        self._disasters = self._chance.random() < 0.25

    def history(self, steps: int) -> list[Step]:
        return [self._step() for _ in range(steps)]

    def _step(self) -> Step:
        roll = self._chance.random()
        if roll < 0.62:
            return self._act()
        if roll < 0.65 and self._disasters and self._chance.random() < 0.6:
            return Disaster(self._chance.choice(DISASTERS), self._chance.randrange(self._clients))
        if roll < 0.66 and self._jumps and self._chance.random() < 0.5:
            return self._jump()
        if roll < (0.70 if self._long_waits else 0.66):
            return Wait(self._chance.choice(_LONG_WAITS if self._long_waits else _WAITS))
        client = self._chance.randrange(self._clients)
        daemon = self._daemons and self._chance.random() < 0.9
        beside = self._daemons and self._chance.random() < 0.05
        if self._commands and not daemon and self._commanding.random() < 0.6:
            return self._command(client)
        mode, delete = "two-way", False
        if self._one_way and not daemon:
            mode = self._chance.choice(("two-way", "push", "pull"))
            delete = mode != "two-way" and self._chance.random() < 0.5
        may_filter = mode != "two-way" and not delete
        filter = self._filters.choice((*FILTERS, "")) if may_filter else ""
        if filter == "age" and mode == "pull":
            filter = ""  # The store here does not say what time it is.
        mods = tuple(self._mods())
        limit = None if daemon else self._limit
        return Run(client, mods, daemon, beside, mode, delete, filter, limit=limit)

    def _command(self, client: int) -> Run:
        chance = self._commanding
        what = chance.choice((*COMMANDS, "approve", "reject", "plan", "apply"))
        mods = self._mods()
        if what in ("dry run", "check", "plan"):
            mods = []
        path = chance.choice((*PATHS, "d", "", "", "")) if what not in _FOR_ALL else ""
        return Run(client, tuple(mods), what=what, path=path)

    def _jump(self, at: int = 0) -> Wait:
        return Wait(self._chance.choice((-90_000.0, -5.0, 5.0, 90_000.0)), jump=True, at=at)

    def _mods(self) -> list[Act | Crash | Fail | Wait]:
        chance, mods = self._chance, list[Act | Crash | Fail | Wait]()
        if self._jumps and chance.random() < 0.1:
            mods.append(self._jump(chance.randint(1, 60)))
        roll = chance.random()
        if roll < 0.25:
            mods.append(Crash(chance.randint(1, 60), cut=chance.random() < 0.3))
        if 0.2 < roll < 0.45:
            mods += [
                Fail(
                    chance.randint(1, 40),
                    chance.choice((1, 1, 2, 7)),
                    after=chance.random() < 0.5,
                    doubt=chance.random() < 0.5,
                    kind=chance.choice(KINDS),
                )
                for _ in range(chance.randint(1, 3))
            ]
        if chance.random() < 0.3:
            mods += [
                replace(self._act(), at=chance.randint(1, 60)) for _ in range(chance.randint(1, 3))
            ]
        return mods

    def _act(self) -> Act:
        chance = self._chance
        side = chance.choice((STORE, *range(self._clients), *range(self._clients)))
        path = chance.choice(PATHS)
        roll = chance.random()
        if self._folders and self._tidying.random() < 0.2:
            return self._act_on_a_folder(side)
        if roll < 0.65:
            self._token += 1
            how = chance.choice(("in place", "new file", "old time", "same time"))
            return Act("write", side, path, self._token, how)
        if roll < 0.85 or side == STORE:
            return Act("remove", side, path)
        return Act("move", side, path, target=chance.choice(PATHS))

    def _act_on_a_folder(self, side: int) -> Act:
        chance = self._tidying
        path, what = chance.choice(FOLDERS), chance.choice(("write", "remove all", "move all"))
        if what == "write":
            self._token += 1
            return Act(what, side, path, self._token, "new file")
        return Act(what, side, path, target=chance.choice((*FOLDERS, "g", "e/d", "d/f")))


def are_at_odds(one: str, other: str) -> bool:
    """Tell whether of two paths one needs a folder where the other has a file."""
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")
