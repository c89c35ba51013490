"""A folder and a store that go from one round of changes to the next, and runs of each round that die or fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

from tests.injected.points import Point, has_failed, held, injecting, recording
from tests.injected.sides import Contents, Files, Side, digest, is_own, is_temporary, shown
from tests.injected.stores import Store
from tests.support import calls
from tests.support.cli import DEADLINE, SCRIPT, Craftsync

KIB, MIB = 1 << 10, 1 << 20
TIMEOUT = 10 * DEADLINE
"""Seconds; a run that is traced while the machine is at other work may take minutes."""
LARGE = 17 * MIB
"""Goes up in three parts, and comes down in parts."""
KEPT = ("edited", "fetched", "both", "still", "deep/er/kept")
IN_SYNC, CONFLICTS_WAIT = 0, 4
EXIT_CODES = {0, 1, 3, 4, 5, 6, 7}

Ended = subprocess.CompletedProcess[bytes]


class Wrong(AssertionError):
    """Something that must never happen."""


@dataclass(frozen=True)
class Outcome:
    """How a run went: whether it met its point, and the exit code it then ended with."""

    met: bool
    code: int | None


class Trial:
    """What both sides hold depends on the seed alone; every path is changed on one side only, but for one.

    A round: `change`, any number of runs that `meet` a point or are `killed_after`
    some time, and `heal`, the plain run that puts everything right. All that is
    found wrong is raised as `Wrong`.
    """

    def __init__(self, folder: Path, seed: int, store: Store) -> None:
        self.folder = folder
        self.store: Side = store.side
        self._craftsync = Craftsync(folder)
        self._craftsync.config.write_text("trash: {store: all}\n")
        self._craftsync.environment |= store.variables
        self._words = ("sync", "--json", "--max-delete", "1000", "root", store.word)
        self._chance = Random(seed)
        self._log = folder / "strace.log"
        (folder / "root").mkdir(exist_ok=True)
        self.root: Side = Files(folder / "root")
        self.goal: Contents = {}
        """What both sides hold in the end, but for the conflict."""
        self._ever = set[str]()
        """All that anybody ever wrote."""
        self._kept = set[str]()
        """That of it which has to be somewhere still."""
        self._conflict = set[str]()
        self._unrecorded = set[str]()
        self._round = 0
        for path in (*KEPT, "gone 0", "taken 0", "old 0", "was 0"):
            self._put(self.root, path)
        self._plain(IN_SYNC)

    def change(self, *, conflict: bool, large: bool) -> None:
        """Change both sides, each in every way."""
        for path in self._copies(shown(self.root)):
            self.root.take(path)
        if self._conflict:
            self._conflict.clear()
            self.goal["both"] = shown(self.root)["both"]
        last, now = self._round, self._round + 1
        self._round = now
        for path in ("edited", f"gone {now}", f"deep/new/fresh {now}"):
            self._put(self.root, path)
        for path in ("fetched", f"taken {now}", f"deep/arrived {now}"):
            self._put(self.store, path)
        if large:
            self._put(self.root, "large up", LARGE)
            self._put(self.store, "deep/large down", LARGE)
        self._take(self.root, f"gone {last}")
        self._take(self.store, f"taken {last}")
        (self.folder / f"root/old {last}").rename(self.folder / f"root/old {now}")
        self.goal[f"old {now}"] = self.goal.pop(f"old {last}")
        self._take(self.store, f"was {last}")
        self._put(self.store, f"was {now}")
        if conflict:
            # What a person replaces on both sides nobody can bring back.
            self._kept.discard(self.goal["both"])
            for side in (self.root, self.store):
                self._conflict.add(self._put(side, "both"))
            del self.goal["both"]

    def record(self) -> str:
        """Return strace's log of a run that nothing happens to."""
        run = self._traced(recording(self._log))
        _check(run.returncode == self._at_rest, f"the run itself failed: {run.stderr!r}")
        self._judge_rest()
        return self._log.read_text(errors="replace")

    def meet(self, point: Point) -> Outcome:
        """Let a run meet a point, and judge what it leaves."""
        if point.kills:
            run = self._killed(point)
            met = run is None
        else:
            run = self._traced(injecting(point, self._log))
            met = has_failed(self._log)
        self._judge_run(run)
        return Outcome(met, run.returncode if run else None)

    def killed_after(self, seconds: float) -> Outcome:
        """Kill a run so long after its start, and judge what it leaves."""
        run: Ended | None = None
        words = [str(SCRIPT), *self._words]
        with suppress(subprocess.TimeoutExpired):
            ended = calls.run(words, self.folder, self._craftsync.environment, b"", seconds)
            run = Ended(words, *ended)
        self._judge_run(run)
        return Outcome(run is None, run.returncode if run else None)

    def heal(self, *, twice: bool = True) -> int:
        """Put everything right with a plain run; return how many uploads stay that nobody could record.

        Another run after it has nothing to do.
        """
        self._plain(self._at_rest)
        self._judge_rest()
        if twice:
            done = [event for event in self._plain(self._at_rest) if event["type"] == "action"]
            _check(not done, f"one more run still does {done}")
        left = self.store.uploads()
        _check(left <= self._unrecorded, f"unfinished uploads: {left}")
        return len(left)

    @property
    def _at_rest(self) -> int:
        return CONFLICTS_WAIT if self._conflict else IN_SYNC

    def _put(self, side: Side, path: str, size: int | None = None) -> str:
        if size is None:
            size = self._chance.randrange(1, 64 * KIB)
        content = f"{path} {self._round}".encode() + self._chance.randbytes(size)
        side.put(path, content)
        told = digest(content)
        self.goal[path] = told
        self._ever.add(told)
        self._kept.add(told)
        return told

    def _take(self, side: Side, path: str) -> None:
        side.take(path)
        del self.goal[path]

    def _traced(self, words: list[str]) -> Ended:
        with self._started(words) as tracer:
            tracer.wait(TIMEOUT)
        return self._ended(tracer)

    def _killed(self, point: Point) -> Ended | None:
        """Kill a run at its point; return how it ended if it did not come that far."""
        pause, end = Event(), time.monotonic() + TIMEOUT
        with self._started(injecting(point, self._log)) as tracer:
            while tracer.poll() is None:
                thread = held(point, self._log)
                if thread is not None:
                    self.at_the_point()
                    os.kill(thread, signal.SIGKILL)
                    tracer.kill()
                    while not _has_ended(thread):
                        _check(time.monotonic() < end, "it outlives a SIGKILL")
                        pause.wait(0.01)
                    return None
                if time.monotonic() > end:
                    os.killpg(tracer.pid, signal.SIGKILL)
                    raise Wrong("it neither ends nor comes to its point")
                pause.wait(0.02)
        return self._ended(tracer)

    def at_the_point(self) -> None:
        """Do what else happens in the moment in which a run is to be killed."""

    def _started(self, words: list[str]) -> subprocess.Popen[bytes]:
        self._log.unlink(missing_ok=True)
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                [*words, SCRIPT, *self._words],
                cwd=self.folder,
                env=self._craftsync.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def _ended(self, tracer: subprocess.Popen[bytes]) -> Ended:
        out, err = ((self.folder / name).read_bytes() for name in ("out", "err"))
        return Ended(tracer.args, tracer.returncode, out, err)

    def _plain(self, code: int) -> list[dict[str, Any]]:
        run = self._craftsync(*self._words)
        _check(run.code == code, f"a plain run ends with {run.code}: {run.text} {run.err}")
        return run.json

    def _judge_run(self, run: Ended | None) -> None:
        self._judge_torn_and_lost()
        if run is not None:
            self._judge_report(run)
        self._unrecorded |= self.store.uploads() - self._recorded_uploads()

    def _judge_torn_and_lost(self) -> None:
        """No version that was shown is gone, and nothing is shown that nobody wrote."""
        pause, tries = Event(), 100
        # A server may still carry out the last request of a program that is dead by now.
        while torn := self._torn():
            tries -= 1
            _check(tries > 0, f"torn: {torn}")
            pause.wait(0.05)
        self._judge_lost({*self.root.everything().values(), *self.store.everything().values()})

    def _torn(self) -> list[str]:
        """Return what is shown and nobody wrote."""
        sides = (("folder", self.root), ("store", self.store))
        return [
            f"{path} ({name})"
            for name, side in sides
            for path, told in shown(side).items()
            if told not in self._ever
        ]

    def _judge_rest(self) -> None:
        """Both sides are as their people left them, with one conflict copy, and nothing lies about."""
        everything = {"root": self.root.everything(), "store": self.store.everything()}
        here, there = (
            {p: told for p, told in side.items() if not is_own(p)} for side in everything.values()
        )
        differ = sorted(p for p in here.keys() | there.keys() if here.get(p) != there.get(p))
        _check(not differ, f"the sides differ at rest: {differ}")
        _check(self._is_goal(here), f"not as it was left: {self._amiss(here)}")
        left = [f"{name}/{p}" for name, side in everything.items() for p in side if is_temporary(p)]
        _check(not left, f"left behind: {left}")
        self._judge_lost({told for side in everything.values() for told in side.values()})

    def _judge_lost(self, held: set[str]) -> None:
        lost = self._kept - held
        names = [path for path, told in self.goal.items() if told in lost]
        _check(not lost, f"lost: {len(lost)} versions, of {names} and older ones")

    def _copies(self, contents: Contents) -> list[str]:
        return [path for path in contents if path.startswith("both (conflict")]

    def _is_goal(self, contents: Contents) -> bool:
        """Tell whether a side holds what it has to in the end."""
        if not self._conflict:
            return contents == self.goal
        copies = self._copies(contents)
        more = {path: contents[path] for path in ("both", *copies) if path in contents}
        rest = {path: told for path, told in contents.items() if path not in more}
        return rest == self.goal and len(copies) == 1 and {*more.values()} == self._conflict

    def _amiss(self, contents: Contents) -> list[str]:
        """Return the paths that hold something else than they have to; of a conflict all that there is."""
        paths = sorted(contents.keys() | self.goal.keys())
        amiss = [path for path in paths if contents.get(path) != self.goal.get(path)]
        return [f"{path} ({'other' if path in contents else 'gone'})" for path in amiss]

    def _judge_report(self, run: Ended) -> None:
        """What a run said of itself is true."""
        code, here, there = run.returncode, shown(self.root), shown(self.store)
        said = f"exit code {code}, {run.stdout!r}, {run.stderr!r}"
        _check(code in EXIT_CODES, f"not an exit code of the contract: {said}")
        _check(b"Traceback" not in run.stderr, f"a defect: {said}")
        events = [json.loads(line) for line in run.stdout.splitlines()]
        trouble = any(event["type"] in ("problem", "skipped", "held") for event in events)
        if code == IN_SYNC or (code == CONFLICTS_WAIT and not trouble):
            done = here == there and self._is_goal(here)
            _check(done, f"reported to be in sync, and is not: {said}")
        if not events or events[-1]["type"] != "summary":
            _check(code != IN_SYNC and bool(run.stderr), f"no summary: {said}")
        else:
            _check(events[-1]["exit_code"] == code, f"another code in the summary: {said}")
        for event in events:
            if event["type"] == "action" and event["status"] == "done":
                self._judge_action(event["action"], event["path"], here, there)

    def _judge_action(self, action: str, path: str, here: Contents, there: Contents) -> None:
        side = {"upload": there, "download": here, "delete-remote": there, "delete-local": here}
        if action not in side:
            return
        found, wanted = side[action].get(path), self.goal.get(path)
        if action.startswith("delete"):
            _check(found is None, f"reported as done, and is not: {action} {path}")
        else:
            true = found is not None if wanted is None else found == wanted
            _check(true, f"reported as done, and is not: {action} {path}")

    def _recorded_uploads(self) -> set[str]:
        """Return the uploads the state knows of; read from a copy, so that the next run finds all as it was left."""
        found = set[str]()
        for database in (self.folder / "state").glob("pairs/*/state.db"):
            copy = self.folder / "copied"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(database.parent, copy)
            with closing(sqlite3.connect(copy / "state.db")) as db:
                found |= {row[0] for row in db.execute("SELECT upload_id FROM upload")}
        return found


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise[:2000])


def _has_ended(process: int) -> bool:
    """Tell whether no thread of a process is left that could still do anything."""
    try:
        threads = [
            task.joinpath("stat").read_text() for task in Path(f"/proc/{process}/task").iterdir()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return not Path(f"/proc/{process}").exists()
    return all(stat.rpartition(")")[2].split()[0] in "ZX" for stat in threads)
