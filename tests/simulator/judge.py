"""What must never happen, judged only by what users wrote, without any knowledge of craftsync.

Each write and each delete by a user makes a version of a path. Its parents are the
versions that the user saw there. Two versions are concurrent if neither is an
ancestor of the other. Two rules follow: a version may only be replaced by one of
its descendants, or by a delete that descends from it; and only a version with a
concurrent one may become a conflict copy. `windows` lists the documented exceptions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Violation(AssertionError):
    """A rule was broken."""


class Finding(NamedTuple):
    """A broken rule, unless a window is open for its path."""

    path: str
    message: str


class Judge:
    """Records every change of each side. `shown` is what a side holds outside `.craftsync/`."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.written: set[bytes] = set()
        self._versions: list[tuple[str, bytes | None]] = []
        """Path and content of each version; `None` is a delete."""
        self._parents: list[set[int]] = []
        """The versions that the author of each version saw."""
        self._current: dict[tuple[str, str], int] = {}
        """The version that a side has of a path."""
        self._replaced: dict[tuple[str, str], dict[bytes, bytes | None]] = defaultdict(dict)
        """By side and path: each content that craftsync replaced since `findings`, and the new one."""
        self._brought: set[tuple[str, str, bytes]] = set()
        """Side, path and content of what craftsync put there since `findings`."""
        self._by_users: set[int] = set()
        self._replaced_by_order: dict[tuple[str, str], set[bytes]] = defaultdict(set)
        """By side and path: contents that the current run replaced on a user's order."""
        self._known_names: set[str] = set()
        """Names that any side showed at the last `findings`."""
        self._versions_at_arrival: dict[tuple[str, str], int] = {}
        """How many versions existed when a conflict copy reached a side."""
        self._lost: set[int] = set()
        """Versions that a power cut took."""
        self._justified_copies: set[tuple[str, bytes]] = set()
        """Conflict copies that were justified when they were made; the conflict may have ended since."""

    def user_changed(self, side: str, path: str, content: bytes | None) -> None:
        """Record that a user wrote a content to a path of a side, or deleted the path (`None`)."""
        if content is not None:
            self.written.add(content)
        if (name := original(path)) and content is not None:
            self._justified_copies.add((path, content))
        elif name:  # A user who deletes a conflict copy has seen it.
            self.user_had_seen(side, name, self.shown[side].get(path), path)
        version = self._add_version(path, content, self._current.get((side, path)))
        self._by_users.add(version)
        self._set_shown(side, path, version, content)

    def user_had_seen(self, side: str, path: str, other: bytes | None, copy: str = "") -> None:
        """Record that the user who chose the current version of a path had also seen `other`.

        If `other` was a conflict `copy`, versions made after it reached this side do not count:
        another client may have chosen the same content since.
        """
        content = self.shown[side].get(path)
        until = self._versions_at_arrival.get((side, copy), len(self._versions))
        others = self._versions_of(path, other) if other else []
        seen = self._current.get((side, path)), *(one for one in others if one < until)
        self._current[side, path] = self._add_version(path, content, *seen)

    def power_was_cut(self, side: str, now: dict[str, bytes]) -> None:
        """Record what a side shows after a power cut.

        An earlier version that is back is not a new one; content that no user wrote is. Versions
        that no side shows any more are lost, and nothing is expected of them.
        """
        changed, self.shown[side] = self.changed_paths(side, now), dict(now)
        for path in changed:
            content, last = now.get(path), self._current.pop((side, path), None)
            if content is not None:
                known = self._versions_of(path, content)
                version = known[-1] if known else self._add_version(path, content, last)
                self._current[side, path] = version
                self.written.add(content)
            if last is not None and self._versions[last][1] and last not in self._current.values():
                self._lost.add(last)  # Another side may show the same content as an older version.
            left = {shown.get(path) for shown in self.shown.values()} | {None}
            self._lost |= {
                n for n, (at, what) in enumerate(self._versions) if at == path and what not in left
            }

    def craftsync_changed(
        self,
        side: str,
        now: dict[str, bytes],
        *,
        by: str = "",
        ordered: bool = False,
        chooses: bool = False,
        without_baseline: Collection[str] = (),
        settles: bool = False,
    ) -> None:
        """Record what a side shows after an effect of craftsync, in a run of the client `by`.

        A user may have `ordered` the change, whatever the side held. Or the run `chooses` one of two
        concurrent versions; at paths `without_baseline` any two count as concurrent. An order that
        `settles` a conflict makes a new version. Raises `Violation` for content that no user wrote.
        """
        changed = self.changed_paths(side, now)
        for path in changed:
            content, before = now.get(path), self.shown[side].get(path)
            if content is not None:
                self._check_content(side, path, content)
            replaced = self._replaced[side, path]
            no_baseline = path in without_baseline
            if ordered or (chooses and self._is_conflict(side, path, content, no_baseline)):
                self._apply_order((side, by, "store"), path, content, anew=settles)
                continue
            if None not in (content, before) and replaced.get(content) == before:
                # A user wrote it just before it was replaced, so craftsync puts it back at once.
                del replaced[content]
                self._current[side, path] = self._latest_version(path, content)
                continue
            if content is None and self._is_moved_back(side, path, now):
                self._lost.add(self._current.pop((side, path)))
            else:
                self._replace(side, path, before, content)
        if changed:
            self.shown[side] = dict(now)

    def _replace(self, side: str, path: str, before: bytes | None, content: bytes | None) -> None:
        if before is not None:
            self._replaced[side, path][before] = content
            self._link_recurrences(side, path, before, content)
        if content is not None:
            self._brought.add((side, path, content))
            self._current[side, path] = self._arriving_version(side, path, content)

    def findings(self) -> Iterator[Finding]:
        """Yield each rule that craftsync broke since the last call."""
        merged: list[tuple[int, int]] = []
        for (side, path), contents in self._replaced.items():
            shown = self.shown[side]
            now = shown.get(path)
            beside = {shown[name] for name in shown if path in (original(name), _copied_path(name))}
            for content, new in contents.items():
                if content in beside and new is not None:
                    versions = self._latest_version(path, content), self._latest_version(path, new)
                    merged.append(versions)
                elif content != now and not self._is_superseded(path, content, now):
                    what = "deleted" if now is None else f"replaced by {now!r}"
                    yield Finding(path, f"not allowed: {content!r} at {path} of {side} was {what}")
        yield from self._unjustified_copies()
        for old, new_version in merged:
            # A user who sees the new version sees the old one beside it, as a conflict copy.
            if self._are_concurrent(old, new_version):
                self._parents[new_version].add(old)
        self.accept_all()

    def accept_all(self) -> None:
        """Accept everything that craftsync did so far."""
        self._replaced.clear()
        self._brought.clear()
        self._replaced_by_order.clear()
        self._known_names = {name for shown in self.shown.values() for name in shown}

    def paths_in_sync(self, side: str) -> set[str]:
        """Return the paths at which a side and the store show the same."""
        mine, stored = self.shown[side], self.shown["store"]
        return {path for path in mine.keys() | stored.keys() if mine.get(path) == stored.get(path)}

    def heads(self) -> dict[str, list[bytes | None]]:
        """Return for each path its versions without descendants; `None` is a delete."""
        left = set(range(len(self._versions))) - self._lost
        seen = set().union(*map(self._ancestors, left))
        found: dict[str, list[bytes | None]] = defaultdict(list)
        for path, content in (self._versions[n] for n in sorted(left - seen)):
            if original(path) is None:
                found[path].append(content)
        return found

    def was_deleted(self, side: str, path: str, content: bytes) -> bool:
        """Return whether a side lacks a path because a user who had seen that content deleted it."""
        last = self._current.get((side, path))
        if last is None or self._versions[last][1] is not None:
            return False
        return any(version in self._ancestors(last) for version in self._versions_of(path, content))

    def has_recurred(self, path: str, content: bytes) -> bool:
        """Return whether several versions of a path have this content: to see one is to see all."""
        return len(self._versions_of(path, content)) > 1

    def changed_paths(self, side: str, now: dict[str, bytes]) -> list[str]:
        """Return the paths at which `now` differs from what a side showed."""
        before = self.shown[side]
        if before == now:
            return []
        return [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]

    def _arriving_version(self, side: str, path: str, content: bytes) -> int:
        """Return the version that reaches a side: the store's if it has this content, else the latest."""
        from_store = side != "store" and self.shown["store"].get(path) == content
        source = self._current.get(("store", path)) if from_store else None
        return self._latest_version(path, content) if source is None else source

    def _is_moved_back(self, side: str, path: str, now: dict[str, bytes]) -> bool:
        """Return whether craftsync takes back its own move, of a file that a user edited just before it."""
        before, version = self.shown[side][path], self._current.get((side, path))
        is_its_own = version is not None and version not in self._by_users
        return is_its_own and (side, path, before) in self._brought and before in now.values()

    def _apply_order(
        self, sides: tuple[str, ...], path: str, content: bytes | None, *, anew: bool
    ) -> None:
        """Make the version that an order puts on the first side a child of the one that it replaces.

        If that version already has descendants, the order makes a new one with the same content, on
        each of the sides that shows it: no other client knows of it yet. Content that this run itself
        replaced comes back because a user wrote in between: it descends from its earlier version alone.
        """
        side = sides[0]
        replaced, by_order = self._current.get((side, path)), self._replaced_by_order[side, path]
        is_put_back = content in by_order
        if (before := self.shown[side].get(path)) is not None:
            by_order.add(before)
        version = None if content is None else self._arriving_version(side, path, content)
        if (
            version is None
            or (replaced is not None and version in self._ancestors(replaced))
            or any(version in parents for parents in self._parents)
            or (anew and replaced is not None)
        ):
            seen = {version} if is_put_back else {replaced, version}
            name = original(path) if content is None else None
            if before is not None and name and self.shown[side].get(name) != before:
                seen |= set(self._versions_of(name, before))
            version = self._add_version(path, content, *(seen - {None}))
            for other in self.shown.keys() & set(sides):
                if content is not None and self.shown[other].get(path) == content:
                    self._current[other, path] = version
        elif replaced is not None:
            self._parents[version] |= {replaced} - {version}
        self._current[side, path] = version

    def _is_conflict(self, side: str, path: str, content: bytes | None, no_baseline: bool) -> bool:
        """Return whether a side's current version and the content that replaces it are in conflict."""
        replaced = self._current.get((side, path))
        if replaced is None or content is None or self.shown[side].get(path) is None:
            return False
        if no_baseline or content in self._replaced_by_order[side, path]:
            return True
        return self._are_concurrent(replaced, self._latest_version(path, content))

    def _link_recurrences(self, side: str, path: str, replaced: bytes, by: bytes | None) -> None:
        """Make the replaced version a parent of each version `by` that descends from the same content."""
        version, equal = self._current.get((side, path)), set(self._versions_of(path, replaced))
        for later, made in enumerate(self._versions):
            is_new = made == (path, by) and version not in (None, later)
            if is_new and equal & self._ancestors(later):
                self._parents[later].add(version)

    def _unjustified_copies(self) -> Iterator[Finding]:
        for side, shown in self.shown.items():
            for name in shown.keys() - self._known_names:
                path = original(name) or ""
                content = shown[name]
                if self._versions_of(path, content) and not self._is_justified(name, content):
                    message = f"conflict copy without a conflict: {content!r} as {name} in {side}"
                    yield Finding(path, message)

    def _is_justified(self, name: str, content: bytes) -> bool:
        """Return whether a conflict copy has a concurrent version, or had one when it was made."""
        return (name, content) in self._justified_copies or any(
            self._are_concurrent(mine, other)
            for path in {original(name), _copied_path(name)} - {None}
            for mine in self._versions_of(path, content)
            for other, (at, what) in enumerate(self._versions)
            if at == path and what is not None
        )

    def _check_content(self, side: str, path: str, content: bytes) -> None:
        """Raise `Violation` if no user wrote the content; record it if it is a conflict copy."""
        if content not in self.written:
            raise Violation(f"torn: {side} shows {content!r} at {path}")
        if original(path):
            self._versions_at_arrival[side, path] = len(self._versions)
            if self._is_justified(path, content):
                self._justified_copies.add((path, content))

    def _is_superseded(self, path: str, gone: bytes, new: bytes | None) -> bool:
        """Return whether the new version, or a delete, descends from a version with the old content."""
        after = [
            n
            for n, (at, content) in enumerate(self._versions)
            if at == path and content in (new, None)
        ]
        old = self._versions_of(path, gone)
        return any(version in self._ancestors(later) for later in after for version in old)

    def _add_version(self, path: str, content: bytes | None, *parents: int | None) -> int:
        self._versions.append((path, content))
        self._parents.append({one for one in parents if one is not None})
        return len(self._versions) - 1

    def _set_shown(self, side: str, path: str, version: int, content: bytes | None) -> None:
        self._current[side, path] = version
        self.shown[side].pop(path, None)
        if content is not None:
            self.shown[side][path] = content

    def _versions_of(self, path: str, content: bytes) -> list[int]:
        return [n for n, version in enumerate(self._versions) if version == (path, content)]

    def _latest_version(self, path: str, content: bytes) -> int:
        known = self._versions_of(path, content)
        return known[-1] if known else self._add_version(path, content)

    def _are_concurrent(self, one: int, other: int) -> bool:
        if one == other:
            return False
        return one not in self._ancestors(other) and other not in self._ancestors(one)

    def _ancestors(self, version: int) -> set[int]:
        """Return every version that the author of a version can have known of."""
        known: set[int] = set()
        to_visit = list(self._parents[version])
        while to_visit:
            one = to_visit.pop()
            if one not in known:
                known.add(one)
                to_visit.extend(self._parents[one])
        return known


def original(name: str) -> str | None:
    """Return the path that a conflict copy belongs to; `None` for any other path."""
    if " (conflict " not in name:
        return None
    stem, _, rest = name.partition(" (conflict ")
    return stem + rest.rpartition(")")[2]


def _copied_path(name: str) -> str:
    """Return the path beside which a conflict copy was put: it may be a conflict copy itself."""
    stem, _, rest = name.rpartition(" (conflict ")
    return stem + rest.rpartition(")")[2]
