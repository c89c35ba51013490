"""Parses an OBJECT argument: a bucket, an environment or the disk, and a path in it.

`craftsync.objects.arguments` finds which part of the path is the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from craftsync.config import places
from craftsync.config.file import Config
from craftsync.config.places import (
    CraftAiLocation,
    DirectoryLocation,
    Location,
    S3Access,
    S3Location,
)
from craftsync.errors import CraftsyncError


class Address(NamedTuple):
    """An OBJECT argument. `path` has no slash at either end; `is_folder` is whether the argument ended with one."""

    word: str
    whole: Location
    """The whole bucket, environment or, for a local path, disk."""
    path: str
    is_folder: bool
    base: str
    """The beginning of the argument: `dev:`, `s3://bucket/`, `./`."""
    offset: str
    """The path in `whole` that `base` stands for."""

    def named(self, path: str) -> str:
        """Return the argument for another path in `whole`."""
        inner = within(self.offset, path)
        return self.base + (path if inner is None else inner)


def within(folder: str, path: str) -> str | None:
    """Return a path relative to a folder, "" for the folder itself, `None` if it is not inside."""
    if not folder:
        return path
    if path == folder:
        return ""
    return path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else None


def joined(folder: str, path: str) -> str:
    """Join a folder and a path; either may be empty."""
    return f"{folder}/{path}" if folder and path else folder or path


def object_address(word: str, config: Config, access: S3Access) -> Address:
    """Parse an OBJECT argument; raises `UsageError` for an unknown store."""
    is_folder = word.endswith("/")
    if word.startswith("file://"):
        places.resolve(word, config, access)
        return _on_disk(word, unquote(urlsplit(word).path), config, is_folder)
    if places.is_path(word):
        return _on_disk(word, word, config, is_folder)
    whole, path = split(places.resolve(word, config, access))
    if "://" in word:
        url = word if path or word.endswith("://") else f"{word.rstrip('/')}/"
        base = url.rstrip("/").removesuffix(path) if path else url
        return Address(word, whole, path, is_folder or not path, base, "")
    name, _, folder = word.partition(":")
    _, offset = split(places.resolve(name, config, access))
    if isinstance(whole, DirectoryLocation):
        path = _real("/" + joined(offset, folder.strip("/"))).lstrip("/")
    return Address(word, whole, path, is_folder or not folder, f"{name}:", offset)


def _on_disk(word: str, path: str, config: Config, is_folder: bool) -> Address:
    whole = DirectoryLocation(Path("/"), config.reserve)
    place = _real(os.path.abspath(os.path.expanduser(path)))
    current = _real(os.getcwd())
    is_relative = not path.startswith(("/", "~")) and within(current, place) is not None
    base, offset = ("./", current.lstrip("/")) if is_relative else ("/", "")
    return Address(word, whole, place.lstrip("/"), is_folder, base, offset)


def _real(place: str) -> str:
    """Return a path with the symbolic links of its folders resolved, but not one to a file at its end."""
    if os.path.isdir(place):
        return os.path.realpath(place)
    return os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))


def split(location: Location) -> tuple[Location, str]:
    """Split a location into its whole bucket, environment or disk, and the path in it."""
    if isinstance(location, DirectoryLocation):
        return DirectoryLocation(Path("/"), location.reserve), str(location.path).lstrip("/")
    if isinstance(location, CraftAiLocation):
        return replace(location, folder=""), location.folder
    return replace(location, prefix=""), location.prefix


def at(whole: Location, path: str) -> Location:
    """Return the location of a path in a whole bucket, environment or disk; the inverse of `split`."""
    if isinstance(whole, DirectoryLocation):
        return replace(whole, path=Path("/", path))
    if isinstance(whole, CraftAiLocation):
        return replace(whole, folder=path)
    return replace(whole, prefix=path)


def configured_roots(whole: Location, config: Config) -> Iterator[str]:
    """Yield the paths of configured stores in a bucket, an environment or the disk."""
    if isinstance(whole, CraftAiLocation):
        yield ""
    words = [*config.environments, *(folder.environment for folder in config.folders.values())]
    for word in words:
        # An invalid store is reported when it is used.
        with suppress(CraftsyncError):
            yield from root_in(whole, places.resolve(word, config))


def root_in(whole: Location, store: Location) -> Iterator[str]:
    """Yield the path of a store, if it is in this bucket, in this environment or on the disk."""
    other, path = split(store)
    if is_same(whole, other):
        yield path


def is_same(one: Location, other: Location) -> bool:
    """Return whether both are the same bucket, environment or disk.

    Buckets at different endpoints are different; a missing endpoint counts as
    the same, as boto3's variables may set it.
    """
    if isinstance(one, S3Location) and isinstance(other, S3Location):
        endpoints = {one.access.endpoint_url, other.access.endpoint_url} - {None}
        return one.bucket == other.bucket and len(endpoints) <= 1
    return str(one) == str(other)
