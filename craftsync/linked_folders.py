"""Finds the linked folders that the arguments of a call mean, reports their status, opens a session of one.

A linked folder is named by folder and store, by its name in the configuration, or by a path inside
a known folder.
"""

from __future__ import annotations

import os
import posixpath
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from craftsync import __version__
from craftsync.config import addresses, pairs, places
from craftsync.config import file as configuration
from craftsync.config.file import Config
from craftsync.config.options import PairOptions
from craftsync.config.pairs import Pair, state_dir_of
from craftsync.config.places import DirectoryLocation, Location
from craftsync.core.model import OWN_FOLDER
from craftsync.errors import CraftsyncError, LockedError, NoAnswer, UsageError
from craftsync.open_store import open_store, refuse_nothing

if TYPE_CHECKING:
    from craftsync.engine.session import Session
    from craftsync.state import PairState


def refuse_new_and_empty(pair: Pair, word: str, asked: PairOptions) -> None:
    """Raise `StoreMissing` if the store is empty and was never synced with this folder: a mistyped name.

    Call it before anything is created.
    """
    on_disk = isinstance(pair.location, DirectoryLocation)
    if not on_disk and not _is_known(pair, state_dir_of(asked)):
        with open_store(pair.location, create=False) as store:
            refuse_nothing(store, word)


OnUnnamed = Callable[[Pair], object]
"""Called with the only linked folder of the configuration before it is returned although nothing
names it; a command that must not guess raises here."""


def resolve(words: Sequence[str], asked: PairOptions, on_unnamed: OnUnnamed | None = None) -> Pair:
    """Return the linked folder named by `ROOT STORE` or by its name in the configuration.

    Without arguments: the linked folder around the current directory, or else the only one in the
    configuration.
    """
    pair = pairs.named(words, asked) if words else _enclosing(Path.cwd(), asked, on_unnamed)
    return _with_such_objects([pair], asked)[0]


def _with_such_objects(found: list[Pair], asked: PairOptions) -> list[Pair]:
    """Return the pairs. Raises `UsageError` if a store does not support the object settings in `asked`."""
    access = pairs.access_of(asked)
    for pair in found:
        places.refuse_written(pair.location, access)
    return found


def every(words: Sequence[str], asked: PairOptions) -> list[Pair]:
    """Return the linked folder of the arguments, or the one around the current directory.

    Without either, and always in a service: all linked folders of the configuration.
    """
    configured = [] if words else pairs.of_configuration(asked)
    if not configured:
        return [resolve(words, asked)]
    if not _is_service() and (around_here := _around(Path.cwd(), asked)):
        configured = [_one_of(around_here)]
    return _with_such_objects(configured, asked)


def all_known(asked: PairOptions) -> list[Pair]:
    """Return the linked folders around the current directory; outside of any, all known ones.

    Raises `UsageError` if there are none.
    """
    found = every_known(asked)
    for folder in (here := Path.cwd().resolve(), *here.parents):
        around_here = [pair for pair in found if pair.root == folder]
        if around_here:
            return around_here
    return found or [resolve((), asked)]


def every_known(asked: PairOptions) -> list[Pair]:
    """Return the linked folders of the configuration and those with a state, whatever the current directory."""
    found = pairs.of_configuration(asked)
    configured = {pair.addresses for pair in found}
    return found + [pair for pair in _all_remembered(asked) if pair.addresses not in configured]


def around(
    path: str, words: Sequence[str], asked: PairOptions, on_unnamed: OnUnnamed | None = None
) -> tuple[Pair, str]:
    """Return the linked folder of a path, and the path relative to it (`.` for the folder itself).

    Without arguments: the innermost linked folder around the path or the current directory, or else
    the only one in the configuration. A word for an object stands for its path in the linked folder
    whose store contains it. Raises `UsageError` for a path outside the folder.
    """
    if (of_object := _around_object(path, words, asked)) is not None:
        return of_object
    place = _real_place(path)
    pair = resolve(words, asked) if words else _enclosing(place, asked, on_unnamed)
    if place.is_relative_to(pair.root):
        return pair, place.relative_to(pair.root).as_posix()
    inside = posixpath.normpath(path)
    if inside.startswith(("../", "/")) or inside == "..":
        raise UsageError(
            f"{path} is not in the folder {pair.root}.",
            remedy="Paths are relative to the folder, or to the current directory inside it.",
        )
    return pair, inside


def _around_object(word: str, words: Sequence[str], asked: PairOptions) -> tuple[Pair, str] | None:
    """Return the result of `around` for the word of an object; `None` for a word that may be a path.

    Raises `UsageError` if the object's store belongs to no linked folder.
    """
    config = configuration.load(asked.get("config"))
    name, colon, _ = word.partition(":")
    is_path = "://" not in word and not (colon and name in config.environments)
    is_in_folder = not places.is_path(word) or _around(_real_place(word), asked)
    if (is_path and is_in_folder) or (colon and os.path.lexists(word)):
        return None
    address = addresses.object_address(word, config, pairs.access_of(asked))
    known = [pairs.named(words, asked)] if words else every_known(asked)
    found = [
        (pair, addresses.within(root, address.path) or ".", len(root))
        for pair in known
        for root in addresses.root_in(address.whole, pair.location)
        if addresses.within(root, address.path) is not None
    ]
    if not found and is_path:
        return None
    if not found:
        raise UsageError(
            f"{word} is not in the store of {'this' if words else 'any known'} linked folder.",
            remedy="Give the path of a file in a linked folder; of an object alone,"
            f" `craftsync stat {shlex.quote(word)}` shows what is there.",
        )
    longest = max(length for *_, length in found)
    innermost = [each for each in found if each[2] == longest]
    if len(innermost) > 1:
        raise UsageError(
            f"{word} is in the store of several linked folders: "
            + ", ".join(str(pair.folder or pair.root) for pair, *_ in innermost)
            + ".",
            remedy="Name one with --folder NAME, or --root and --store.",
        )
    return innermost[0][:2]


def around_all(
    paths: Sequence[str],
    words: Sequence[str],
    asked: PairOptions,
    on_unnamed: OnUnnamed | None = None,
) -> tuple[Pair, tuple[str, ...] | None]:
    """Return the linked folder of all these paths, and the paths relative to it (`None` without paths)."""
    placed = [around(path, words, asked, on_unnamed) for path in paths or (".",)]
    if any(pair != placed[0][0] for pair, _ in placed):
        raise UsageError(
            "The paths belong to several linked folders.",
            remedy="Give the paths of one folder at a time.",
        )
    return placed[0][0], tuple(inside for _, inside in placed) if paths else None


@contextmanager
def read_state(pair: Pair, state_dir: Path) -> Iterator[PairState]:
    """Open the state of a linked folder for reading, without accessing the folder or the store."""
    from craftsync.state import PairState

    with closing(PairState.open(state_dir, *pair.addresses, new_id=str, reading=True)) as state:
        yield state


def standing(pair: Pair, state_dir: Path, live: dict[str, Any] | None) -> dict[str, Any]:
    """Return the status of a linked folder: the fields of `status --json`. Raises `StateError`.

    `live` is the report of its daemon, `None` if none runs.
    """
    from craftsync.engine.review.inspect import of_state
    from craftsync.engine.review.retention import holdings

    with read_state(pair, state_dir) as state:
        facts = live or of_state(*pair.addresses, state)
        if live:
            # A daemon counts the conflicts of its last runs. An older, unresolved one counts too.
            facts["conflicts"] = max(facts["conflicts"], state.baseline.conflict_copies())
        trash = holdings(state, pair.retention)
    if not live and facts["reason"] is None and not places.exists(pair.location):
        facts["reason"] = "The store is not there. Check the path, and that its disk is mounted."
    return {**facts, "folder": pair.folder, "trash": trash}


def unknown_standing(pair: Pair, error: CraftsyncError) -> dict[str, Any]:
    """Return the fields of `standing` for a folder whose state is unreadable, or whose daemon is silent."""
    is_silent = isinstance(error, NoAnswer)
    return {
        **dict.fromkeys(("mode", "pending", "conflicts", "held", "problems", "left_out")),
        "state": "unknown" if is_silent else "stopped",
        "reason": f"{error} {error.remedy}".rstrip(),
        **dict(zip(("root", "store"), pair.addresses, strict=True)),
        "pid": error.process if isinstance(error, NoAnswer) else None,
        "watch": {"healthy": False, "reason": None if is_silent else "unknown"},
        "version": __version__,
        "folder": pair.folder,
        "last_success": None,
        "trash": None,
    }


@contextmanager
def open_pair(
    pair: Pair,
    state_dir: Path,
    *,
    read_only: bool = False,
    reading: bool = False,
    create_store: bool = False,
    create_root: bool = False,
) -> Iterator[Session]:
    """Open a session of a linked folder, and close it afterwards.

    `create_root` or `create_store` creates a missing folder or directory store, unless the state
    knows the linked folder: an empty one would hide that the original is gone. With `read_only`, an
    empty temporary folder replaces it. With `reading`, the state is opened read-only in place.
    """
    from craftsync.engine.session import Session

    places.refuse_nesting(root := pair.root, location := pair.location)
    create_store = create_store and not _is_known(pair, state_dir)
    with ExitStack() as stack:
        if read_only:
            root, location = _stand_ins(pair, stack, root=create_root, store=create_store)
        elif create_store:
            _refuse_unusable(root)  # Otherwise an empty store would be left behind.
        store = stack.enter_context(open_store(location, create=create_store))
        if location is not pair.location:
            store.location = places.address_of(pair.location)
        session = stack.enter_context(
            Session.open(
                root,
                store,
                state_dir=state_dir,
                read_only=read_only or reading,
                reading=reading,
                create_root=create_root and not read_only,
            )
        )
        session.root.reserve = pair.reserve
        session.retention = pair.retention
        yield session


def _refuse_unusable(root: Path) -> None:
    """Raise `RootError` if the folder does not exist or is not readable."""
    from craftsync.local.folder import Folder

    Folder.open(os.path.realpath(root)).close()


@contextmanager
def open_beside(pair: Pair, state_dir: Path, *, read_only: bool = False) -> Iterator[Session]:
    """Open a session of a linked folder; if a daemon or another run holds the folder, with a read-only state."""
    with ExitStack() as stack:
        try:
            opened = open_pair(pair, state_dir, read_only=read_only)
            session = stack.enter_context(opened)
        except LockedError:
            session = stack.enter_context(open_pair(pair, state_dir, reading=True))
        yield session


def _stand_ins(pair: Pair, stack: ExitStack, *, root: bool, store: bool) -> tuple[Path, Location]:
    """Return root and location, with an empty temporary folder for each of them that would be created."""
    folder, location = pair.root, pair.location
    if root and not folder.exists():
        folder = Path(stack.enter_context(_empty_folder()))
    if store and not places.exists(location):
        location = DirectoryLocation(Path(stack.enter_context(_empty_folder())) / "store")
    return folder, location


def _enclosing(place: Path, asked: PairOptions, on_unnamed: OnUnnamed | None) -> Pair:
    for start in (place, Path.cwd()):
        if around_here := _around(start, asked):
            return _one_of(around_here)
    only = pairs.named((), asked)
    if on_unnamed is not None:
        on_unnamed(only)
    return only


def _around(start: Path, asked: PairOptions) -> list[Pair]:
    """Return the pairs of the innermost linked folder around a path.

    Those of the configuration take precedence, because they have the store's settings too. Others
    are recognised by their `.craftsync` folder.
    """
    configured = pairs.of_configuration(asked)
    for folder in (start, *start.parents):
        if here := [pair for pair in configured if pair.root == folder]:
            return here
        if (folder / OWN_FOLDER).is_dir() and (
            here := [pair for pair in _all_remembered(asked) if pair.root == folder]
        ):
            return here
    return []


def _is_service() -> bool:
    """Return whether systemd started this process: then the current directory has no meaning."""
    return "NOTIFY_SOCKET" in os.environ


def _all_remembered(asked: PairOptions) -> list[Pair]:
    return [pairs.remembered(*known, asked) for known in _known_pairs(state_dir_of(asked))]


def refuse_several_stores(found: Sequence[Pair]) -> None:
    """Raise `UsageError` if one of the folders is linked to several stores: only one can be kept in sync at a time."""
    for root in dict.fromkeys(pair.root for pair in found):
        _one_of([pair for pair in found if pair.root == root])


def _one_of(found: list[Pair]) -> Pair:
    if len(found) == 1:
        return found[0]
    known = [
        f"{pair.folder} ({pair.location})" if pair.folder else str(pair.location) for pair in found
    ]
    by_name = "--folder NAME" if found[0].folder else "--root and --store"
    raise UsageError(
        f"{found[0].root} is linked to several stores: {', '.join(known)}.",
        remedy=f"Name one with {by_name}.",
    )


def is_new(pair: Pair, known: Config, state_dir: Path) -> bool:
    """Return whether this client has kept no version of a folder and of its store so far.

    It may have if there is a saved state, even an unreadable one, if another folder is linked to
    the store, or if a command outside runs noted a version. Only to find such notes, the store is
    opened; if that fails, it may have.
    """
    from craftsync.state.history import anything_noted
    from craftsync.state.pair import is_remembered

    if is_remembered(state_dir, *pair.addresses) or _has_linked_store(pair, known, state_dir):
        return False
    return not anything_noted(state_dir) or not _is_noted(pair, state_dir)


def _has_linked_store(pair: Pair, known: Config, state_dir: Path) -> bool:
    """Return whether another folder may be linked to the store: its runs import the notes of commands."""
    _, store = pair.addresses
    remembered = any(store == other for _, other in _known_pairs(state_dir))
    return remembered or pairs.may_link(pair.location, known)


def _is_noted(pair: Pair, state_dir: Path) -> bool:
    """Return whether a version that a command outside runs moved to either trash may be noted."""
    from craftsync.state.history import Outside
    from craftsync.stores.base import server_and_location

    noted = set(pair.addresses)
    if not isinstance(pair.location, DirectoryLocation):
        try:
            with open_store(pair.location, create=False) as store:
                noted.add(server_and_location(store))
        except CraftsyncError:
            return True
    return any(Outside(state_dir, place).noted() for place in noted)


def _is_known(pair: Pair, state_dir: Path) -> bool:
    return pair.addresses in _known_pairs(state_dir)


def remembered_stores(asked: PairOptions) -> list[str]:
    """Return the addresses of all stores in saved states."""
    return sorted({store for _, store in _known_pairs(state_dir_of(asked))})


def _known_pairs(state_dir: Path) -> list[tuple[str, str]]:
    from craftsync.state import known_pairs

    return [(str(root), str(store)) for root, store in known_pairs(state_dir)]


def _empty_folder() -> TemporaryDirectory[str]:
    """Return a temporary folder instead of one that a dry run must not create."""
    return TemporaryDirectory(prefix="craftsync-")


def _real_place(path: str) -> Path:
    """Return a path with the symbolic links of its folders resolved, but not a link at its end."""
    absolute = places.absolute(path)
    return Path(os.path.realpath(absolute.parent), absolute.name)
