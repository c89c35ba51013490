"""One run that dies or fails at one system call, the plain run after it, and what has to hold after each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

from tests.injected.points import Point, has_failed, injecting, is_held, recording
from tests.injected.sides import Contents, Files, Objects, Side, is_own, is_temporary, shown
from tests.support.cli import DEADLINE, SCRIPT, Craftsync
from tests.support.s3 import FakeS3
from tests.support.servers import S3Server

KIB, MIB = 1 << 10, 1 << 20
LARGE = 17 * MIB
"""Goes up in three parts, and comes down in parts."""
FIRST = ("edited", "fetched", "gone", "taken", "old", "was", "both", "still", "deep/er/kept")
IN_SYNC, CONFLICTS_WAIT = 0, 4
EXIT_CODES = {0, 1, 3, 4, 5, 6, 7}


class Wrong(AssertionError):
    """Something that must never happen."""


@dataclass(frozen=True)
class Outcome:
    """How a trial went: whether the point was met, and uploads left whose begin nobody could record."""

    met: bool
    code: int | None
    unrecorded: int


class Trial:
    """A folder and a store with changes of every kind on both sides; what they hold depends on the seed alone."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        served: tuple[S3Server, FakeS3] | None = None,
        *,
        conflict: bool = True,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self._craftsync = Craftsync(folder)
        self._chance = Random(seed)
        self._log = folder / "strace.log"
        self.root: Side = Files(folder / "root")
        (folder / "root").mkdir()
        if served is None:
            self.store: Side = Files(folder / "store")
            self._words = ("sync", "--json", "root", "./store")
        else:
            server, fake = served
            self.store = Objects(fake, folder.name)
            self._words = ("sync", "--json", "root", f"s3://{folder.name}")
            self._craftsync.environment |= {
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
                "AWS_REGION": "us-east-1",
            }
        self._in_conflict = conflict
        self._at_rest = CONFLICTS_WAIT if conflict else IN_SYNC
        self._prepare()

    def record(self) -> str:
        """Return strace's log of a run that nothing happens to."""
        run = self._traced(recording(self._log))
        _check(run.returncode == self._at_rest, f"the run itself failed: {run.stderr!r}")
        self._judge_rest()
        return self._log.read_text(errors="replace")

    def meet(self, point: Point) -> Outcome:
        """Let a run meet its point and a plain run heal it; raises `Wrong`."""
        if point.kills:
            run = self._killed(point)
            met = run is None
        else:
            run = self._traced(injecting(point, self._log))
            met = has_failed(self._log)
        self._judge_torn_and_lost(after="the run")
        if run is not None:
            self._judge_report(run)
        unrecorded = self.store.uploads() - self._recorded_uploads()
        self._heal()
        left = self.store.uploads()
        _check(left <= unrecorded, f"unfinished uploads: {left}")
        return Outcome(met, run.returncode if run else None, len(left))

    def _prepare(self) -> None:
        first = {path: self._bytes(path) for path in FIRST}
        for path, content in first.items():
            self.root.put(path, content)
        self._plain(IN_SYNC)
        new = {
            path: self._bytes(f"new {path}")
            for path in ("edited", "fresh", "fetched", "arrived", "deep/new/fresh", "deep/arrived")
        }
        large = {path: self._chance.randbytes(LARGE) for path in ("large up", "deep/large down")}
        self._mine, self._theirs = self._bytes("mine"), self._bytes("theirs")
        for path in ("edited", "fresh", "deep/new/fresh"):
            self.root.put(path, new[path])
        for path in ("fetched", "arrived", "deep/arrived"):
            self.store.put(path, new[path])
        self.root.put("large up", large["large up"])
        self.store.put("deep/large down", large["deep/large down"])
        self.root.take("gone")
        self.store.take("taken")
        (self.folder / "root/old").rename(self.folder / "root/renamed")
        self.store.take("was")
        self.store.put("is", first["was"])
        kept = {path: first[path] for path in ("still", "deep/er/kept")}
        if self._in_conflict:
            self.root.put("both", self._mine)
            self.store.put("both", self._theirs)
        else:
            kept["both"] = first["both"]
        self.goal = kept | new | large | {"renamed": first["old"], "is": first["was"]}
        """What both sides hold in the end, but for the conflict."""
        self._before = {*shown(self.root).values(), *shown(self.store).values()}

    def _bytes(self, start: str) -> bytes:
        return start.encode() + self._chance.randbytes(self._chance.randrange(1, 64 * KIB))

    def _traced(self, words: list[str]) -> subprocess.CompletedProcess[bytes]:
        with self._started(words) as tracer:
            tracer.wait(DEADLINE)
        return self._ended(tracer)

    def _killed(self, point: Point) -> subprocess.CompletedProcess[bytes] | None:
        """Kill a run at its point; return how it ended if it did not come that far."""
        pause, end = Event(), time.monotonic() + DEADLINE
        with self._started(injecting(point, self._log)) as tracer:
            while tracer.poll() is None:
                process = is_held(point, self._log)
                if process is not None:
                    os.kill(process, signal.SIGKILL)
                    tracer.kill()
                    while not _has_ended(process):
                        _check(time.monotonic() < end, "it outlives a SIGKILL")
                        pause.wait(0.01)
                    return None
                if time.monotonic() > end:
                    tracer.kill()
                    raise Wrong("it neither ends nor comes to its point")
                pause.wait(0.01)
        return self._ended(tracer)

    def _started(self, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                [*words, SCRIPT, *self._words],
                cwd=self.folder,
                env=self._craftsync.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def _ended(self, tracer: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[bytes]:
        out, err = ((self.folder / name).read_bytes() for name in ("out", "err"))
        return subprocess.CompletedProcess(tracer.args, tracer.returncode, out, err)

    def _plain(self, code: int) -> list[dict[str, Any]]:
        run = self._craftsync(*self._words)
        _check(run.code == code, f"a plain run ends with {run.code}: {run.text} {run.err}")
        return run.json

    def _heal(self) -> None:
        self._plain(self._at_rest)
        self._judge_rest()
        done = [event for event in self._plain(self._at_rest) if event["type"] == "action"]
        _check(not done, f"one more run still does {done}")

    def _judge_torn_and_lost(self, after: str) -> None:
        """No version that was shown is gone, and nothing is shown that nobody wrote."""
        held = set[bytes]()
        for name, side in (("folder", self.root), ("store", self.store)):
            everything = side.everything()
            held.update(everything.values())
            for path, content in everything.items():
                _check(
                    is_own(path) or content in self._before, f"torn after {after}: {path} ({name})"
                )
        lost = {content[:16] for content in self._before - held}
        _check(not lost, f"lost after {after}: {lost}")

    def _judge_rest(self) -> None:
        """Both sides are as their people left them, with one conflict copy, and nothing lies about."""
        here, there = shown(self.root), shown(self.store)
        differ = sorted(
            path for path in here.keys() | there.keys() if here.get(path) != there.get(path)
        )
        _check(not differ, f"the sides differ at rest: {differ}")
        _check(self._is_goal(here), f"not as it was left: {sorted(here)}")
        everything = {f"{n}/{p}": c for n, s in self._sides() for p, c in s.everything().items()}
        temporary = [p for p in everything if is_temporary(p.split("/", 1)[1])]
        _check(not temporary, f"left behind: {temporary}")
        lost = {content[:16] for content in self._before - set(everything.values())}
        _check(not lost, f"lost at rest: {lost}")

    def _sides(self) -> tuple[tuple[str, Side], tuple[str, Side]]:
        return ("root", self.root), ("store", self.store)

    def _is_goal(self, contents: Contents) -> bool:
        """Tell whether a side holds what it has to in the end."""
        more = {path: what for path, what in contents.items() if path not in self.goal}
        if not self._in_conflict:
            return contents == self.goal
        copies = [path for path in more if path != "both"]
        return (
            {path: contents.get(path) for path in self.goal} == self.goal
            and sorted(more.values()) == sorted((self._mine, self._theirs))
            and len(copies) == 1
            and "(conflict" in copies[0]
        )

    def _judge_report(self, run: subprocess.CompletedProcess[bytes]) -> None:
        """What a run that failed said of itself is true."""
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
