"""Resolves a STORE argument to a location.

The argument is an environment of the configuration (with an optional folder in
it), a URL, or a path that looks like one. `craftsync.open_store` opens the store.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from craftsync.config import secrets
from craftsync.config.file import (
    Config,
    CraftAiEnvironment,
    DirectoryEnvironment,
    Environment,
    S3Environment,
)
from craftsync.config.options import Transport
from craftsync.config.parsers import user_path
from craftsync.config.secrets import TOKEN_ENV, find_token, in_dotenv, name_of_token
from craftsync.core.retention import Reserve
from craftsync.errors import ConfigError, UsageError, nearest


@dataclass(frozen=True, slots=True)
class DirectoryLocation:
    """A plain folder used as a store.

    `path` is absolute with links resolved, so that a folder with several names is one store.
    """

    path: Path
    reserve: Reserve = field(default_factory=Reserve, compare=False)
    """Free space to leave on its disk."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", real(self.path))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to access a bucket; boto3 determines each value that is `None`."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    request_payer: bool = False
    """Whether to send the header that requester-pays buckets require."""
    content_type: str | None = None
    """The content type of every object written; `None` derives it from the name."""
    storage_class: str | None = None
    sse: str | None = None
    """The server-side encryption of objects written, as in `--sse`."""

    @property
    def written(self) -> dict[str, str]:
        """The settings for new objects, by the names of their flags."""
        given = {name: getattr(self, name) for name in ("content_type", "storage_class", "sse")}
        return {f"--{name.replace('_', '-')}": word for name, word in given.items() if word}

    def before(self, given: S3Access) -> S3Access:
        """Return this access, with missing values taken from `given`."""
        pairs = ((getattr(self, name), getattr(given, name)) for name in self.__slots__)
        return S3Access(*(own or other for own, other in pairs))


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket and a prefix without a slash at its end."""

    bucket: str
    prefix: str
    access: S3Access = S3Access()

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True)
class CraftAiAccess:
    """Where the token of an environment is, and the URL to exchange it (`None`: the SDK's default)."""

    control_url: str | None = None
    token_env: str = TOKEN_ENV
    token_file: Path | None = None
    dotenv_only: bool = field(default=False, compare=False)
    """Whether the address comes from a `.env` file, so that only the token in that file may be sent to it."""
    transport: Transport = Transport.API


@dataclass(frozen=True, slots=True)
class CraftAiLocation:
    """An environment of the platform, identified by its URL, and a folder in its data store."""

    url: str
    folder: str = ""
    access: CraftAiAccess = CraftAiAccess()

    def __str__(self) -> str:
        return f"craft-ai+{self.url}/{self.folder}".rstrip("/")


_URL_ENV, _CONTROL_URL_ENV = "CRAFT_AI_ENVIRONMENT_URL", "CRAFT_AI_CONTROL_URL"
"""The variables that the platform's own SDK reads its two addresses from."""

_VARIABLES = "craft-ai://"

_log = logging.getLogger(__name__)

_URL_AS_PATH = r"(s3|file|craft-ai(\+https?)?):/"

Location = DirectoryLocation | S3Location | CraftAiLocation


def resolve(word: str, config: Config, access: S3Access | None = None) -> Location:
    """Return the location of a STORE argument; raises `UsageError` for an unknown store.

    `access` is for S3, and takes precedence over that of an environment.
    """
    if not word:
        raise UsageError(
            "The name of the store is empty.",
            remedy="Give an environment of the configuration, a URL or a path.",
        )
    access = access or S3Access()
    scheme = word.partition("://")[0] if "://" in word else None
    if scheme is not None and scheme.startswith("craft-ai"):
        return _from_platform_url(word, config)
    if scheme == "craftsync":
        raise _python_address(word)
    if scheme is not None:
        return _from_url(word, scheme, config, access)
    if is_path(word):
        return DirectoryLocation(absolute(word), config.reserve)
    name, _, folder = word.partition(":")
    environment = config.environments.get(name)
    if environment is None:
        raise _unknown_word(word, name, config)
    location = _from_environment(name, environment, access)
    if isinstance(location, DirectoryLocation):
        location = replace(location, reserve=config.reserve)
    return _in_folder(location, word, folder)


def word_of(store: str | os.PathLike[str]) -> str:
    """Return the STORE argument for a value from Python: a str unchanged, a path as an absolute path."""
    if isinstance(store, str):
        return store
    path = os.fspath(store)
    if re.match(_URL_AS_PATH, path):
        raise UsageError(f"{path!r} is a URL converted to a path.", remedy="Pass the URL as a str.")
    return str(absolute(path))


def is_path(word: str) -> bool:
    """Return whether a STORE argument is the path of a folder, not a URL or the name of an environment."""
    return word.startswith(("/", "./", "../", "~")) or word in {".", ".."}


def remembered(address: str, config: Config, access: S3Access) -> Location:
    """Return the location of an address in a state database or a plan file.

    The address does not include the S3 access; unless given, it is taken from
    an environment with the same bucket.
    """
    location = resolve(address, config, access)
    reach = replace(access, content_type=None, storage_class=None, sse=None)
    if isinstance(location, S3Location) and reach == S3Access():
        for environment in config.environments.values():
            if isinstance(environment, S3Environment) and environment.bucket == location.bucket:
                return replace(location, access=access.before(_access_of(environment)))
    return location


def refuse_written(location: Location, access: S3Access) -> None:
    """Raise `UsageError` for object settings that the store does not support."""
    if access.written and not isinstance(location, S3Location):
        is_folder = isinstance(location, DirectoryLocation)
        what = "a folder on disk" if is_folder else "a Craft AI environment"
        raise UsageError(
            f"{', '.join(access.written)}: the store {location} is {what}, which does not support it.",
            remedy="Leave it out; it is for S3.",
        )


def _from_url(word: str, scheme: str, config: Config, access: S3Access) -> Location:
    match scheme:
        case "s3":
            bucket, _, prefix = word.removeprefix("s3://").partition("/")
            if not bucket:
                raise UsageError(
                    f"{word} has no bucket.", remedy="Write s3://bucket or s3://bucket/prefix."
                )
            return S3Location(bucket, prefix.strip("/"), access)
        case "file":
            url = urlsplit(word)
            if url.netloc not in {"", "localhost"} or not url.path.startswith("/"):
                raise UsageError(
                    f"{word} is not a folder on this machine.",
                    remedy="Write file:///absolute/path.",
                )
            return DirectoryLocation(absolute(unquote(url.path)), config.reserve)
        case _:
            raise UsageError(
                f"{word}: unknown kind of store {scheme}.",
                remedy="Use s3://, file:/// or craft-ai://, a path, or an environment of the configuration.",
            )


def _from_platform_url(word: str, config: Config) -> Location:
    location, folder = _of_url(word, config)
    return _in_folder(location, word, folder)


def _from_environment(name: str, environment: Environment, access: S3Access) -> Location:
    if isinstance(environment, DirectoryEnvironment):
        return DirectoryLocation(environment.path)
    if isinstance(environment, CraftAiEnvironment):
        return _of_environment(environment)
    given = access.before(_access_of(environment))
    return S3Location(environment.bucket, environment.prefix.strip("/"), given)


def _access_of(environment: S3Environment) -> S3Access:
    return S3Access(
        environment.profile,
        environment.region,
        environment.endpoint_url,
        environment.request_payer,
        environment.content_type,
        environment.storage_class,
        environment.sse,
    )


def _in_folder(location: Location, word: str, folder: str) -> Location:
    """Return the location of a folder within a store."""
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
    known = ", ".join(config.environments) or "none; no configuration exists"
    return UsageError(
        f"{word!r} is not an environment of the configuration (known: {known}).",
        remedy=f"{nearest(name, config.environments)}{_suggestion(word)} To add an environment, use"
        " craftsync config add NAME STORE.",
    )


def _python_address(word: str) -> UsageError:
    """Return the error for a `craftsync://` URL, which is only for fsspec in Python."""
    rest = word.removeprefix("craftsync://")
    name, _, folder = rest.partition("/")
    meant = rest if "://" in rest else f"{name}:{folder}".rstrip(":")
    return UsageError(
        f"{word}: craftsync:// is for Python, as in pd.read_csv.", remedy=f"Write {meant}."
    )


def _suggestion(word: str) -> str:
    """Return a suggestion for the store that an unknown argument may mean."""
    scheme, colon, rest = word.partition(":")
    if colon and scheme in ("s3", "file", "craft-ai"):
        return f"Write {scheme}://{rest.lstrip('/')}."
    if colon:
        return "For a bucket write s3://BUCKET, for a folder on this machine ./FOLDER."
    return f"For the folder of that name write ./{word}, for a bucket s3://{word}."


def absolute(word: str) -> Path:
    return Path(os.path.abspath(user_path(word)))


def real(path: Path) -> Path:
    """Return the path as absolute, with links resolved; it need not exist."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        # An invalid path; the error is reported when it is used.
        return path


def address_of(location: Location) -> str:
    """Return the address of a location in state databases."""
    return str(location)


def exists(location: Location) -> bool:
    """Return whether a directory store exists; True for any other store."""
    return not isinstance(location, DirectoryLocation) or os.path.isdir(location.path)


def refuse_nesting(root: Path, location: Location) -> None:
    """Raise `UsageError` when root and store are the same folder or one contains the other.

    Such a pair would copy its own copies forever. Compares resolved paths, and
    device and inode too, because a bind mount has two real paths.
    """
    found = relation(location.path, root) if isinstance(location, DirectoryLocation) else None
    if found is not None:
        raise UsageError(
            f"The store {location} {found} the linked folder {root}.",
            remedy="Use two separate folders.",
        )


def relation(one: Path, other: Path) -> str | None:
    """Return how a folder overlaps with another, as a phrase for a message; `None` if they do not."""
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


def _of_environment(environment: CraftAiEnvironment) -> CraftAiLocation:
    """Return the location of an environment of the configuration; raises `ConfigError`."""
    control_url = environment.control_url
    try:
        url = _checked(environment.url, "url")
        if control_url is not None:
            control_url = _checked(control_url, "control_url")
    except UsageError as error:
        raise ConfigError(f"{error}", remedy=error.remedy) from error
    access = CraftAiAccess(
        *(control_url, environment.token_env, environment.token_file),
        transport=environment.transport,
    )
    return CraftAiLocation(url, access=access)


def _of_url(word: str, config: Config) -> tuple[CraftAiLocation, str]:
    """Return the environment of a URL, and the folder in it.

    `craft-ai://` is the environment set by variables. An address such as
    `craft-ai+https://host/folder` uses the access of the known environment whose
    URL is its beginning; the configuration and the variables make one known.
    """
    named = _of_variables()
    if word.startswith(_VARIABLES):
        if named is None:
            raise UsageError(
                f"{word} is the environment set by variables, but {_URL_ENV} is not set.",
                remedy=f"Set {_URL_ENV} to the environment's address on the platform, as a variable or"
                " in a .env file in this folder; or add the environment to the configuration.",
            )
        return named, word.removeprefix(_VARIABLES).strip("/")
    environments = config.environments.values()
    known = [_of_environment(env) for env in environments if isinstance(env, CraftAiEnvironment)]
    if named is not None and not (named.access.dotenv_only and not in_dotenv(TOKEN_ENV, None)):
        # An explicitly given address may use any token, even if a .env file contains that address, too.
        known.append(named)
    for location in sorted(known, key=lambda place: len(place.url), reverse=True):
        if f"{word}/".startswith(f"{location}/"):
            return location, word.removeprefix(str(location)).strip("/")
    address, _, folder = word.removeprefix("craft-ai+").partition("://")[2].partition("/")
    scheme = word.removeprefix("craft-ai+").partition("://")[0]
    return CraftAiLocation(_checked(f"{scheme}://{address}", "STORE")), folder.strip("/")


def _of_variables() -> CraftAiLocation | None:
    """Return the environment set by variables, or by the `.env` file of the current folder."""
    if url := os.environ.get(_URL_ENV):
        return CraftAiLocation(_checked(url, _URL_ENV))
    if url := secrets.variable(_URL_ENV):
        address = _checked(url, f"{_URL_ENV} in .env")
        return CraftAiLocation(address, access=CraftAiAccess(dotenv_only=True))
    return None


def credentials_of(location: CraftAiLocation) -> tuple[str | None, Callable[[], str], str]:
    """Return the URL to exchange the token (`None`: the SDK's default), a function that finds the token, and its name.

    An address from a `.env` file is used only with the token in that file.
    Otherwise, the `.env` of any folder you enter could send your token anywhere.
    """
    known = location.access
    control_url, only = known.control_url or os.environ.get(_CONTROL_URL_ENV), known.dotenv_only
    if control_url is None and (named := secrets.variable(_CONTROL_URL_ENV)):
        if only or in_dotenv(known.token_env, known.token_file):
            control_url, only = _checked(named, f"{_CONTROL_URL_ENV} in .env"), True
        else:
            _log.warning(
                "%s in .env is ignored: the token is not from that file. To use it, set the variable,"
                " or control_url in the configuration.",
                _CONTROL_URL_ENV,
            )
    elif control_url is not None:
        control_url = _checked(control_url, _CONTROL_URL_ENV)
    place = known.token_env, known.token_file
    name = name_of_token(*place, dotenv_only=only)
    return control_url, partial(find_token, *place, dotenv_only=only), name


def _checked(text: str, name: str) -> str:
    """Return a normalised address; raises `UsageError`, which names its source `name`."""
    address = text.strip()
    try:
        url = urlsplit(address)
        usable = (
            url.scheme in {"http", "https"}
            and bool(url.hostname)
            and "@" not in url.netloc
            and url.port != 0
            and not any(letter.isspace() or not letter.isprintable() for letter in address)
        )
        problem = ""
    except ValueError as error:
        usable, problem = False, f" ({error})"
    if not usable:
        raise UsageError(
            f"{name}: {text!r} is not the address of an environment{problem}.",
            remedy="Copy it from the platform: https://my-env.mlops-platform.craft.ai",
        )
    return address.rstrip("/")
