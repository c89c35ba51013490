"""A folder and its store, from arguments or the configuration.

`craftsync.linked_folders` finds the pair of the current directory or of a path, and
pairs that exist only in the saved state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from craftsync.config import file as configuration
from craftsync.config import places
from craftsync.config.file import Config
from craftsync.config.options import PairOptions, Settings, read
from craftsync.config.parsers import (
    parse_content_type,
    parse_sse,
    parse_storage_class,
    user_path,
)
from craftsync.config.places import Location, S3Access
from craftsync.core.retention import Reserve, Retention, StoreTrash
from craftsync.errors import CraftsyncError, UsageError, nearest


@dataclass(frozen=True, slots=True)
class Pair:
    """A folder, the location of its store, and their settings in the configuration.

    `root` is absolute with links resolved, so that a folder with several names is one root.
    """

    root: Path
    location: Location
    given: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The `Settings` of its runs that the configuration sets."""
    reserve: Reserve = field(default_factory=Reserve)
    """Free space that downloads leave on the disk."""
    retention: Retention = field(default_factory=Retention)
    """How long the trash keeps what this client replaced or deleted."""
    folder: str | None = None
    """Its name in the configuration, if it has one."""

    @property
    def addresses(self) -> tuple[str, str]:
        """The addresses of root and store in state databases and in the requests to daemons."""
        return str(self.root), places.address_of(self.location)

    @property
    def settings(self) -> Settings:
        return Settings.of(self.given)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", places.real(self.root))


def named(words: Sequence[str], asked: PairOptions) -> Pair:
    """Return the pair of the arguments `ROOT STORE` or NAME; without arguments, the only configured pair."""
    config, access = configuration.load(asked.get("config")), access_of(asked)
    match words:
        case []:
            return _of_folder(_only_folder(config), config, access)
        case [name]:
            return _of_folder(_checked(name, config), config, access)
        case [root, store]:
            if "://" in root and places.is_path(store):
                raise UsageError(
                    f"{root} is a store: the folder comes first.",
                    remedy=f"Write {store} {root}; pull brings the store's objects into the folder.",
                )
            return _unnamed(places.absolute(root), places.resolve(store, config, access), config)
        case _:
            raise UsageError(
                "Too many arguments.", remedy="Give ROOT STORE, or the name of a folder."
            )


def of_configuration(asked: PairOptions) -> list[Pair]:
    """Return the pair of each folder of the configuration."""
    config, access = configuration.load(asked.get("config")), access_of(asked)
    return [_of_folder(name, config, access) for name in config.folders]


def remembered(root: str, store: str, asked: PairOptions) -> Pair:
    """Return the pair of the addresses in a plan file or a state database."""
    config = configuration.load(asked.get("config"))
    return _unnamed(Path(root), places.remembered(store, config, access_of(asked)), config)


def access_of(asked: PairOptions) -> S3Access:
    """Return the S3 access and object settings in the keywords; raises `UsageError` for an invalid value."""
    return S3Access(
        asked.get("profile"),
        asked.get("region"),
        asked.get("endpoint_url"),
        asked.get("request_payer", False),
        read(asked, "content_type", parse_content_type),
        read(asked, "storage_class", parse_storage_class),
        read(asked, "sse", parse_sse),
    )


def state_dir_of(asked: PairOptions) -> Path:
    named = asked.get("state_dir")
    return user_path(named) if named else configuration.default_state_dir()


def _unnamed(root: Path, location: Location, config: Config) -> Pair:
    """Return a pair that is not named. Its trash is that of a configured folder with the same addresses.

    If the store of such a folder is invalid, the trash keeps everything: that folder may be this pair.
    """
    pair = Pair(root, location, reserve=config.reserve, retention=config.retention)
    for name, folder in config.folders.items():
        if places.real(folder.root) != pair.root:
            continue
        try:
            known = _of_folder(name, config, S3Access())
        except CraftsyncError:  # Reported where that folder is used.
            pair = replace(pair, retention=Retention(store=StoreTrash.ALL))
            continue
        if known.addresses == pair.addresses:
            return replace(pair, retention=folder.retention)
    return pair


def may_link(store: Location, config: Config) -> bool:
    """Return whether a folder of the configuration is linked to this store, or has an invalid store."""
    try:
        known = {_of_folder(name, config, S3Access()).addresses[1] for name in config.folders}
    except CraftsyncError:
        return True
    return places.address_of(store) in known


def _of_folder(name: str, config: Config, access: S3Access) -> Pair:
    folder = config.folders[name]
    location = places.resolve(folder.environment, config, access)
    return Pair(folder.root, location, folder.given, config.reserve, folder.retention, name)


def _checked(name: str, config: Config) -> str:
    """Return the name if it is a folder of the configuration; raises `UsageError`."""
    if name not in config.folders:
        known = ", ".join(config.folders) or "none; no configuration exists"
        raise UsageError(
            f"{name!r} is not a folder of the configuration (known: {known}).",
            remedy=_remedy_for_path(name, config)
            or f"{nearest(name, config.folders)}"
            "For a folder that is not configured, give --root ROOT --store STORE.",
        )
    return name


def _remedy_for_path(word: str, config: Config) -> str:
    """Return the remedy if the word is the path of a linked folder; empty if not."""
    root = os.path.realpath(os.path.expanduser(word))
    names = [name for name, each in config.folders.items() if os.path.realpath(each.root) == root]
    return f"{word} is the path of {' and of '.join(names)}: write the name." if names else ""


def _only_folder(config: Config) -> str:
    if not config.folders:
        raise UsageError(
            "No folder given, and none is configured.",
            remedy="Give --root ROOT --store STORE, go into a linked folder,"
            " or configure one with craftsync init.",
        )
    if len(config.folders) > 1:
        known = ", ".join(config.folders)
        raise UsageError(
            f"It is not clear which folder is meant (in the configuration: {known}).",
            remedy=f"Give {' or '.join(f'--folder {name}' for name in config.folders)},"
            " or --root ROOT --store STORE for a folder that is not configured.",
        )
    return next(iter(config.folders))
