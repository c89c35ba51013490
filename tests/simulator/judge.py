"""What must never happen, told from what people wrote alone. Knows nothing of craftsync.

Each change a person makes to a path on one side is an event, whose parents are
what that person saw there. From these follows who knew of what: a version may
give way to one that was made by somebody who had seen it, or to a delete of
somebody who had seen it. Contents are unique, but for copies.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count

Event = tuple[str, object]
"""A path, and a content or the number of a delete."""


class Wrong(AssertionError):
    """A rule was broken."""


class Judge:
    """Hears of every change; `shown` is what each side shows, without craftsync's own folder."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.written: set[bytes] = set()
        self._parents: dict[Event, set[Event]] = defaultdict(set)
        self._last: dict[tuple[str, str], Event] = {}
        self._deletes = count()
        self._displaced: dict[tuple[str, str], dict[bytes, bytes | None]] = defaultdict(dict)
        """What gave way in this run at a path of a side, and to what."""
        self._known: set[str] = set()
        self._met: set[str] = set()
        """Paths that people changed in the run under way."""
        self._undone: dict[str, set[bytes]] = defaultdict(set)
        """What people removed or wrote over since the last run ended."""
        self._changed: set[str] = set()
        self._unrecorded: set[tuple[str, str]] = set()
        """Paths that a client changed and could not record, and the client."""
        self.excused: set[str] = set()
        """Paths that somebody changed between a crash in which they were changed and the next run there."""

    def person(
        self, side: str, path: str, content: bytes | None, *, in_place: bool = False
    ) -> None:
        """Hear that a person wrote a content at a path of a side, or deleted what was there."""
        event: Event = (path, next(self._deletes) if content is None else content)
        last = self._last.get((side, path))
        if event in self._parents and last != event:
            self.excused.add(path)  # It was moved away and back: the same content a second time.
        if last is not None and last != event:
            self._parents[event].add(last)
        self._parents.setdefault(event, set())
        self._last[side, path] = event
        self._met.add(path)
        if not in_place:
            self._meet_unrecorded(path, "")
        self._meet_unrecorded(path, side)
        if path in self.shown[side]:
            self._undone[path].add(self.shown[side][path])
        _set(self.shown[side], path, content)
        if content is not None:
            self.written.add(content)

    def run_begins(self) -> None:
        self._met.clear()

    def look(self, side: str, now: dict[str, bytes], by: str) -> None:
        """Hear what a side shows after an effect of the client `by`."""
        before = self.shown[side]
        for path, content in now.items():
            if before.get(path) == content:
                continue
            self._change(path, by)
            if content not in self.written:
                raise Wrong(f"torn: {side} shows {content!r} at {path}")
            if path in before:
                self._displaced[side, path][before[path]] = content
            self._last[side, path] = (path, content)
            self._parents.setdefault((path, content), set())
        for path in before.keys() - now.keys():
            self._change(path, by)
            self._displaced[side, path][before[path]] = None
        self.shown[side] = dict(now)

    def ordered(self, side: str, now: dict[str, bytes], *, delete: bool) -> None:
        """Hear what a side shows after an effect of a one-way run, which its user has ordered, whatever was there."""
        before = dict(self.shown[side])
        for path in before.keys() | now.keys():
            content = now.get(path)
            if before.get(path) == content:
                continue
            if content is not None and content not in self.written:
                raise Wrong(f"torn: {side} shows {content!r} at {path}")
            if content is None and not delete:
                raise Wrong(f"deleted {path} of {side} without --delete")
            self.person(side, path, content, in_place=True)

    def untouched(self, side: str, now: dict[str, bytes]) -> None:
        """Hear what the side shows that a one-way run is from."""
        if now != self.shown[side]:
            raise Wrong(f"a one-way run changed {side}, which it was from")

    def _change(self, path: str, by: str) -> None:
        self._meet_unrecorded(path, by)
        self._changed.add(original(path) or path)

    def _meet_unrecorded(self, path: str, by: str) -> None:
        if any(one == path and client != by for one, client in self._unrecorded):
            self.excused.add(path)

    def run_ended(
        self,
        by: str,
        *,
        died: bool = False,
        cut: bool = False,
        failed: bool = False,
        forgets: bool = False,
    ) -> None:
        """Judge what gave way in a run, and its conflicts; a run that died may have left the first half done."""
        if died or failed:
            self.excused |= self._met | (self._changed if cut else set())
            self._unrecorded |= {(path, by) for path in self._changed}
        else:
            self._unrecorded = {(path, one) for path, one in self._unrecorded if one != by}
        merged: list[tuple[Event, Event]] = []
        for (side, path), contents in self._displaced.items():
            shown, new = self.shown[side], self.shown[side].get(path)
            beside = {shown[name] for name in shown if original(name) == path}
            for content, instead in contents.items():
                if content in beside and instead is not None:
                    merged.append(((path, content), (path, instead)))
                elif content != new and not (
                    died or forgets or path in self.excused or self._may_go((path, content), new)
                ):
                    what = "deleted" if new is None else f"replaced by {new!r}"
                    raise Wrong(f"without a rule: {content!r} at {path} of {side} was {what}")
        if not forgets:
            self._judge_copies()
        for gone, after in merged:
            # Whoever sees the new version can see the other one beside it.
            if gone not in self._before(after) and after not in self._before(gone):
                self._parents[after].add(gone)
        self._displaced.clear()
        self._changed.clear()
        self._undone.clear()
        self._known = {name for shown in self.shown.values() for name in shown}

    def _judge_copies(self) -> None:
        """Judge the conflict copies that are new."""
        for side, shown in self.shown.items():
            for name in shown.keys() - self._known:
                copy, path = shown[name], original(name)
                if path is None or path in self.excused or (path, copy) not in self._parents:
                    continue
                met = {view.get(path) for view in self.shown.values()}
                met |= self._displaced[side, path].keys() | self._displaced["store", path].keys()
                met |= self._undone[path]
                events: list[Event] = [(path, one) for one in met - {None, copy}]
                if not any(self._are_apart((path, copy), event) for event in events):
                    raise Wrong(f"a conflict nobody made: {copy!r} as {name} in {side}")

    def heads(self) -> dict[str, list[bytes | None]]:
        """Return for each path what nobody has replaced knowingly; `None` is a delete."""
        paths = {path for path, _ in self._parents if original(path) is None}
        found: dict[str, list[bytes | None]] = {}
        for path in sorted(paths):
            events = [event for event in self._parents if event[0] == path]
            seen = set().union(*(self._before(event) for event in events))
            found[path] = [
                what if isinstance(what, bytes) else None
                for event in events
                if event not in seen
                for what in [event[1]]
            ]
        return found

    def _may_go(self, gone: Event, new: bytes | None) -> bool:
        if new is not None and gone in self._before((gone[0], new)):
            return True
        return any(
            gone in self._before(event)
            for event in self._parents
            if event[0] == gone[0] and not _is_content(event)
        )

    def _are_apart(self, one: Event, other: Event) -> bool:
        return one not in self._before(other) and other not in self._before(one)

    def _before(self, event: Event) -> set[Event]:
        """Return all that whoever made this event can have known of."""
        known: set[Event] = set()
        to_see = [event]
        while to_see:
            for parent in self._parents.get(to_see.pop(), ()):
                if parent not in known:
                    known.add(parent)
                    to_see.append(parent)
        return known - {event}


def original(name: str) -> str | None:
    """Return the path that a conflict copy belongs to; `None` for any other path."""
    if " (conflict " not in name:
        return None
    stem, _, rest = name.partition(" (conflict ")
    return stem + rest.rpartition(")")[2]


def _is_content(event: Event) -> bool:
    return isinstance(event[1], bytes)


def _set(shown: dict[str, bytes], path: str, content: bytes | None) -> None:
    if content is None:
        shown.pop(path, None)
    else:
        shown[path] = content
