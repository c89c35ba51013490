"""What an OBJECT word names: a bucket, an environment or the disk, and a path in it.

Where in that path its store ends is found by `craftsync.objects`, which also
knows the stores that are remembered; those of the configuration are named here.
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
    """An OBJECT word. `path` has no slash at either end; `is_folder` says that the word ended with one."""

    word: str
    whole: Location
    """All of the bucket or the environment; for a path of this machine, its disk."""
    path: str
    is_folder: bool
    base: str
    """What the word begins with, up to the `offset` of its path: `dev:`, `s3://bucket/`, `./`."""
    offset: str

    def named(self, path: str) -> str:
        """Return the word for another path in `whole`."""
        inner = within(self.offset, path)
        return self.base + (path if inner is None else inner)


def within(folder: str, path: str) -> str | None:
    """Return a path as it is from a folder, "" for the folder itself; `None` when it is not in there."""
    if not folder:
        return path
    if path == folder:
        return ""
    return path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else None


def joined(folder: str, path: str) -> str:
    """Return a path in a folder; either may be empty."""
    return f"{folder}/{path}" if folder and path else folder or path


def address_of(word: str, config: Config, access: S3Access) -> Address:
    """Read an OBJECT word; raises `UsageError` for a word that names nothing."""
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
    here = _real(os.getcwd())
    near = not path.startswith(("/", "~")) and within(here, place) is not None
    base, offset = ("./", here.lstrip("/")) if near else ("/", "")
    return Address(word, whole, place.lstrip("/"), is_folder, base, offset)


def _real(place: str) -> str:
    """Return a path with the links of its folders resolved, and not one that stands for a file at its end."""
    if os.path.isdir(place):
        return os.path.realpath(place)
    return os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))


def split(location: Location) -> tuple[Location, str]:
    """Return all of the bucket, environment or disk that a place lies in, and the path of the place there."""
    if isinstance(location, DirectoryLocation):
        return DirectoryLocation(Path("/"), location.reserve), str(location.path).lstrip("/")
    if isinstance(location, CraftAiLocation):
        return replace(location, folder=""), location.folder
    return replace(location, prefix=""), location.prefix


def at(whole: Location, path: str) -> Location:
    """Return the place that `split` takes apart."""
    if isinstance(whole, DirectoryLocation):
        return replace(whole, path=Path("/", path))
    if isinstance(whole, CraftAiLocation):
        return replace(whole, folder=path)
    return replace(whole, prefix=path)


def configured_roots(whole: Location, config: Config) -> Iterator[str]:
    """Yield the paths in a bucket, an environment or the disk at which a store of the configuration begins."""
    if isinstance(whole, CraftAiLocation):
        yield ""
    words = [*config.environments, *(folder.environment for folder in config.folders.values())]
    for word in words:
        # One that is not understood is for whoever uses it.
        with suppress(CraftsyncError):
            yield from root_in(whole, places.resolve(word, config))


def root_in(whole: Location, store: Location) -> Iterator[str]:
    """Yield the path of a store, if it is in this bucket, in this environment or on the disk."""
    other, path = split(store)
    if is_same(whole, other):
        yield path


def is_same(one: Location, other: Location) -> bool:
    """Tell whether two are the same bucket, environment or disk.

    Buckets of one name at two endpoints are two; where only one endpoint is
    named, the other may be the same by the variables of boto3.
    """
    if isinstance(one, S3Location) and isinstance(other, S3Location):
        endpoints = {one.access.endpoint_url, other.access.endpoint_url} - {None}
        return one.bucket == other.bucket and len(endpoints) <= 1
    return str(one) == str(other)
