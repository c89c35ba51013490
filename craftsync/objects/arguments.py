"""Resolves OBJECT arguments to stores and objects: the root of the store, patterns, and suggestions for mistyped names.

The trash and the conditions of a change belong to the root of a store, so a
change needs to know the root. It is what `--store` names; else the innermost
configured or remembered store that contains the path; else the nearest folder
with a `.craftsync/store-id`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from fnmatch import translate
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from craftsync import linked_folders
from craftsync.config import addresses, pairs, places
from craftsync.config import file as configuration
from craftsync.config.addresses import Address, joined, object_address, within
from craftsync.config.options import PairOptions
from craftsync.config.places import DirectoryLocation
from craftsync.core.model import OWN_FOLDER, RemoteObject, Skipped, Subfolder
from craftsync.core.paths import folders_above
from craftsync.datastore import DataStore
from craftsync.engine.identity import ROOT_ID_FILE, STORE_ID_FILE
from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    RequestDenied,
    StoreMissing,
    UsageError,
)
from craftsync.objects.finding import Entry, OnSkipped, below, find, listing

_MAGIC = re.compile(r"[*?[]")


class Pattern:
    """A path with wildcards: `*`, `?` and `[…]` never match a slash, `**` matches any number of folders.

    `[[]` matches a bracket. Without wildcards, a pattern matches its own path only.
    """

    def __init__(self, text: str) -> None:
        self._parts = text.split("/")
        self._match = [re.compile(translate(part)).match for part in self._parts]
        plain = next((n for n, part in enumerate(self._parts) if _MAGIC.search(part)), -1)
        self.folder = "/".join(self._parts[:plain])
        """The innermost folder that contains all matches."""
        self.depth = None if "**" in self._parts else len(self._parts)
        """The number of names in a matching path; `None` for any."""

    def matches(self, path: str) -> bool:
        return len(self._parts) in self._after(path.split("/"))

    def matched(self, path: str) -> str | None:
        """Return the outermost folder above a path that matches, else the path if it matches, else `None`."""
        return next((each for each in (*folders_above(path), path) if self.matches(each)), None)

    def _after(self, names: list[str]) -> set[int]:
        """Return the possible numbers of pattern parts that all the names have used up."""
        at = self._with_any({0})
        for name in names:
            stay = {n for n in at if n < len(self._parts) and self._parts[n] == "**"}
            step = {n + 1 for n in at if n < len(self._parts) and self._match[n](name)}
            at = self._with_any(stay | step)
        return at

    def _with_any(self, at: set[int]) -> set[int]:
        for n in sorted(at):
            while n < len(self._parts) and self._parts[n] == "**":
                n += 1
                at = at | {n}
        return at


def is_pattern(text: str) -> bool:
    return _MAGIC.search(text) is not None


@dataclass(frozen=True, slots=True)
class Place:
    """What an OBJECT argument names: a path or a pattern in a store; "" is the whole store."""

    store: DataStore
    path: str
    is_folder: bool
    """Whether the argument names a folder: it ends with a slash, or names a whole store."""
    root: str
    address: Address

    @property
    def word(self) -> str:
        return self.address.word

    @property
    def folder(self) -> str:
        """The folder that names are relative to: that of a pattern, or the path itself."""
        return Pattern(self.path).folder if is_pattern(self.path) else self.path

    def named(self, path: str) -> str:
        """Return the OBJECT argument for another path in the store."""
        return self.address.named(joined(self.root, path))


class Found(NamedTuple):
    """An object that an argument names; `name` is its path relative to `Place.folder`."""

    object: RemoteObject
    name: str


class Arguments:
    """Resolves the OBJECT arguments of one call, and opens each store once. Use it in a `with`."""

    def __init__(
        self,
        where: PairOptions,
        stores: Sequence[str] = (),
        how: Callable[[str], str] = "Name its root with --store, such as --store {}.".format,
    ) -> None:
        """`stores` are the roots of stores given by the user; they take precedence over known ones.

        `how` returns the remedy for a change outside of known stores, given the likely root.
        """
        self._how = how
        self._where = where
        self._config = configuration.load(where.get("config"))
        self._access = pairs.access_of(where)
        self._given = tuple(stores)
        self._exit = ExitStack()
        self._opened: dict[places.Location, DataStore] = {}
        self._remembered: list[str] | None = None

    def __enter__(self) -> Arguments:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def names_store(self, word: str) -> bool:
        """Return whether a word is an OBJECT or a STORE, not a bare name."""
        name, colon, _ = word.partition(":")
        known = name in self._config.environments
        return "://" in word or places.is_path(word) or (known and (bool(colon) or name == word))

    def is_file(self, word: str) -> bool:
        """Return whether a word is a path on this machine outside of all known stores."""
        if not places.is_path(word):
            return False
        return self._root_of(object_address(word, self._config, self._access), change=True) is None

    def store(self, word: str, path: str) -> Place:
        """Return the place of a path in the store whose root is `word`."""
        location = places.resolve(word, self._config, self._access)
        whole, root = addresses.split(location)
        base = word if word.endswith(("/", ":")) else f"{word}{'/' if _has_path(word) else ':'}"
        address = Address(base + path, whole, joined(root, path), False, base, root)
        return Place(self._at(word, whole, root), path, path.endswith("/"), root, address)

    def place(self, word: str, *, change: bool = False) -> Place:
        """Return the place that a word names.

        Raises `UsageError` for a `change` outside of all known stores, and
        `StoreMissing` for a read if not even a folder above the path exists.
        """
        address = object_address(word, self._config, self._access)
        root = self._root_of(address, change=change)
        if root is None and change:
            _refuse_linked(address)
            outside = (
                f"It is not known where the store of {word} begins, and so where its trash is."
            )
            if self._given:
                outside = f"{word} is not in the store {' or '.join(self._given)}."
            raise UsageError(
                outside,
                remedy=self._how(_root_example(address)),
            )
        if root is None:
            root = _readable_root(address)
        path = within(root, address.path) or ""
        store = self._at(address.named(root), address.whole, root)
        return Place(store, path, address.is_folder or not path, root, address)

    def refuse_written(self, place: Place | None) -> None:
        """Raise `UsageError` for object settings, such as --sse, that the target does not support."""
        local = DirectoryLocation(Path.cwd())
        places.refuse_written(place.store.location if place else local, self._access)

    def _root_of(self, address: Address, *, change: bool) -> str | None:
        """Return the root of an address's store, as a path in its bucket, environment or disk.

        Only for a `change` does it request identity files from a server.
        """
        for known in (
            self._given_in(address),
            chain(
                addresses.configured_roots(address.whole, self._config),
                self._remembered_in(address),
            ),
        ):
            around = [root for root in known if within(root, address.path) is not None]
            if around:
                return max(around, key=len)
        on_disk = isinstance(address.whole, DirectoryLocation)
        return self._identified(address) if change or on_disk else None

    def _given_in(self, address: Address) -> Iterator[str]:
        for word in self._given:
            given = object_address(word, self._config, self._access)
            if addresses.is_same(given.whole, address.whole):
                yield given.path

    def _remembered_in(self, address: Address) -> Iterator[str]:
        if self._remembered is None:
            self._remembered = linked_folders.remembered_stores(self._where)
        for store in self._remembered:
            with suppress(CraftsyncError):
                location = places.remembered(store, self._config, self._access)
                yield from addresses.root_in(address.whole, location)

    def _identified(self, address: Address) -> str | None:
        """Return the innermost folder, at or above a path, that contains the identity file of a store."""
        is_disk = isinstance(address.whole, DirectoryLocation)
        plain = Pattern(address.path).folder if is_pattern(address.path) else address.path
        for folder in [*filter(None, [plain]), *reversed([*folders_above(plain)]), ""]:
            file = joined(folder, STORE_ID_FILE)
            if os.path.isfile(f"/{file}") if is_disk else self._has(address, file):
                return folder
        return None

    def _has(self, address: Address, path: str) -> bool:
        with suppress(RequestDenied):
            whole = self._at(address.named(""), address.whole, "")
            return whole.opened().stat(path) is not None
        return False

    def _at(self, word: str, whole: places.Location, root: str) -> DataStore:
        location = addresses.at(whole, root)
        if location not in self._opened:
            store = DataStore.at(word, location, **self._where)
            self._opened[location] = self._exit.enter_context(store)
        return self._opened[location]


def _has_path(word: str) -> bool:
    return "://" in word or places.is_path(word) or ":" in word


def _refuse_linked(address: Address) -> None:
    """Raise `UsageError` for a path in a linked folder, which must not become a store."""
    if not isinstance(address.whole, DirectoryLocation):
        return
    for folder in (address.path, *folders_above(address.path)):
        if os.path.isfile(f"/{joined(folder, OWN_FOLDER)}/{ROOT_ID_FILE}"):
            raise UsageError(
                f"{address.word} lies in the linked folder /{folder}, which is not a store.",
                remedy="Change its files with cp, mv and rm of the system:"
                " the next run transfers the changes to the store.",
            )


def _root_example(address: Address) -> str:
    if isinstance(address.whole, DirectoryLocation):
        is_folder = address.is_folder or os.path.isdir(f"/{address.path}")
        folder = address.path if is_folder else address.path.rpartition("/")[0]
        return address.named(folder) or "/"
    return address.named("").rstrip("/")


def _readable_root(address: Address) -> str:
    """Return the root from which to read an object outside of all known stores."""
    if not isinstance(address.whole, DirectoryLocation):
        return ""
    plain = Pattern(address.path).folder if is_pattern(address.path) else address.path
    for folder in (plain, *reversed([*folders_above(plain)])):
        if os.path.isdir(f"/{folder}"):
            return folder
    raise StoreMissing(f"{address.word} does not exist.", remedy="Check the name.")


def found_at(
    place: Place,
    *,
    recursive: bool,
    may_be_empty: bool = False,
    hint: str = "",
    on_skipped: OnSkipped = lambda skipped: None,
) -> Iterator[Found]:
    """Yield the objects that a place names: one, the matches of a pattern, or with `recursive` all below a folder.

    If an object has the text of the pattern as its name, only that object is
    meant. Raises `ObjectNotFound` with a suggestion if nothing is found, except in
    an empty store if it `may_be_empty`. `hint` is the remedy for a folder.
    """
    if plain := _named_exactly(place):
        yield Found(plain, plain.path.rpartition("/")[2])
        return
    some, folder = False, place.folder
    for each in _objects_at(place, recursive, on_skipped):
        some = True
        yield Found(each, within(folder, each.path) or each.path)
    if not (some or (may_be_empty and is_empty_store(place))):
        raise missing(place, hint=hint)


def entries_at(
    place: Place, *, recursive: bool, on_skipped: OnSkipped = lambda skipped: None
) -> Iterator[RemoteObject | Entry]:
    """Yield what `ls` lists for a place: one level of a folder, an object, or the matches of a pattern.

    Errors, and an object whose name is the text of a pattern, are as in `found_at`.
    """
    if is_pattern(place.path) and (named := _named_exactly(place)):
        yield named
        return
    some = False
    one_level = _level if not is_pattern(place.path) else _matching_level
    for entry in (_objects_at if recursive else one_level)(place, recursive, on_skipped):
        some = True
        yield entry
    if some or is_empty_store(place):
        return
    if (plain := _named_exactly(place)) is None:
        raise missing(place)
    yield plain


def _named_exactly(place: Place) -> RemoteObject | None:
    return None if place.is_folder else place.store.opened().stat(place.path)


def is_empty_store(place: Place) -> bool:
    """Return whether a place without objects is an empty store, not a mistyped name."""
    if not place.path or is_pattern(place.path):
        return not place.path
    own = place.store.opened().list(f"{place.path}/{OWN_FOLDER}/")
    return next(iter(own), None) is not None


def _objects_at(place: Place, recursive: bool, on_skipped: OnSkipped) -> Iterator[RemoteObject]:
    """Yield the matches of a pattern; with `recursive`, also the objects below its matches, or below a folder."""
    if not is_pattern(place.path):
        if recursive:
            yield from below(place.store, place.path, on_skipped=on_skipped)
        return
    pattern = Pattern(place.path)
    if recursive or pattern.depth is None:
        for each in below(place.store, pattern.folder, on_skipped=on_skipped):
            if pattern.matches(each.path) or (recursive and pattern.matched(each.path)):
                yield each
        return
    for entry in _matching_level(place, recursive, on_skipped):
        if isinstance(entry, RemoteObject):
            yield entry


def _level(place: Place, _recursive: bool, on_skipped: OnSkipped) -> Iterator[RemoteObject | Entry]:
    for entry in place.store.opened().list_folder(place.path):
        if isinstance(entry, Skipped):
            on_skipped(entry)
        else:
            yield Entry(*entry, None, None, True) if isinstance(entry, Subfolder) else entry


def _matching_level(
    place: Place, recursive: bool, on_skipped: OnSkipped
) -> Iterator[RemoteObject | Entry]:
    """Yield the objects and folders that a pattern matches, listing level by level if it has no `**`."""
    pattern, parts = Pattern(place.path), place.path.split("/")
    if pattern.depth is None:
        yield from _objects_at(place, recursive, on_skipped)
        return
    folders = [pattern.folder]
    start = len(pattern.folder.split("/")) if pattern.folder else 0
    for depth in range(start + 1, len(parts) + 1):
        narrowed = Pattern("/".join(parts[:depth]))
        deeper: list[str] = []
        for folder in folders:
            for entry in _level(replace(place, path=folder), False, on_skipped):
                if narrowed.matches(entry.path):
                    if depth == len(parts):
                        yield entry
                    elif isinstance(entry, Entry):
                        deeper.append(entry.path)
        folders = deeper


def missing(place: Place, *, hint: str = "") -> ObjectNotFound:
    """Return the error for a place that names nothing, with a suggestion; `hint` is the remedy for a folder.

    Raises `StoreMissing` if the whole store does not exist.
    """
    path = place.path.rstrip("/")
    if not path:
        return ObjectNotFound(f"{place.word} is a whole store, not an object.", remedy=hint)
    what = "nothing matches" if is_pattern(path) else "object not found"
    remedy = ""
    try:
        first = None if is_pattern(path) else next(find(place.store, path), None)
        if first is not None:
            example = place.named(first["path"])
            remedy = f"It is a folder with objects such as {example}. {hint}".rstrip()
        else:
            remedy = _near(place, Pattern(path).folder if is_pattern(path) else path)
    except StoreMissing:
        raise
    except CraftsyncError:
        pass  # The suggestion is an extra.
    return ObjectNotFound(f"{place.word}: {what}.", remedy=remedy)


_MOST_NAMES = 10_000
"""The limit of names in one folder to search for a similar one, so that the error appears at once."""


def _near(place: Place, path: str) -> str:
    """Return a sentence that suggests the most similar name in the innermost existing folder."""
    from difflib import get_close_matches  # Only for a mistake: it costs every start a millisecond.

    for above in [*reversed([*folders_above(path)]), ""]:
        level = islice(listing(place.store, above), _MOST_NAMES)
        names = {entry.path.rpartition("/")[2]: entry for entry in level}
        if names:
            wanted = (within(above, path) or path).partition("/")[0]
            for name in get_close_matches(wanted, list(names), n=1):
                near = place.named(names[name].path)
                return f"Did you mean {near}{'/' * names[name].is_folder}?"
            return f"craftsync ls {place.named(above)} lists what exists."
    return "The store is empty."
