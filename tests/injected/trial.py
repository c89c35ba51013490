"""A folder and a store, changed in rounds; runs of each round are killed or fail."""

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
"""Seconds; a traced run on a busy machine may take minutes."""
LARGE = 17 * MIB
"""Bytes of a large file: it is uploaded in three parts, and downloaded in parts."""
KEPT = ("edited", "fetched", "both", "still", "deep/er/kept")
IN_SYNC, CONFLICTS_WAIT = 0, 4
EXIT_CODES = {0, 1, 3, 4, 5, 6, 7}

Ended = subprocess.CompletedProcess[bytes]


class Violation(AssertionError):
    """A rule was broken."""


@dataclass(frozen=True)
class Outcome:
    """Whether a run reached its point, and its exit code; `None` if it was killed."""

    met: bool
    code: int | None


class Trial:
    """Rounds of changes and disturbed runs. The seed alone determines the contents of both sides.

    Only one path is changed on both sides. A round is: `change`; any number of runs that
    `meet` a point or are `killed_after` some time; and `heal`, an undisturbed run that must
    complete the work. Each broken rule raises `Violation`.
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
        """What both sides must hold in the end, except for the conflict."""
        self._ever = set[str]()
        """Every content that was ever written."""
        self._kept = set[str]()
        """Contents that must still exist somewhere."""
        self._conflict = set[str]()
        self._unrecorded = set[str]()
        self._round = 0
        for path in (*KEPT, "gone 0", "taken 0", "old 0", "was 0"):
            self._put(self.root, path)
        self._plain(IN_SYNC)

    def change(self, *, conflict: bool, large: bool) -> None:
        """Make changes of every kind on both sides."""
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
            # A version that users replace on both sides is lost to craftsync.
            self._kept.discard(self.goal["both"])
            for side in (self.root, self.store):
                self._conflict.add(self._put(side, "both"))
            del self.goal["both"]

    def record(self) -> str:
        """Return strace's log of an undisturbed run."""
        run = self._traced(recording(self._log))
        _check(run.returncode == self._at_rest, f"the run itself failed: {run.stderr!r}")
        self._judge_rest()
        return self._log.read_text(errors="replace")

    def meet(self, point: Point) -> Outcome:
        """Let a run meet a point, and check both sides after it."""
        if point.kills:
            run = self._killed(point)
            met = run is None
        else:
            run = self._traced(injecting(point, self._log))
            met = has_failed(self._log)
        self._judge_run(run)
        return Outcome(met, run.returncode if run else None)

    def killed_after(self, seconds: float) -> Outcome:
        """Kill a run so many seconds after its start, and check both sides after it."""
        run: Ended | None = None
        words = [str(SCRIPT), *self._words]
        with suppress(subprocess.TimeoutExpired):
            ended = calls.run(words, self.folder, self._craftsync.environment, b"", seconds)
            run = Ended(words, *ended)
        self._judge_run(run)
        return Outcome(run is None, run.returncode if run else None)

    def heal(self, *, twice: bool = True) -> int:
        """Complete the work with an undisturbed run; return how many unrecorded uploads are left.

        With `twice`, another run must find nothing to do.
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
        written = digest(content)
        self.goal[path] = written
        self._ever.add(written)
        self._kept.add(written)
        return written

    def _take(self, side: Side, path: str) -> None:
        side.take(path)
        del self.goal[path]

    def _traced(self, words: list[str]) -> Ended:
        with self._started(words) as tracer:
            tracer.wait(TIMEOUT)
        return self._ended(tracer)

    def _killed(self, point: Point) -> Ended | None:
        """Kill a run at its point; return `None`, or how it ended if it did not reach the point."""
        pause, end = Event(), time.monotonic() + TIMEOUT
        with self._started(injecting(point, self._log)) as tracer:
            while tracer.poll() is None:
                thread = held(point, self._log)
                if thread is not None:
                    self.at_the_point()
                    os.kill(thread, signal.SIGKILL)
                    tracer.kill()
                    while not _has_ended(thread):
                        _check(time.monotonic() < end, "the run survives a SIGKILL")
                        pause.wait(0.01)
                    return None
                if time.monotonic() > end:
                    os.killpg(tracer.pid, signal.SIGKILL)
                    raise Violation("the run neither ends nor reaches its point")
                pause.wait(0.02)
        return self._ended(tracer)

    def at_the_point(self) -> None:
        """Called when a run has reached the point at which it is killed; for subclasses."""

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
        """Check that no version is lost, and that no side shows content that was never written."""
        pause, tries = Event(), 100
        # A server may still carry out the last request of a killed program.
        while torn := self._torn(held := self._everything()):
            tries -= 1
            _check(tries > 0, f"torn: {torn}")
            pause.wait(0.05)
        self._judge_lost({content for side in held.values() for content in side.values()})

    def _everything(self) -> dict[str, Contents]:
        return {"root": self.root.everything(), "store": self.store.everything()}

    def _torn(self, held: dict[str, Contents]) -> list[str]:
        """Return the paths with content that was never written."""
        return [
            f"{path} ({name})"
            for name, side in held.items()
            for path, content in side.items()
            if not is_own(path) and content not in self._ever
        ]

    def _judge_rest(self) -> None:
        """Check that both sides hold the goal, one conflict copy, and no temporary file."""
        everything = self._everything()
        local, remote = (
            {p: content for p, content in side.items() if not is_own(p)}
            for side in everything.values()
        )
        differ = sorted(p for p in local.keys() | remote.keys() if local.get(p) != remote.get(p))
        _check(not differ, f"the sides differ at rest: {differ}")
        _check(self._is_goal(local), f"not the expected files: {self._differences(local)}")
        left = [f"{name}/{p}" for name, side in everything.items() for p in side if is_temporary(p)]
        _check(not left, f"left behind: {left}")
        self._judge_lost({content for side in everything.values() for content in side.values()})

    def _judge_lost(self, held: set[str]) -> None:
        lost = self._kept - held
        names = [path for path, content in self.goal.items() if content in lost]
        _check(not lost, f"lost: {len(lost)} versions, of {names} and older ones")

    def _copies(self, contents: Contents) -> list[str]:
        return [path for path in contents if path.startswith("both (conflict")]

    def _is_goal(self, contents: Contents) -> bool:
        """Return whether a side holds the goal."""
        if not self._conflict:
            return contents == self.goal
        copies = self._copies(contents)
        more = {path: contents[path] for path in ("both", *copies) if path in contents}
        rest = {path: content for path, content in contents.items() if path not in more}
        return rest == self.goal and len(copies) == 1 and {*more.values()} == self._conflict

    def _differences(self, contents: Contents) -> list[str]:
        """Return the paths where a side differs from the goal, each path of a conflict included."""
        paths = sorted(contents.keys() | self.goal.keys())
        differ = [path for path in paths if contents.get(path) != self.goal.get(path)]
        return [f"{path} ({'other' if path in contents else 'gone'})" for path in differ]

    def _judge_report(self, run: Ended) -> None:
        """Check that the exit code and the output of a run are true."""
        code, local, remote = run.returncode, shown(self.root), shown(self.store)
        output = f"exit code {code}, {run.stdout!r}, {run.stderr!r}"
        _check(code in EXIT_CODES, f"an undocumented exit code: {output}")
        _check(b"Traceback" not in run.stderr, f"a traceback: {output}")
        events = [json.loads(line) for line in run.stdout.splitlines()]
        trouble = any(event["type"] in ("problem", "skipped", "held") for event in events)
        if code == IN_SYNC or (code == CONFLICTS_WAIT and not trouble):
            done = local == remote and self._is_goal(local)
            _check(done, f"reported in sync, but is not: {output}")
        if not events or events[-1]["type"] != "summary":
            _check(code != IN_SYNC and bool(run.stderr), f"no summary: {output}")
        else:
            _check(events[-1]["exit_code"] == code, f"another code in the summary: {output}")
        for event in events:
            if event["type"] == "action" and event["status"] == "done":
                self._judge_action(event["action"], event["path"], local, remote)

    def _judge_action(self, action: str, path: str, local: Contents, remote: Contents) -> None:
        side = {"upload": remote, "download": local, "delete-remote": remote, "delete-local": local}
        if action not in side:
            return
        found, wanted = side[action].get(path), self.goal.get(path)
        if action.startswith("delete"):
            _check(found is None, f"reported as done, but is not: {action} {path}")
        else:
            is_done = found is not None if wanted is None else found == wanted
            _check(is_done, f"reported as done, but is not: {action} {path}")

    def _recorded_uploads(self) -> set[str]:
        """Return the recorded uploads; read from a copy of the state database, which thus stays unchanged."""
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
        raise Violation(otherwise[:2000])


def _has_ended(process: int) -> bool:
    """Return whether every thread of a process has ended."""
    try:
        threads = [
            task.joinpath("stat").read_text() for task in Path(f"/proc/{process}/task").iterdir()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return not Path(f"/proc/{process}").exists()
    return all(stat.rpartition(")")[2].split()[0] in "ZX" for stat in threads)
