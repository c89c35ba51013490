"""What is documented as not kept: the windows of docs/reliability.md, and the retention of the trash.

The judge knows none of this. A window opens for a path when a run ends with an
effect that it could not record, and somebody else changes that path before its
client has run again, with that path: then a second version beside it, or a delete undone, is no
fault. No window excuses a lost or a torn content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from craftsync.clock import Clock
from tests.simulator.judge import original

_TRASH = ".craftsync/trash/"
_LEAVING = f"{_TRASH}replaced/"
"""Where what is removed lies in between."""
_OF_A_RUN = 1_200.0
"""Seconds by which what a run keeps may seem older: its name is that of the beginning of the run."""
_UNNOTICED = 3_600.0
"""Seconds by which the wall clock may jump without anybody noticing."""


class Windows:
    """The paths for which a window is, or was, open."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self._met: set[str] = set()
        """Paths that people changed in the run under way."""
        self._changed: set[str] = set()
        """Paths that craftsync changed in it."""
        self._unrecorded: set[tuple[str, str]] = set()
        """Paths that a client changed and could not record, and the client."""
        self._new: set[tuple[str, str]] = set()
        """Those that its next run takes for new, however they are edited before: of these it noted nothing."""

    def run_begins(self) -> None:
        self._met.clear()
        self._changed.clear()

    def person(self, side: str, path: str, *, in_place: bool) -> None:
        """Hear that somebody changed a path; an edit `in_place` leaves the file that a client knows."""
        self._met.add(path)
        for one, by in self._unrecorded:
            is_known = in_place and by == side and (one, by) not in self._new
            if one == path and not is_known:
                self.open.add(path)

    def craftsync(self, by: str, path: str) -> None:
        """Hear that a client changed a path."""
        if any(one == path and other != by for one, other in self._unrecorded):
            self.open.add(path)
        self._changed.add(original(path) or path)

    def run_ended(
        self,
        by: str,
        *,
        recorded: bool,
        cut: bool = False,
        as_new: bool = False,
        left_out: Callable[[str], bool] = lambda path: False,
    ) -> None:
        """Hear whether all that a client did is recorded, but for what the run `left_out`.

        A power `cut` loses what this run and those before it had begun, too. What a command
        changed `as_new` is noted nowhere.
        """
        if recorded:
            self._unrecorded = {
                (path, one) for path, one in self._unrecorded if one != by or left_out(path)
            }
            self._new &= self._unrecorded
        else:
            self._unrecorded |= {(path, by) for path in self._changed}
            if as_new:
                self._new |= {(path, by) for path in self._changed}
            begun = {path for path, one in self._unrecorded if one == by}
            self.open |= self._met | (begun if cut else set())


class TrashWatch:
    """Says whether a version may be gone: its client has kept it for as long as it was told to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[tuple[str, str], tuple[float, str, bytes]] = {}
        """By side and path: when it came, by whom, and what it is."""
        self._there: dict[str, set[str]] = {}
        """By side: what its trash held when it was seen last."""
        self._looked_at: dict[str, dict[str, bytes]] = {}
        self._client = ""
        self._keep: float | None = None
        self._purged: float | None = None
        """For how many seconds what may be purged has been kept."""
        self._leaving: set[bytes] = set()
        self._ahead: dict[str, float] = defaultdict(float)
        """Seconds by which the wall clock was set since a run of each client saw it."""
        self._unseen: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """By client: when its machine restarted, and by how many seconds its clock had been set ahead just before."""

    def clock_set(self, seconds: float, clients: Iterable[str]) -> None:
        """Hear that the wall clock was set, forward or back."""
        for client in clients:
            self._ahead[client] += seconds

    def clock_seen(self, client: str) -> None:
        """Hear that a client saw what time it is: from then on it knows of all that was set."""
        self._ahead.pop(client, None)

    def restarted(self, client: str) -> None:
        """Hear that a client's machine restarted: it may have been off for as long as its clock was set ahead."""
        self._unseen[client].append(
            (self._clock.boottime(), max(self._ahead.pop(client, 0.0), 0.0))
        )

    def begin(
        self,
        client: str,
        keep: float | None,
        files: dict[str, bytes],
        there: dict[str, bytes],
        purge_hours: float | None,
    ) -> None:
        """Hear that a client begins a run, or to purge what was kept for so many hours."""
        self._client, self._keep = client, keep
        self._leaving = {
            content
            for shown in (files, there)
            for path, content in shown.items()
            if purge_hours is not None and path.startswith(_LEAVING)
        }
        self._purged = None if purge_hours is None else purge_hours * 3_600.0 - _OF_A_RUN
        self.look(files, there)

    def look(self, files: dict[str, bytes], there: dict[str, bytes]) -> None:
        """Take in what the trashes of the folder of that client, and of the store, hold now."""
        for side, shown in ((self._client, files), ("store", there)):
            if shown is self._looked_at.get(side):
                continue
            self._looked_at[side] = shown
            for path, content in shown.items():
                if not path.startswith(_TRASH) or path.startswith(_LEAVING):
                    continue
                known = self._since.get((side, path))
                if known is None or known[2] != content:
                    self._since[side, path] = self._clock.boottime(), self._client, content
            self._there[side] = set(shown)
            left = set(shown.values())  # On its way out of the trash it has another name.
            for key, (_, _, content) in list(self._since.items()):
                if key[0] == side and key[1] not in shown and content not in left:
                    del self._since[key]

    def has_ended(self, content: bytes) -> bool:
        """Tell whether the retention of all versions with this content has ended, as far as this client may judge."""
        known = [(key, one) for key, one in self._since.items() if one[2] == content]
        # What another client removed from a trash before does not count.
        held = [
            one
            for (side, path), one in known
            if one[1] == self._client or path in self._there[side]
        ]
        if self._purged is not None:
            age = min((self._clock.boottime() - since for _, (since, *_) in known), default=-1.0)
            return content in self._leaving or (bool(known) and age >= self._purged)
        return bool(held) and all(
            by == self._client
            and self._keep is not None
            and self._seeming_age(since) >= self._keep - _UNNOTICED
            for since, by, _ in held
        )

    def _seeming_age(self, since: float) -> float:
        """Return how old, in seconds, what came then may seem to the client; see docs/reliability.md on clocks and restarts."""
        ahead = sum(seconds for at, seconds in self._unseen[self._client] if at >= since)
        return self._clock.boottime() - since + ahead
