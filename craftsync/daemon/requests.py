"""What others ask of the loop over one pair: any thread may ask, the loop's own does it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from craftsync.core.paths import malformed
from craftsync.daemon.control import Refused
from craftsync.sync.held import Verdict
from craftsync.sync.report import OnEvent, Options
from craftsync.sync.session import Session

_MOST_NAMED = 10_000


class Requests:
    """Paths to be looked at, and verdicts on held deletes, until they are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._verdicts: deque[Verdict] = deque()

    def look_at(self, paths: Iterable[str]) -> bool:
        """Remember these paths; return whether there were so many that none is remembered."""
        with self._lock:
            self._paths.update(paths)
            too_many = len(self._paths) > _MOST_NAMED
            if too_many:
                self._paths.clear()
            return too_many

    def paths(self) -> set[str]:
        """Take the paths."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths

    def judge(self, verdict: Verdict) -> None:
        """Remember what a person said about held deletes."""
        self._verdicts.append(verdict)

    def carry_out(self, session: Session, options: Options, on_event: OnEvent) -> None:
        """Do what was said about held deletes; what could not be done is tried at the next call."""
        while self._verdicts:
            session.judge(self._verdicts[0], options, on_event)
            self._verdicts.popleft()


def verdict_of(request: Mapping[str, Any]) -> Verdict:
    """Return what the verbs `approve` and `reject` say; raises `Refused` for one that is not clear.

    All held deletes are meant by `null` only, never by leaving the paths out.
    """
    paths = request.get("paths", [])
    named = isinstance(paths, list) and paths and all(map(_is_path, paths))
    if paths is not None and not named:
        raise Refused("paths has to be a list of paths, or null for all")
    return Verdict(request["verb"] == "approve", None if paths is None else tuple(paths))


def _is_path(word: object) -> bool:
    return isinstance(word, str) and malformed(word) is None
