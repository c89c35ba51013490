"""From the word a person uses for a store to the store itself.

A word is an environment of the configuration (with an optional folder in it),
a URL, or a path that shows that it is one. The libraries of a store are
imported when a store of that kind is opened and not before, because boto3
alone takes longer to import than a small push takes to run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from craftsync import platform
from craftsync.clock import Clock
from craftsync.config import (
    Config,
    CraftAiEnvironment,
    DirectoryEnvironment,
    Environment,
    S3Environment,
)
from craftsync.core.model import OWN_FOLDER
from craftsync.core.reserve import Reserve
from craftsync.errors import StoreMissing, UsageError, nearest
from craftsync.platform import CraftAiLocation
from craftsync.stores.base import Store


@dataclass(frozen=True, slots=True)
class DirectoryLocation:
    """A plain folder used as a store; `path` is absolute, its links resolved.

    So a folder that can be reached by several names is one store.
    """

    path: Path
    reserve: Reserve = field(default_factory=Reserve, compare=False)
    """Free space that writes leave alone on its disk."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", real(self.path))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach a bucket; what is `None` is left to boto3's own rules."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    request_payer: bool = False
    """Whether requests say that their sender pays for them, as requester-pays buckets demand."""


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket and a prefix without a slash at its end."""

    bucket: str
    prefix: str
    access: S3Access = S3Access()

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


_MANGLED_URL = re.compile(r"(s3|file|craft-ai(\+https?)?):/")

Location = DirectoryLocation | S3Location | CraftAiLocation


def resolve(word: str, config: Config, access: S3Access | None = None) -> Location:
    """Return what a STORE word stands for; raises `UsageError` for a word that stands for nothing.

    `access` is for an S3 URL, and goes before what an environment says.
    """
    access = access or S3Access()
    scheme = word.partition("://")[0] if "://" in word else None
    if scheme is not None and scheme.startswith("craft-ai"):
        return _on_the_platform(word, config)
    if scheme is not None:
        return _from_url(word, scheme, config, access)
    if is_path(word):
        return DirectoryLocation(_absolute(word), config.reserve)
    name, _, folder = word.partition(":")
    environment = config.environments.get(name)
    if environment is None:
        raise _unknown_word(word, name, config)
    location = _from_environment(name, environment, access)
    if isinstance(location, DirectoryLocation):
        location = replace(location, reserve=config.reserve)
    return _in_folder(location, word, folder)


def word_of(store: str | os.PathLike[str]) -> str:
    """Return the STORE word for what a caller in Python names: a word as it is, a path as a folder's name."""
    if isinstance(store, str):
        return store
    path = os.fspath(store)
    if _MANGLED_URL.match(path):
        raise UsageError(
            f"{path!r} is an address that was made a path.", remedy="Give the address as a str."
        )
    return str(_absolute(path))


def refuse_nothing(store: Store, word: str) -> None:
    """Raise `StoreMissing` when a word names a folder of a bucket or an environment, and nothing is there.

    Such a folder exists only by what is in it, so this is what a mistyped name
    looks like. One that was ever synced with has an identity file. A whole
    bucket, environment or folder of the disk may be empty.
    """
    if not _names_folder(word) or next(iter(store.list()), None) is not None:
        return
    if next(iter(store.list(f"{OWN_FOLDER}/")), None) is None:
        raise StoreMissing(
            f"Nothing in {store.location}.",
            remedy="Check the name; craftsync ls of the store above it shows what there is.",
        )


def _names_folder(word: str) -> bool:
    scheme, found, rest = word.partition("://")
    if found:
        return scheme != "file" and bool(rest.partition("/")[2].strip("/") or _in_variables(word))
    return not is_path(word) and bool(word.partition(":")[2])


def _in_variables(word: str) -> bool:
    """Tell whether a word names a folder of the environment of the variables, whose URL has no host."""
    return word.startswith("craft-ai://") and word != "craft-ai://"


def is_path(word: str) -> bool:
    """Tell whether a STORE word is the path of a folder, not a URL or the name of an environment."""
    return word.startswith(("/", "./", "../", "~")) or word in {".", ".."}


def remembered(address: str, config: Config, access: S3Access) -> Location:
    """Return the place a state database or a plan names by its address.

    An address does not say how to reach a bucket: unless `access` does, an
    environment with the same bucket is asked.
    """
    location = resolve(address, config, access)
    if isinstance(location, S3Location) and access == S3Access():
        for environment in config.environments.values():
            if isinstance(environment, S3Environment) and environment.bucket == location.bucket:
                return replace(location, access=_access_of(environment))
    return location


def _from_url(word: str, scheme: str, config: Config, access: S3Access) -> Location:
    match scheme:
        case "s3":
            bucket, _, prefix = word.removeprefix("s3://").partition("/")
            if not bucket:
                raise UsageError(
                    f"{word} names no bucket.", remedy="Write s3://bucket or s3://bucket/prefix."
                )
            return S3Location(bucket, prefix.strip("/"), access)
        case "file":
            url = urlsplit(word)
            if url.netloc not in {"", "localhost"} or not url.path.startswith("/"):
                raise UsageError(
                    f"{word} is not a folder of this machine.",
                    remedy="Write file:///absolute/path.",
                )
            return DirectoryLocation(_absolute(unquote(url.path)), config.reserve)
        case _:
            raise UsageError(
                f"{word}: there is no kind of store called {scheme}.",
                remedy="Use s3://, file:/// or craft-ai://, a path, or an environment of the configuration.",
            )


def _on_the_platform(word: str, config: Config) -> Location:
    location, folder = platform.of_url(word, config)
    return _in_folder(location, word, folder)


def _from_environment(name: str, environment: Environment, access: S3Access) -> Location:
    if isinstance(environment, DirectoryEnvironment):
        return DirectoryLocation(environment.path)
    if isinstance(environment, CraftAiEnvironment):
        return platform.of_environment(environment)
    said = _access_of(environment)
    return S3Location(
        environment.bucket,
        environment.prefix.strip("/"),
        S3Access(
            access.profile or said.profile,
            access.region or said.region,
            access.endpoint_url or said.endpoint_url,
            access.request_payer or said.request_payer,
        ),
    )


def _access_of(environment: S3Environment) -> S3Access:
    return S3Access(
        environment.profile,
        environment.region,
        environment.endpoint_url,
        environment.request_payer,
    )


def _in_folder(location: Location, word: str, folder: str) -> Location:
    """Return the place of a folder within a store."""
    if not folder:
        return location
    if folder.startswith("/") or ".." in folder.split("/"):
        raise UsageError(
            f"{word}: the folder leads out of the store.",
            remedy="Write it relative, as in dev:models/2026.",
        )
    if isinstance(location, DirectoryLocation):
        return replace(location, path=location.path / PurePosixPath(folder))
    if isinstance(location, CraftAiLocation):
        return replace(location, folder=f"{location.folder}/{folder}".strip("/"))
    return replace(location, prefix=f"{location.prefix}/{folder}".strip("/"))


def _unknown_word(word: str, name: str, config: Config) -> UsageError:
    known = ", ".join(config.environments) or "none; there is no configuration"
    return UsageError(
        f"{word!r} is not an environment of the configuration (known: {known}).",
        remedy=f"{nearest(name, config.environments)}{_said_otherwise(word)}",
    )


def _said_otherwise(word: str) -> str:
    """Return how a store of another kind is named that a word may be meant for."""
    scheme, colon, rest = word.partition(":")
    if colon and scheme in ("s3", "file", "craft-ai"):
        return f"Write {scheme}://{rest.lstrip('/')}."
    return f"For the folder of that name write ./{word}, for a bucket s3://{word}."


def _absolute(word: str) -> Path:
    return Path(os.path.abspath(Path(word).expanduser()))


def real(path: Path) -> Path:
    """Return the one name of a place: absolute, its links resolved, whether or not it is there."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        # A name that no place can have; whoever uses it says so.
        return path


def address_of(location: Location) -> str:
    """Return the address under which the store itself and the state databases know a place."""
    return str(location)


def exists(location: Location) -> bool:
    """Tell whether a directory store is there; any other store is asked when it is used."""
    return not isinstance(location, DirectoryLocation) or os.path.isdir(location.path)


@contextmanager
def opened(location: Location, *, create: bool, raw_keys: bool = False) -> Iterator[Store]:
    """Open a store for the length of a `with`, its transient failures retried.

    A directory store that is not there is made with `create`, and is
    `StoreMissing` without. With `raw_keys`, a bucket shows keys that no folder
    can hold like all others.
    """
    from craftsync.clock import CancellableClock
    from craftsync.stores.retrying import RetryingStore

    clock = CancellableClock()
    with closing(_open(location, clock, create=create, raw_keys=raw_keys)) as store:
        yield RetryingStore(store, clock=clock)


def _open(location: Location, clock: Clock, *, create: bool, raw_keys: bool) -> Store:
    if isinstance(location, DirectoryLocation):
        from craftsync.stores.directory import DirectoryStore

        if create and not exists(location):
            return DirectoryStore.create(location.path, reserve=location.reserve)
        return DirectoryStore(location.path, reserve=location.reserve)
    if isinstance(location, CraftAiLocation):
        return platform.open_store(location, clock)
    from craftsync.stores.s3 import S3Store

    access = location.access
    return S3Store(
        location.bucket,
        location.prefix,
        profile=access.profile,
        region=access.region,
        endpoint_url=access.endpoint_url,
        request_payer=access.request_payer,
        raw_keys=raw_keys,
        clock=clock,
    )


def refuse_nesting(root: Path, location: Location) -> None:
    """Raise `UsageError` when root and store are the same folder or one is inside the other.

    Names are compared with links resolved, and folders by device and inode as
    well, because a bind mount has two real names. What such a pair would do is
    copy its own copies for ever.
    """
    found = relation(location.path, root) if isinstance(location, DirectoryLocation) else None
    if found is not None:
        raise UsageError(
            f"The store {location} {found} the root {root}.",
            remedy="Keep the two in folders beside each other.",
        )


def relation(one: Path, other: Path) -> str | None:
    """Return how a folder overlaps with another, as words to stand between the two, or `None`."""
    if _is_within(one, other) and _is_within(other, one):
        return "is the same folder as"
    if _is_within(one, other):
        return "lies inside"
    return "contains" if _is_within(other, one) else None


def _is_within(inner: Path, outer: Path) -> bool:
    real_inner, real_outer = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
    if real_inner.is_relative_to(real_outer):
        return True
    return any(_same_folder(ancestor, real_outer) for ancestor in (real_inner, *real_inner.parents))


def _same_folder(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
