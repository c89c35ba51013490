"""Which root goes with which store: from the words of a call to an open session.

A pair is named by root and store, by a folder of the configuration, or by a
path inside a root that is already known. What a session then does with the
pair is not known here.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from craftsync import config as configuration
from craftsync import locations
from craftsync.config import Config
from craftsync.core.model import OWN_FOLDER
from craftsync.core.reserve import Reserve
from craftsync.core.retention import Retention
from craftsync.errors import UsageError, nearest
from craftsync.locations import DirectoryLocation, Location, S3Access
from craftsync.options import PairOptions, Settings

if TYPE_CHECKING:
    from craftsync.state import PairState
    from craftsync.sync.session import Session


@dataclass(frozen=True, slots=True)
class Pair:
    """A root, the place of its store, and what the configuration says about the two.

    `root` is absolute, its links resolved: a folder with several names is one root.
    """

    root: Path
    location: Location
    settings: Settings = field(default_factory=Settings)
    reserve: Reserve = field(default_factory=Reserve)
    """Free space that downloads leave alone."""
    retention: Retention = field(default_factory=Retention)
    """How long the trash keeps what this client displaced."""
    folder: str | None = None
    """What the configuration calls the pair, if it is in there."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", locations.real(self.root))


def resolve(words: Sequence[str], asked: PairOptions) -> Pair:
    """Return the pair of the words `ROOT STORE`, or of a folder's name.

    Without words it is the linked folder that the current directory lies in,
    or else the only one of the configuration.
    """
    config = configuration.load(asked.get("config"))
    match words:
        case [root, store]:
            location = locations.resolve(store, config, access_of(asked))
            return Pair(
                _absolute(root), location, reserve=config.reserve, retention=config.retention
            )
        case [name]:
            return _of_folder(_checked(name, config), config, access_of(asked))
        case []:
            return _enclosing(Path.cwd(), asked)
        case _:
            raise UsageError("Too many words.", remedy="Give ROOT STORE, or the name of a folder.")


def every(words: Sequence[str], asked: PairOptions) -> list[Pair]:
    """Return the pair of the words, or of the linked folder around the current directory.

    Without either, and always in a service, that of each folder of the configuration.
    """
    config = configuration.load(asked.get("config"))
    if words or not config.folders:
        return [resolve(words, asked)]
    if not _is_service() and (around_here := _around(Path.cwd(), asked)):
        return [_one_of(around_here)]
    access = access_of(asked)
    return [_of_folder(name, config, access) for name in config.folders]


def all_known(asked: PairOptions) -> list[Pair]:
    """Return every linked folder that the current directory lies in; outside of any, all there are.

    These are the folders of the configuration, and all others that have a daemon
    or a memory. Raises `UsageError` when there is none.
    """
    found = _all_of_configuration(asked)
    addresses = {(pair.root, locations.address_of(pair.location)) for pair in found}
    found += [
        pair
        for pair in _all_remembered(asked)
        if (pair.root, locations.address_of(pair.location)) not in addresses
    ]
    for folder in (here := Path.cwd().resolve(), *here.parents):
        around_here = [pair for pair in found if pair.root == folder]
        if around_here:
            return around_here
    return found or [resolve((), asked)]


def remembered(root: str, store: str, asked: PairOptions) -> Pair:
    """Return the pair that a plan names by its addresses."""
    config = configuration.load(asked.get("config"))
    location = locations.remembered(store, config, access_of(asked))
    return Pair(Path(root), location, reserve=config.reserve, retention=config.retention)


def around(path: str, words: Sequence[str], asked: PairOptions) -> tuple[Pair, str]:
    """Return the pair a path belongs to, and the path relative to its root, which is `.` itself.

    With words they name the pair. Otherwise it is the innermost known root
    around the path or around the current directory, or else the only folder of
    the configuration.
    """
    place = _real_place(path)
    pair = resolve(words, asked) if words else _enclosing(place, asked)
    if place.is_relative_to(pair.root):
        return pair, place.relative_to(pair.root).as_posix()
    return pair, posixpath.normpath(path)


def around_all(
    paths: Sequence[str], words: Sequence[str], asked: PairOptions
) -> tuple[Pair, tuple[str, ...] | None]:
    """Return the pair all paths belong to, and the paths relative to its root; `None` for no paths."""
    placed = [around(path, words, asked) for path in paths or (".",)]
    if any(pair != placed[0][0] for pair, _ in placed):
        raise UsageError(
            "The paths belong to several linked folders.", remedy="Name those of one at a time."
        )
    return placed[0][0], tuple(inside for _, inside in placed) if paths else None


def access_of(asked: PairOptions) -> S3Access:
    return S3Access(
        asked.get("profile"),
        asked.get("region"),
        asked.get("endpoint_url"),
        asked.get("request_payer", False),
    )


def state_dir_of(asked: PairOptions) -> Path:
    named = asked.get("state_dir")
    return Path(named).expanduser() if named else configuration.default_state_dir()


def refuse_nothing(pair: Pair, word: str, asked: PairOptions) -> None:
    """Raise `StoreMissing` for a store that is new to its root and in which nothing is: a mistyped name.

    Nothing is made before that is known.
    """
    on_disk = isinstance(pair.location, DirectoryLocation)
    if not on_disk and not _is_known(pair, state_dir_of(asked)):
        with locations.opened(pair.location, create=False) as store:
            locations.refuse_nothing(store, word)


@contextmanager
def remembered_state(pair: Pair, state_dir: Path) -> Iterator[PairState]:
    """Open what is remembered of a pair, to be read; neither its root nor its store is asked for anything."""
    from craftsync.state import PairState

    address = locations.address_of(pair.location)
    with closing(
        PairState.open(state_dir, str(pair.root), address, new_id=str, reading=True)
    ) as state:
        yield state


@contextmanager
def opened(
    pair: Pair,
    state_dir: Path,
    *,
    read_only: bool = False,
    reading: bool = False,
    create_store: bool = False,
    create_root: bool = False,
) -> Iterator[Session]:
    """Open a pair for the length of a `with`.

    A root or a directory store that is not there is created where that is
    asked for, unless the state database knows the pair: then it has gone, and
    a new empty one would hide that. Read-only, an empty folder stands in for
    what would be created. With `reading` the state is read where it is, too.
    """
    from craftsync.sync.session import Session

    locations.refuse_nesting(pair.root, pair.location)
    create_store = create_store and not _is_known(pair, state_dir)
    with ExitStack() as stack:
        root, location = pair.root, pair.location
        if read_only:
            root, location = _stand_ins(pair, stack, root=create_root, store=create_store)
        store = stack.enter_context(locations.opened(location, create=create_store))
        if location is not pair.location:
            store.location = locations.address_of(pair.location)
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


def _stand_ins(pair: Pair, stack: ExitStack, *, root: bool, store: bool) -> tuple[Path, Location]:
    """Return root and location, an empty folder in the place of each that a dry run would make."""
    folder, location = pair.root, pair.location
    if root and not folder.exists():
        folder = Path(stack.enter_context(_empty_folder()))
    if store and not locations.exists(location):
        location = DirectoryLocation(Path(stack.enter_context(_empty_folder())) / "store")
    return folder, location


def _checked(name: str, config: Config) -> str:
    """Return the name of a folder of the configuration."""
    if name not in config.folders:
        known = ", ".join(config.folders) or "none; there is no configuration"
        raise UsageError(
            f"{name!r} is not a folder of the configuration (known: {known}).",
            remedy=f"{nearest(name, config.folders)}For a folder that is not in it, give ROOT STORE.",
        )
    return name


def _only_folder(config: Config) -> str:
    if not config.folders:
        raise UsageError(
            "No folder given, and none is configured.",
            remedy="Give ROOT STORE, or put a folder into the configuration with craftsync init.",
        )
    if len(config.folders) > 1:
        known = ", ".join(config.folders)
        raise UsageError(
            f"It is not clear which folder is meant (in the configuration: {known}).",
            remedy="Give ROOT STORE, or the name of a folder.",
        )
    return next(iter(config.folders))


def _of_folder(name: str, config: Config, access: S3Access) -> Pair:
    folder = config.folders[name]
    location = locations.resolve(folder.environment, config, access)
    return Pair(folder.root, location, folder.settings, config.reserve, config.retention, name)


def _enclosing(place: Path, asked: PairOptions) -> Pair:
    for start in (place, Path.cwd()):
        if around_here := _around(start, asked):
            return _one_of(around_here)
    config = configuration.load(asked.get("config"))
    return _of_folder(_only_folder(config), config, access_of(asked))


def _around(start: Path, asked: PairOptions) -> list[Pair]:
    """Return the pairs of the innermost linked folder that a place lies in.

    Those of the configuration go first: it also knows how to reach the store.
    """
    for folder in (start, *start.parents):
        if (folder / OWN_FOLDER).is_dir():
            for found in (_all_of_configuration(asked), _all_remembered(asked)):
                if here := [pair for pair in found if pair.root == folder]:
                    return here
    return []


def _is_service() -> bool:
    """Whether a service manager has started this process: nobody chose the current directory then."""
    return "NOTIFY_SOCKET" in os.environ


def _all_of_configuration(asked: PairOptions) -> list[Pair]:
    config, access = configuration.load(asked.get("config")), access_of(asked)
    return [_of_folder(name, config, access) for name in config.folders]


def _all_remembered(asked: PairOptions) -> list[Pair]:
    config, access = configuration.load(asked.get("config")), access_of(asked)
    return [
        Pair(
            Path(root),
            locations.remembered(store, config, access),
            reserve=config.reserve,
            retention=config.retention,
        )
        for root, store in _known_pairs(state_dir_of(asked))
    ]


def _one_of(pairs: list[Pair]) -> Pair:
    if len(pairs) == 1:
        return pairs[0]
    stores = ", ".join(str(pair.location) for pair in pairs)
    raise UsageError(
        f"{pairs[0].root} is kept in step with several stores: {stores}.",
        remedy="Say which with --root and --store.",
    )


def _is_known(pair: Pair, state_dir: Path) -> bool:
    return (str(pair.root), locations.address_of(pair.location)) in _known_pairs(state_dir)


def _known_pairs(state_dir: Path) -> list[tuple[str, str]]:
    from craftsync.state import known_pairs

    return [(str(root), str(store)) for root, store in known_pairs(state_dir)]


def _empty_folder() -> TemporaryDirectory[str]:
    """Return what stands in, until it is left, for a folder that a dry run must not create."""
    return TemporaryDirectory(prefix="craftsync-")


def _absolute(word: str) -> Path:
    return Path(os.path.abspath(Path(word).expanduser()))


def _real_place(path: str) -> Path:
    """Return where a path leads when the links of its folders are resolved, but not one at its end."""
    absolute = _absolute(path)
    return Path(os.path.realpath(absolute.parent), absolute.name)
