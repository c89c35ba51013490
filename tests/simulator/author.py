"""Random histories. Seeds below `NEWER` keep their histories: later kinds of steps have random streams of their own."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.simulator.steps import (
    COMMANDS,
    DISASTERS,
    EXCLUDED,
    FILTERS,
    FOLDERS,
    IGNORE,
    KINDS,
    OBJECTS,
    OTHER_CASE,
    PATHS,
    STORE,
    UPKEEP,
    Act,
    Change,
    Crash,
    Disaster,
    Fail,
    Run,
    Step,
    Wait,
)

NEWER = 19_000_000
"""The first seed of histories with the newer kinds of steps."""
_WITHOUT_PATH = (
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
"""Long enough for the retention of a trash to end."""
_BESIDE_A_DAEMON = ("dry run", "check", "plan", "approve", "reject", "restore", "restore over")
_SHARE_OF_NEWER_STEPS = 0.25
"""Share of newer kinds of steps, in histories that have them."""


class Author:
    """Makes the random steps of one history."""

    def __init__(self, seed: int, clients: int, *, newer: bool = False) -> None:
        self._chance = Random(seed)
        self._clients = clients
        self._last_token = 0
        self._filter_chance = Random(~seed)
        self._command_chance = Random(seed ^ 0x5EED)
        self._uses_commands = self._command_chance.random() < 0.5
        self._folder_chance = Random(seed ^ 0xF01DE5)
        self._moves_folders = self._folder_chance.random() < 0.4
        self._newer_chance = Random(seed ^ 0xADD5)
        self._newer_kinds: tuple[str, ...] = ()
        if newer:
            kinds = ("objects", "upkeep", "beside", "over", "case", "ignore", "change", "undo")
            self._newer_kinds = tuple(
                self._newer_chance.sample(kinds, self._newer_chance.randint(1, len(kinds)))
            )
        self._delete_limit = (
            self._command_chance.choice((None, 0, 0, 1)) if self._uses_commands else None
        )
        self._sets_clock = self._chance.random() < 0.2
        self._runs_one_way = self._chance.random() < 0.2
        self._waits_long = self._chance.random() < 0.25
        self._runs_daemons = self._chance.random() < 0.4
        self._has_disasters = self._chance.random() < 0.25

    def history(self, steps: int) -> list[Step]:
        return [self._step() for _ in range(steps)]

    def _step(self) -> Step:
        if self._newer_kinds and self._newer_chance.random() < _SHARE_OF_NEWER_STEPS:
            return self._newer_step(self._newer_chance.choice(self._newer_kinds))
        roll = self._chance.random()
        if roll < 0.62:
            return self._act()
        if roll < 0.65 and self._has_disasters and self._chance.random() < 0.6:
            return Disaster(self._chance.choice(DISASTERS), self._chance.randrange(self._clients))
        if roll < 0.66 and self._sets_clock and self._chance.random() < 0.5:
            return self._clock_jump()
        if roll < (0.70 if self._waits_long else 0.66):
            return Wait(self._chance.choice(_LONG_WAITS if self._waits_long else _WAITS))
        client = self._chance.randrange(self._clients)
        daemon = self._runs_daemons and self._chance.random() < 0.9
        beside = self._runs_daemons and self._chance.random() < 0.05
        if self._uses_commands and not daemon and self._command_chance.random() < 0.6:
            return self._command(client)
        mode, delete = "two-way", False
        if self._runs_one_way and not daemon:
            mode = self._chance.choice(("two-way", "push", "pull"))
            delete = mode != "two-way" and self._chance.random() < 0.5
        may_filter = mode != "two-way" and not delete
        filter = self._filter_chance.choice((*FILTERS, "")) if may_filter else ""
        if filter == "age" and mode == "pull":
            filter = ""  # The simulated store does not report its time.
        mods = tuple(self._disturbances())
        limit = None if daemon else self._delete_limit
        return Run(client, mods, daemon, beside, mode, delete, filter, limit=limit)

    def _newer_step(self, kind: str) -> Step:
        chance = self._newer_chance
        client, side = (
            chance.randrange(self._clients),
            chance.choice((STORE, *range(self._clients))),
        )
        path = chance.choice(PATHS)
        match kind:
            case "objects":
                return self._object_command(client)
            case "upkeep":
                what = chance.choice(UPKEEP)
                hours = chance.choice((0, 0, 1, 20)) if what == "purge" else 0
                return Run(client, tuple(self._disturbances()), what=what, number=hours)
            case "beside":
                what = chance.choice(_BESIDE_A_DAEMON)
                mods = () if what in _WITHOUT_PATH else tuple(self._disturbances())
                return Run(
                    client, mods, beside=True, what=what, path=chance.choice(("", path, "d"))
                )
            case "undo":
                what, number = chance.choice(("undo", "undo over")), chance.randint(1, 4)
                return Run(client, tuple(self._disturbances()), what=what, number=number)
            case "change":
                return self._change(client)
            case "case":
                path = chance.choice(tuple(OTHER_CASE))
                pair = (path, OTHER_CASE[path])
                path, target = pair if chance.random() < 0.6 else pair[::-1]
                what = "move all" if path in ("d", "D") else "move"
                return Act(what, side, path, target=target)
            case "over":
                path = chance.choice((*FOLDERS, *PATHS, "a/b", "d/x/y"))
                return self._write("put over", side, path)
        path = chance.choice(IGNORE)
        if chance.random() < 0.4:
            return Act("remove", side, path)
        return self._write("write", side, path)

    def _write(self, what: str, side: int, path: str) -> Act:
        self._last_token += 1
        return Act(what, side, path, self._last_token, "new file")

    def _object_command(self, client: int) -> Run:
        chance = self._newer_chance
        what, path = chance.choice(OBJECTS), chance.choice(PATHS)
        self._last_token += 1
        return Run(
            client,
            tuple(self._disturbances()),
            beside=chance.random() < 0.5,
            what=what,
            path=path,
            target=chance.choice(PATHS) if what in ("cp", "mv") else "",
            token=self._last_token if what == "put" else 0,
        )

    def _change(self, client: int) -> Change:
        chance = self._newer_chance
        mode = chance.choice(("two-way", "two-way", "push", "pull"))
        return Change(
            client,
            chance.choice((None, None, 3_600.0, 100_000.0)),
            mode,
            mode != "two-way" and chance.random() < 0.5,
            chance.choice(("both", "both", "newer", "local", "remote")),
            tuple(sorted(chance.sample(sorted(EXCLUDED), chance.choice((0, 0, 1, 2))))),
        )

    def _command(self, client: int) -> Run:
        chance = self._command_chance
        what = chance.choice((*COMMANDS, "approve", "reject", "plan", "apply"))
        mods = self._disturbances()
        if what in ("dry run", "check", "plan"):
            mods = []
        path = chance.choice((*PATHS, "d", "", "", "")) if what not in _WITHOUT_PATH else ""
        return Run(client, tuple(mods), what=what, path=path)

    def _clock_jump(self, at: int = 0) -> Wait:
        return Wait(self._chance.choice((-90_000.0, -5.0, 5.0, 90_000.0)), jump=True, at=at)

    def _disturbances(self) -> list[Act | Crash | Fail | Wait]:
        chance, mods = self._chance, list[Act | Crash | Fail | Wait]()
        if self._sets_clock and chance.random() < 0.1:
            mods.append(self._clock_jump(chance.randint(1, 60)))
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
        if self._moves_folders and self._folder_chance.random() < 0.2:
            return self._act_on_a_folder(side)
        if roll < 0.65:
            self._last_token += 1
            how = chance.choice(("in place", "new file", "old time", "same time"))
            return Act("write", side, path, self._last_token, how)
        if roll < 0.85 or side == STORE:
            return Act("remove", side, path)
        return Act("move", side, path, target=chance.choice(PATHS))

    def _act_on_a_folder(self, side: int) -> Act:
        chance = self._folder_chance
        path, what = chance.choice(FOLDERS), chance.choice(("write", "remove all", "move all"))
        if what == "write":
            self._last_token += 1
            return Act(what, side, path, self._last_token, "new file")
        return Act(what, side, path, target=chance.choice((*FOLDERS, "g", "e/d", "d/f")))
