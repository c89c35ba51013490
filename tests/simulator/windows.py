"""What is documented as not kept: the windows of docs/reliability.md, and the retention of the trash.

The judge knows none of this. A window opens for a path when a run ends with an
effect that it could not record, and the user or another client changes that path
before the run's client has run again. A second version beside that path, or a
deletion undone, is then allowed. No window excuses lost or torn content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from craftsync.clock import Clock
from tests.simulator.judge import original

_TRASH = ".craftsync/trash/"
_REPLACED = f"{_TRASH}replaced/"
"""Where a version waits for its removal from the trash."""
_RUN_SECONDS = 1_200.0
"""A version in the trash has the time of its run's start in its name, so it may seem older by this much."""
_UNDETECTED_JUMP = 3_600.0
"""Seconds that the wall clock may jump without craftsync noticing."""


class Windows:
    """The paths for which a window is open, or was."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self._changed_by_users: set[str] = set()
        """Paths that users changed during the current run."""
        self._changed_by_run: set[str] = set()
        """Paths that the current run changed."""
        self._unrecorded: set[tuple[str, str]] = set()
        """A path and the client that changed it and could not record that."""
        self._unknown: set[tuple[str, str]] = set()
        """Those of `_unrecorded` of which the client recorded no intent: its next run takes them for new."""

    def begin_run(self) -> None:
        self._changed_by_users.clear()
        self._changed_by_run.clear()

    def user_changed(self, side: str, path: str, *, in_place: bool) -> None:
        """Record a user's change; an edit `in_place` keeps the inode that the client knows."""
        self._changed_by_users.add(path)
        for one, by in self._unrecorded:
            is_known = in_place and by == side and (one, by) not in self._unknown
            if one == path and not is_known:
                self.open.add(path)

    def craftsync_changed(self, by: str, path: str) -> None:
        """Record a change by a run of the client `by`."""
        if any(one == path and other != by for one, other in self._unrecorded):
            self.open.add(path)
        self._changed_by_run.add(original(path) or path)

    def end_run(
        self,
        by: str,
        *,
        recorded: bool,
        cut: bool = False,
        as_new: bool = False,
        excluded: Callable[[str], bool] = lambda path: False,
    ) -> None:
        """Record whether the run of the client `by` recorded all its effects, except at `excluded` paths.

        A power `cut` also loses what this run and earlier ones had begun. A command that changes
        paths `as_new` records no intent.
        """
        if recorded:
            self._unrecorded = {
                (path, one) for path, one in self._unrecorded if one != by or excluded(path)
            }
            self._unknown &= self._unrecorded
        else:
            self._unrecorded |= {(path, by) for path in self._changed_by_run}
            if as_new:
                self._unknown |= {(path, by) for path in self._changed_by_run}
            begun = {path for path, one in self._unrecorded if one == by}
            self.open |= self._changed_by_users | (begun if cut else set())


class _Kept(NamedTuple):
    """A version in a trash: when it came (boot time in seconds), by which client, and its content."""

    since: float
    by: str
    content: bytes


class TrashRetention:
    """Decides whether a version may be gone from the trash: its client must have kept it as long as configured."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}
        """By side and path."""
        self._paths: dict[str, set[str]] = {}
        """By side: the paths that it held at the last `update`."""
        self._last_shown: dict[str, dict[str, bytes]] = {}
        self._client = ""
        self._keep: float | None = None
        self._purge_age: float | None = None
        """Age in seconds from which the current purge may remove a version."""
        self._being_removed: set[bytes] = set()
        self._clock_offset: dict[str, float] = defaultdict(float)
        """By client: seconds that the wall clock was set since one of its runs saw it."""
        self._restarts: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """By client: when its machine restarted, and the seconds that its clock had been set ahead until then."""
        self._unseen_restarts: set[str] = set()
        """The clients of which no run has seen the clock since the restart."""
        self._removed: dict[tuple[str, str], _Kept] = {}
        """By side and path: what was removed. A power cut may bring it back, as old as it was."""

    def clock_was_set(self, seconds: float, clients: Iterable[str]) -> None:
        """Record that the wall clock was set, forward or back."""
        for client in clients:
            self._clock_offset[client] += seconds

    def clock_was_seen(self, client: str) -> None:
        """Record that a client saw the wall clock: it knows of every earlier jump since it saw it last.

        To the first run after a restart, a clock set ahead in between looks like time switched off.
        """
        ahead = max(self._clock_offset.pop(client, 0.0), 0.0)
        if client in self._unseen_restarts:
            self._unseen_restarts.remove(client)
            at, ahead_before = self._restarts[client][-1]
            self._restarts[client][-1] = at, ahead_before + ahead

    def machine_restarted(self, client: str) -> None:
        """Record a restart: to the client, a clock set ahead before looks like time switched off."""
        ahead = max(self._clock_offset.pop(client, 0.0), 0.0)
        self._restarts[client].append((self._clock.boottime(), ahead))
        self._unseen_restarts.add(client)

    def begin_run(
        self,
        client: str,
        keep: float | None,
        files: dict[str, bytes],
        objects: dict[str, bytes],
        purge_hours: float | None,
    ) -> None:
        """Record that a client begins a run, or a purge of versions older than `purge_hours`."""
        self._client, self._keep = client, keep
        self._being_removed = {
            content
            for shown in (files, objects)
            for path, content in shown.items()
            if purge_hours is not None and path.startswith(_REPLACED)
        }
        self._purge_age = None if purge_hours is None else purge_hours * 3_600.0 - _RUN_SECONDS
        self.update(files, objects)

    def update(self, files: dict[str, bytes], objects: dict[str, bytes]) -> None:
        """Record what the trash of the running client's folder and the trash of the store hold now."""
        for side, shown in ((self._client, files), ("store", objects)):
            if shown is self._last_shown.get(side):
                continue
            self._last_shown[side] = shown
            for path, content in shown.items():
                if not path.startswith(_TRASH) or path.startswith(_REPLACED):
                    continue
                known = self._kept.get((side, path))
                if known is None or known.content != content:
                    kept = self._removed.pop((side, path), None)
                    if kept is None or kept.content != content:
                        kept = _Kept(self._clock.boottime(), self._client, content)
                    self._kept[side, path] = kept
            self._paths[side] = set(shown)
            contents = set(
                shown.values()
            )  # On its way out of the trash a version has another name.
            for key, kept in list(self._kept.items()):
                if key[0] == side and key[1] not in shown and kept.content not in contents:
                    self._removed[key] = self._kept.pop(key)

    def has_ended(self, content: bytes) -> bool:
        """Return whether the running client may remove every version with this content."""
        known = [(key, kept) for key, kept in self._kept.items() if kept.content == content]
        if self._purge_age is not None:
            now = self._clock.boottime()
            age = min((now - kept.since for _, kept in known), default=-1.0)
            return content in self._being_removed or (bool(known) and age >= self._purge_age)
        # What another client has removed from its trash does not count.
        counted = [
            kept
            for (side, path), kept in known
            if kept.by == self._client or path in self._paths[side]
        ]
        return bool(counted) and all(
            kept.by == self._client
            and self._keep is not None
            and self._apparent_age(kept.since) >= self._keep - _UNDETECTED_JUMP
            for kept in counted
        )

    def _apparent_age(self, since: float) -> float:
        """Return the most seconds that the client may believe to have passed since then.

        See docs/reliability.md on clocks and restarts.
        """
        restarts = [(at, ahead) for at, ahead in self._restarts[self._client] if at >= since]
        ahead = sum(seconds for _, seconds in restarts)
        if restarts and self._client in self._unseen_restarts:
            ahead += max(self._clock_offset[self._client], 0.0)
        return self._clock.boottime() - since + ahead
