"""What must never happen, by what people wrote alone. Knows nothing of craftsync, its tables or its faults.

Whoever writes or deletes makes a version, and has seen the version that stood
there. So each version knows those before it. A version may give way to one
made by somebody who had seen it, or to such a delete; a second one beside it
needs two of which neither's author had seen the other. `windows` says what of
that is documented as not kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Wrong(AssertionError):
    """A rule was broken."""


class Finding(NamedTuple):
    """What broke a rule, unless a window was open for the path."""

    path: str
    words: str


class Judge:
    """Hears of every change; `shown` is what each side shows, without craftsync's own folder."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.written: set[bytes] = set()
        self._versions: list[tuple[str, bytes | None]] = []
        """Path and content of each; `None` is a delete."""
        self._seen: list[set[int]] = []
        """The versions that stood where each was made."""
        self._at: dict[tuple[str, str], int] = {}
        self._gave_way: dict[tuple[str, str], dict[bytes, bytes | None]] = defaultdict(dict)
        self._overruled: dict[tuple[str, str], set[bytes]] = defaultdict(set)
        """What orders of the run under way replaced."""
        self._known: set[str] = set()
        self._came: dict[tuple[str, str], int] = {}
        """How many versions there were when a conflict copy came to a side."""
        self._lost: set[int] = set()
        self._founded: set[tuple[str, bytes]] = set()
        """Conflict copies that had a reason when they were made, even if an order settled it since."""

    def person(self, side: str, path: str, content: bytes | None) -> None:
        """Hear that somebody wrote a content at a path of a side, or deleted what was there."""
        if content is not None:
            self.written.add(content)
        if (name := original(path)) and content is not None:
            self._founded.add((path, content))
        elif name:
            self.settled(side, name, self.shown[side].get(path), path)
        self._stands(side, path, self._new(path, content, self._at.get((side, path))), content)

    def settled(self, side: str, path: str, other: bytes | None, copy: str = "") -> None:
        """Hear that somebody who chose what stands at a path of a side had seen another version of it, too.

        Where that was a conflict `copy`, whoever chose it elsewhere since made a version that is not seen here.
        """
        content, until = (
            self.shown[side].get(path),
            self._came.get((side, copy), len(self._versions)),
        )
        others = self._all(path, other) if other else []
        seen = self._at.get((side, path)), *(one for one in others if one < until)
        self._at[side, path] = self._new(path, content, *seen)

    def machine(self, side: str, now: dict[str, bytes]) -> None:
        """Hear what a power cut left: older versions, which nobody made anew, or what nobody ever wrote.

        Versions that nobody had flushed, and that no other side shows, are nobody's last ones.
        """
        changed, self.shown[side] = self.changed(side, now), dict(now)
        for path in changed:
            content, last = now.get(path), self._at.pop((side, path), None)
            if content is not None:
                known = self._all(path, content)
                self._at[side, path] = known[-1] if known else self._new(path, content, last)
                self.written.add(content)
            if last is not None and self._versions[last][1] and last not in self._at.values():
                self._lost.add(last)  # Another side may show the same content as an older version.
            left = {shown.get(path) for shown in self.shown.values()} | {None}
            self._lost |= {
                n for n, (at, what) in enumerate(self._versions) if at == path and what not in left
            }

    def craftsync(
        self,
        side: str,
        now: dict[str, bytes],
        *,
        by: str = "",
        ordered: bool = False,
        chooses: bool = False,
        forgotten: Collection[str] = (),
        settles: bool = False,
    ) -> None:
        """Hear what a side shows after an effect of craftsync; somebody may have `ordered` it, whatever was there.

        Or that it `chooses` one of two versions of which neither's author had seen the other, or whose
        last synced state is `forgotten`: then any two are in conflict.
        Who `settles` a conflict makes a version of what he chose. `by` is the client whose run it is.
        """
        changed = self.changed(side, now)
        for path in changed:
            content, before = now.get(path), self.shown[side].get(path)
            if content is not None and content not in self.written:
                raise Wrong(f"torn: {side} shows {content!r} at {path}")
            if content is not None and original(path):
                self._note_copy(side, path, content)
            gave_way = self._gave_way[side, path]
            if ordered or (chooses and self._is_a_conflict(side, path, content, path in forgotten)):
                self._order((side, by, "store"), path, content, anew=settles)
                continue
            if None not in (content, before) and gave_way.get(content) == before:
                # Somebody wrote it just before it was replaced: it is put back at once.
                del gave_way[content]
                self._at[side, path] = self._latest(path, content)
                continue
            if before is not None:
                gave_way[before] = content
                self._see_again(side, path, before, content)
            if content is not None:
                self._at[side, path] = self._arriving(side, path, content)
        if changed:
            self.shown[side] = dict(now)

    def findings(self) -> Iterator[Finding]:
        """Yield what craftsync must not have done since the last call."""
        merged: list[tuple[int, int]] = []
        for (side, path), contents in self._gave_way.items():
            shown = self.shown[side]
            beside = {shown[name] for name in shown if path in (original(name), _copied(name))}
            for content, instead in contents.items():
                if content in beside and instead is not None:
                    merged.append((self._latest(path, content), self._latest(path, instead)))
                elif content != shown.get(path) and not self._may_go(
                    path, content, shown.get(path)
                ):
                    new = shown.get(path)
                    what = "deleted" if new is None else f"replaced by {new!r}"
                    yield Finding(
                        path, f"without a rule: {content!r} at {path} of {side} was {what}"
                    )
        yield from self._copies()
        for gone, after in merged:
            # Whoever sees the new version can see the other one beside it.
            if self._are_apart(gone, after):
                self._seen[after].add(gone)
        self.forget()

    def forget(self) -> None:
        """Take all that was done so far for granted."""
        self._gave_way.clear()
        self._overruled.clear()
        self._known = {name for shown in self.shown.values() for name in shown}

    def in_sync(self, side: str) -> set[str]:
        """Return the paths at which a side and the store show the same."""
        here, there = self.shown[side], self.shown["store"]
        return {path for path in here.keys() | there.keys() if here.get(path) == there.get(path)}

    def heads(self) -> dict[str, list[bytes | None]]:
        """Return for each path what nobody has replaced knowingly; `None` is a delete."""
        left = set(range(len(self._versions))) - self._lost
        seen = set().union(*map(self._before, left))
        found: dict[str, list[bytes | None]] = defaultdict(list)
        for path, content in (self._versions[n] for n in sorted(left - seen)):
            if original(path) is None:
                found[path].append(content)
        return found

    def was_deleted(self, side: str, path: str, content: bytes) -> bool:
        """Tell whether a path is gone from a side by somebody who had seen that content there."""
        last = self._at.get((side, path))
        if last is None or self._versions[last][1] is not None:
            return False
        return any(version in self._before(last) for version in self._all(path, content))

    def was_put_back(self, path: str, content: bytes) -> bool:
        """Tell whether a content stood at a path twice, so that whoever went on from one went on from both."""
        return len(self._all(path, content)) > 1

    def _arriving(self, side: str, path: str, content: bytes) -> int:
        """Return the version that a side gets: the store's, if that shows it, else the latest."""
        from_store = side != "store" and self.shown["store"].get(path) == content
        source = self._at.get(("store", path)) if from_store else None
        return self._latest(path, content) if source is None else source

    def _order(
        self, sides: tuple[str, ...], path: str, content: bytes | None, *, anew: bool
    ) -> None:
        """Let a version follow the one that it replaces on the first side, as if its author had seen that.

        One that somebody else has replaced or deleted is made anew where it is brought back, and on the other
        side of the run that shows it: no other client knows of it yet. One that this run itself replaced is
        put back because somebody wrote meanwhile: that replaces nothing knowingly.
        """
        side = sides[0]
        replaced, overruled = self._at.get((side, path)), self._overruled[side, path]
        is_put_back = content in overruled
        if (before := self.shown[side].get(path)) is not None:
            overruled.add(before)
        version = None if content is None else self._latest(path, content)
        if (
            version is None
            or (replaced is not None and version in self._before(replaced))
            or any(version in seen for seen in self._seen)
            or (anew and replaced is not None)
        ):
            seen = {version} if is_put_back else {replaced, version}
            if before is not None and content is None and (name := original(path)):
                seen |= set(self._all(name, before))
            version = self._new(path, content, *(seen - {None}))
            for other in self.shown.keys() & set(sides):
                if content is not None and self.shown[other].get(path) == content:
                    self._at[other, path] = version
        elif replaced is not None:
            self._seen[version] |= {replaced} - {version}
        self._at[side, path] = version

    def _is_a_conflict(
        self, side: str, path: str, content: bytes | None, is_forgotten: bool
    ) -> bool:
        replaced = self._at.get((side, path))
        if replaced is None or content is None or self.shown[side].get(path) is None:
            return False
        is_put_back = content in self._overruled[side, path]
        return is_put_back or is_forgotten or self._are_apart(replaced, self._latest(path, content))

    def _see_again(self, side: str, path: str, replaced: bytes, by: bytes | None) -> None:
        """Whoever went on from a content went on from it wherever it was put back, and from what that replaced."""
        version, copies = self._at.get((side, path)), set(self._all(path, replaced))
        for later, made in enumerate(self._versions):
            if made == (path, by) and version not in (None, later) and copies & self._before(later):
                self._seen[later].add(version)

    def _copies(self) -> Iterator[Finding]:
        for side, shown in self.shown.items():
            for name in shown.keys() - self._known:
                path = original(name) or ""
                mine = self._all(path, shown[name])
                if mine and not self._is_founded(name, shown[name]):
                    yield Finding(
                        path, f"a conflict nobody made: {shown[name]!r} as {name} in {side}"
                    )

    def _is_founded(self, name: str, content: bytes) -> bool:
        """Tell whether a conflict copy has, or had as it was made, a second version beside it."""
        return (name, content) in self._founded or any(
            self._are_apart(mine, other)
            for path in {original(name), _copied(name)} - {None}
            for mine in self._all(path, content)
            for other, (at, what) in enumerate(self._versions)
            if at == path and what is not None
        )

    def _note_copy(self, side: str, name: str, content: bytes) -> None:
        self._came[side, name] = len(self._versions)
        if self._is_founded(name, content):
            self._founded.add((name, content))

    def _may_go(self, path: str, gone: bytes, new: bytes | None) -> bool:
        after = [
            n
            for n, (at, content) in enumerate(self._versions)
            if at == path and content in (new, None)
        ]
        return any(old in self._before(later) for later in after for old in self._all(path, gone))

    def changed(self, side: str, now: dict[str, bytes]) -> list[str]:
        """Return the paths that a side shows otherwise than before."""
        before = self.shown[side]
        if before == now:
            return []
        return [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]

    def _new(self, path: str, content: bytes | None, *seen: int | None) -> int:
        self._versions.append((path, content))
        self._seen.append({one for one in seen if one is not None})
        return len(self._versions) - 1

    def _stands(self, side: str, path: str, version: int, content: bytes | None) -> None:
        self._at[side, path] = version
        self.shown[side].pop(path, None)
        if content is not None:
            self.shown[side][path] = content

    def _all(self, path: str, content: bytes) -> list[int]:
        return [n for n, version in enumerate(self._versions) if version == (path, content)]

    def _latest(self, path: str, content: bytes) -> int:
        known = self._all(path, content)
        return known[-1] if known else self._new(path, content)

    def _are_apart(self, one: int, other: int) -> bool:
        return one != other and one not in self._before(other) and other not in self._before(one)

    def _before(self, version: int) -> set[int]:
        """Return all that whoever made a version can have known of."""
        known: set[int] = set()
        to_see = list(self._seen[version])
        while to_see:
            one = to_see.pop()
            if one not in known:
                known.add(one)
                to_see.extend(self._seen[one])
        return known


def original(name: str) -> str | None:
    """Return the path that a conflict copy belongs to; `None` for any other path."""
    if " (conflict " not in name:
        return None
    stem, _, rest = name.partition(" (conflict ")
    return stem + rest.rpartition(")")[2]


def _copied(name: str) -> str:
    """Return the path beside which a conflict copy was put, which may be that of a conflict copy itself."""
    stem, _, rest = name.rpartition(" (conflict ")
    return stem + rest.rpartition(")")[2]
