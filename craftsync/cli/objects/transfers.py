"""The sources and targets of `put`, `get`, `cp`, `mv` and `rm`, and what they print for each object."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from craftsync.cli.objects.shared import SkippedKeys
from craftsync.cli.output import Output, reporting
from craftsync.config import places
from craftsync.config.addresses import joined, within
from craftsync.core.model import OWN_FOLDER, Kind, RemoteObject
from craftsync.core.paths import in_trash, is_own
from craftsync.engine.report import ActionEvent, Issue, IssueEvent, ProgressEvent
from craftsync.errors import ObjectNotFound, PathError, StoreMissing, UsageError
from craftsync.local.ignore import CallRules
from craftsync.objects import Outcome, arguments, at_once, whereabouts
from craftsync.objects.arguments import Place
from craftsync.stores.sources import OnBytes

STANDARD_INPUT = frozenset({"-", "/dev/stdin"})
STANDARD_OUTPUT = frozenset({"-", "/dev/stdout"})
"""Includes the names in /dev: opening one would truncate a file that standard output is redirected to."""


class Item(NamedTuple):
    """A file or an object: its path, and its name relative to the folder of its argument."""

    path: str
    name: str
    size: int
    object: RemoteObject | None = None


@dataclass(frozen=True)
class Files:
    """An argument that names a file on this machine, or with `recursive` a folder."""

    word: str
    recursive: bool
    rules: CallRules

    @property
    def path(self) -> str:
        return os.path.expanduser(self.word)

    @property
    def several(self) -> bool:
        return self.recursive and os.path.isdir(self.path)

    def items(self, on_skipped: Callable[[str, str], object]) -> Iterator[Item]:
        if not self.several:
            size = os.stat(self.path).st_size if os.path.isfile(self.path) else 0
            yield Item(self.path, os.path.basename(self.path.rstrip("/")), size)
            return
        for folder, names, files in os.walk(self.path):
            names[:] = sorted(name for name in names if name != OWN_FOLDER)
            for name in sorted(files):
                file = Path(folder, name)
                inner = file.relative_to(self.path).as_posix()
                if self.rules.ignored(inner):
                    continue
                if file.is_symlink() or not file.is_file():
                    on_skipped(str(file), "a symbolic link or a special file")
                    continue
                yield Item(str(file), inner, file.stat().st_size)

    def label(self, path: str) -> str:
        return path

    @property
    def folder(self) -> tuple[str, str]:
        """The whereabouts of the folder that contains all items."""
        return _whereabouts(None, self.path)

    def names(self, path: str) -> bool:
        """Return whether the items include a file at this path, relative to `folder`, if there is one."""
        return OWN_FOLDER not in path.split("/") and not self.rules.ignored(path)


@dataclass(frozen=True)
class Objects:
    """An argument that names an object, several by a pattern, or with `recursive` a folder."""

    place: Place
    recursive: bool
    rules: CallRules
    skipped_keys: SkippedKeys

    @property
    def several(self) -> bool:
        if arguments.is_pattern(self.place.path):
            return True
        return self.recursive and (
            self.place.is_folder or self.place.store.opened().stat(self.place.path) is None
        )

    def items(self, on_skipped: Callable[[str, str], object]) -> Iterator[Item]:
        """Yield the named objects that pass the filter; raises `ObjectNotFound` if there are none."""
        some = False
        found = arguments.found_at(
            self.place,
            recursive=self.recursive,
            hint="Use -r for all of them.",
            on_skipped=self.skipped_keys,
        )
        for each, name in found:
            if not self.rules.ignored(name):
                some = True
                yield Item(each.path, name, each.size, each)
        if not some:
            raise ObjectNotFound(
                f"{self.place.word}: nothing matches --include and --exclude.",
                remedy="Patterns are those of .gitignore, relative to the named folder.",
            )

    def label(self, path: str) -> str:
        return self.place.named(path)

    @property
    def word(self) -> str:
        return self.place.word

    @property
    def folder(self) -> tuple[str, str]:
        """The whereabouts of the folder that contains all items."""
        return whereabouts(self.place.store, self.place.folder)

    def names(self, path: str) -> bool:
        """Return whether the items include an object at this path, relative to `folder`, if there is one."""
        whole = joined(self.place.folder, path)
        if is_own(whole) or self.rules.ignored(path):
            return False
        if self._pattern is None:
            return True
        if self.recursive:
            return self._pattern.matched(whole) is not None
        return self._pattern.matches(whole)

    @cached_property
    def _pattern(self) -> arguments.Pattern | None:
        path = self.place.path
        return arguments.Pattern(path) if arguments.is_pattern(path) else None


Source = Files | Objects


@dataclass(frozen=True)
class Target:
    """The target: a place in a store, or a file or folder on this machine."""

    place: Place | None
    word: str
    into: bool
    """Whether it is a folder, in which each source keeps its name."""

    def exists(self) -> bool:
        """Return whether the store exists; this machine does."""
        return self.place is None or places.exists(self.place.store.location)

    @property
    def top(self) -> str:
        """The path of the target itself."""
        return os.path.expanduser(self.word) if self.place is None else self.place.path

    def path_of(self, item: Item) -> str:
        if not self.into:
            return self.top
        join = os.path.join if self.place is None else joined
        return join(self.top, item.name)

    def label(self, path: str) -> str:
        return path if self.place is None else self.place.named(path)


def target_of(place: Place | None, word: str, sources: list[Source]) -> Target:
    """Return the target; it is a folder if there are several sources, or if it is an existing folder."""
    if len(sources) > 1 or sources[0].several:
        file = os.path.expanduser(word)
        if place is None and os.path.exists(file) and not os.path.isdir(file):
            raise UsageError(
                f"{word} is a file, but there are several sources.", remedy="Name a folder."
            )
        if place is not None and _is_object(place):
            raise UsageError(
                f"{word} is an object, but there are several sources.", remedy="Name a folder."
            )
        return Target(place, word, True)
    if place is None:
        return Target(None, word, os.path.isdir(os.path.expanduser(word)))
    return Target(place, word, place.is_folder or _is_folder(place))


class NestingCheck:
    """Refuses an item that would be copied to itself, or whose copy would be an item, too, and be copied again."""

    def __init__(self, sources: Sequence[Source], target: Target | None) -> None:
        self._target = target
        self._around = [
            (source, folder)
            for source in sources
            if target is not None and source.several
            if (folder := _nested(source, target)) is not None
        ]
        """The sources whose folder is above or below the target, and that folder."""

    @property
    def is_nested(self) -> bool:
        """Whether a copy may be an item, too."""
        return bool(self._around)

    def checked(self, source: Source, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; raises `UsageError` for one that is refused."""
        target = self._target
        of_source = source.place if isinstance(source, Objects) else None
        if target is None or not (self._around or _on_one_server(of_source, target.place)):
            yield from items
            return
        for item in items:
            path = target.path_of(item)
            to = _whereabouts(target.place, path)
            if _whereabouts(of_source, item.path) == to:
                raise UsageError(
                    f"{source.label(item.path)} and {target.label(path)} are the same.",
                    remedy="Name another target.",
                )
            for other, folder in self._around:
                inside = within(folder, to[1])
                if inside and other.names(inside):
                    raise _copied_again(source.label(item.path), path, other, target)
            yield item


def _nested(source: Source, target: Target) -> str | None:
    """Return the folder of a source if it is above or below the target, else `None`."""
    server, folder = source.folder
    other, top = _whereabouts(target.place, target.top)
    folder, top = folder.rstrip("/"), top.rstrip("/")
    is_nested = within(folder, top) is not None or within(top, folder) is not None
    return folder if server == other and is_nested else None


def _copied_again(label: str, path: str, source: Source, target: Target) -> UsageError:
    """Return the error for an item whose copy would be an item of `source`, too."""
    remedy, (_, folder) = "Name another target", source.folder
    inside = within(folder.rstrip("/"), _whereabouts(target.place, target.top)[1].rstrip("/"))
    if inside and not arguments.is_pattern(inside):
        remedy += f", or leave it out: --exclude {shlex.quote(f'/{inside}/')}"
    return UsageError(
        f"{label} cannot go to {target.label(path)}: {source.word} includes that path, so the copy"
        " would be copied again.",
        remedy=f"{remedy}.",
    )


def _on_one_server(place: Place | None, other: Place | None) -> bool:
    return _whereabouts(place, "")[0] == _whereabouts(other, "")[0]


def _whereabouts(place: Place | None, path: str) -> tuple[str, str]:
    """Return the absolute place of a path: in a store, or without `place` on this machine."""
    if place is None:
        return "/", os.path.realpath(path).lstrip("/")
    return whereabouts(place.store, path)


def with_replaced(
    target: Target | None, items: Iterable[Item]
) -> Iterator[tuple[Item, int | None]]:
    """Yield each item with the size of the file or object that it replaces, or `None`."""
    if target is None or not target.exists():
        yield from ((item, None) for item in items)
        return
    store = None if target.place is None else target.place.store.opened()

    def sized(item: Item) -> tuple[Item, int | None]:
        path = target.path_of(item)
        if store is not None:
            found = None
            with suppress(PathError):  # Nothing exists at an invalid path.
                found = store.stat(path)
            return item, None if found is None else found.size
        return item, os.path.getsize(path) if os.path.isfile(path) else None

    yield from at_once(items, sized, *[store] if store else [])


def _is_object(place: Place) -> bool:
    if place.is_folder or not places.exists(place.store.location):
        return False
    return place.store.opened().stat(place.path) is not None


def _is_folder(place: Place) -> bool:
    """Return whether a path is a folder, not an object."""
    try:
        store = place.store.opened()
    except StoreMissing:
        return False  # The first object creates it.
    return next(iter(store.list_folder(place.path)), None) is not None and (
        store.features.folders or store.stat(place.path) is None
    )


def rules_of(flags: Mapping[str, Any]) -> CallRules:
    """Return the rules of --include and --exclude.

    For aws, the last matching option decides, so its users write `--exclude '*'
    --include '*.csv'` for only *.csv. Here --include alone means that.
    """
    include, exclude = tuple(flags["include"]), tuple(flags["exclude"])
    if include:
        exclude = tuple(pattern for pattern in exclude if pattern not in ("*", "**"))
    return CallRules(include, exclude)


_VERBS: dict[str, str] = {Kind.MOVE_REMOTE: "move", Kind.DELETE_REMOTE: "remove"}


@dataclass(frozen=True)
class TransferEvent(ActionEvent):
    """An action with its target."""

    target: str = ""
    words: str = ""

    @property
    def line(self) -> str:
        return f"{_VERBS.get(self.action, self.action)} {self.words}"

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), **({"target": self.target} if self.target else {})}


class InTrash(NamedTuple):
    """What one argument of `rm` removed: an object, or several if `path` is empty."""

    place: Place
    stamp: str
    path: str

    def undo_command(self) -> list[str]:
        """Return the command that restores it."""
        kept = in_trash(self.stamp, self.path).rstrip("/")
        to = [self.place.named(kept), self.place.named(self.path)]
        root = self.place.named("")
        # The name of an environment already means its root.
        known = not ("://" in root or places.is_path(root))
        store = (
            [] if known else ["--store", root if root.endswith("://") else root.rstrip("/") or "/"]
        )
        return ["craftsync", "cp", *([] if self.path else ["-r"]), *to, *store]


class Call:
    """One call: prints the outcome of each item, and a summary if there are several."""

    def __init__(self, output: Output, action: Kind | str, single: bool) -> None:
        self._output = output
        self._action = action
        self._progress = _Progress(output)
        self._single = single
        self._began = time.monotonic()
        self.in_trash: list[InTrash] = []
        self.on_bytes: OnBytes = self._progress.moved

    def planned(
        self, source: Source, item: Item, target: Target | None, replaces: int | None
    ) -> None:
        path = "" if target is None else target.path_of(item)
        self._say(source, item.path, item.size, target, path, "planned", replaces=replaces)

    def done(self, source: Source, target: Target | None, outcome: Outcome) -> None:
        """Print the outcome of an item; if it is the only one, raise its error."""
        self._progress.file()
        if outcome.stamp and isinstance(source, Objects):
            self._note_trash(source.place, outcome)
        if outcome.error is None or outcome.copied:
            self._say(
                *(source, outcome.path, outcome.size, target, outcome.target, "done"),
                copied=outcome.copied,
            )
        if outcome.error is None:
            return
        if self._single:
            raise outcome.error
        reason = f"{outcome.error} {outcome.error.remedy}".strip()
        self._output.on_event(IssueEvent(Issue.PROBLEM, source.label(outcome.path), reason))

    def _note_trash(self, place: Place, outcome: Outcome) -> None:
        last = self.in_trash[-1] if self.in_trash else None
        if last and last.stamp == outcome.stamp:
            self.in_trash[-1] = last._replace(path="")
        else:
            self.in_trash.append(InTrash(place, outcome.stamp, outcome.path))

    def streamed(self, word: str, to: str, path: str, size: int, status: str) -> None:
        """Print the outcome for standard input or output; `path` is the path of the object."""
        self._progress.file()
        event = TransferEvent(self._action, path, size, status, words=f"{word} → {to}")
        self._output.on_event(event)

    def skipped(self, path: str, reason: str) -> None:
        self._output.on_event(IssueEvent(Issue.SKIPPED, path, reason, by_design=True))

    def expect(self, count: int, size: int) -> None:
        self._progress.expect(count, size)

    def end(self) -> int:
        """Print the summary and return the exit code."""
        return self._output.end(time.monotonic() - self._began)

    def _say(
        self,
        source: Source,
        path: str,
        size: int,
        target: Target | None,
        to: str,
        status: str,
        *,
        copied: bool = False,
        replaces: int | None = None,
    ) -> None:
        words = source.label(path)
        if target is not None:
            words = f"{words} → {target.label(to)}"
        action = "copy" if copied and self._action == Kind.MOVE_REMOTE else self._action
        event = TransferEvent(action, path, size, status, "", replaces, target=to, words=words)
        self._output.on_event(event)


@contextmanager
def reported(
    name: str, action: Kind | str, flags: dict[str, Any], *, single: bool
) -> Iterator[Call]:
    """Yield the printer for the events of a call; success of a single item is printed only on a terminal."""
    silent = single and not (flags["verbose"] or flags["dry_run"] or sys.stdout.isatty())
    chosen = {**flags, "quiet": flags["quiet"] or silent}
    with reporting(name, chosen, late=not flags["quiet"]) as output:
        yield Call(output, action, single)


class _Progress:
    """Counts transferred bytes, and shows them if the transfer takes longer than `_DELAY` seconds."""

    _DELAY, _PAUSE = 0.7, 0.1

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._bytes = self._files = 0
        self._total: tuple[int, int] | None = None
        self._next = time.monotonic() + self._DELAY

    def expect(self, count: int, size: int) -> None:
        self._total = count, size

    def file(self) -> None:
        self._files += 1
        self._show()

    def moved(self, size: int) -> None:
        with self._lock:
            self._bytes += size
        self._show()

    def _show(self) -> None:
        with self._lock:
            if (now := time.monotonic()) < self._next:
                return
            self._next = now + self._PAUSE
            count, size = self._total or (None, None)
            event = ProgressEvent("transferring", self._files, count, self._bytes, size)
        self._output.on_event(event)
