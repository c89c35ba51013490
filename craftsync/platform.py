"""The environments of the Craft AI platform as places for a store: named by variables, by the configuration, by URL."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from craftsync import dotenv
from craftsync.clock import Clock
from craftsync.config import Config, CraftAiEnvironment
from craftsync.errors import ConfigError, UsageError
from craftsync.stores.base import Store
from craftsync.tokens import TOKEN_ENV, find_token, in_dotenv

if TYPE_CHECKING:
    from craftsync.stores.craftai import Access

_URL_ENV, _CONTROL_URL_ENV = "CRAFT_AI_ENVIRONMENT_URL", "CRAFT_AI_CONTROL_URL"
"""The variables in which the platform's own SDK looks for its two addresses."""

_VARIABLES = "craft-ai://"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CraftAiAccess:
    """Where the token for an environment is, and where it is exchanged (`None`: where the SDK would)."""

    control_url: str | None = None
    token_env: str = TOKEN_ENV
    token_file: Path | None = None
    dotenv_only: bool = field(default=False, compare=False)
    """The address comes from a `.env` file: only the token of that file may be sent to it."""


@dataclass(frozen=True, slots=True)
class CraftAiLocation:
    """An environment of the platform, told by its URL, and a folder in its data store."""

    url: str
    folder: str = ""
    access: CraftAiAccess = CraftAiAccess()

    def __str__(self) -> str:
        return f"craft-ai+{self.url}/{self.folder}".rstrip("/")


def of_environment(environment: CraftAiEnvironment) -> CraftAiLocation:
    """Return the place an environment of the configuration stands for; raises `ConfigError`."""
    control_url = environment.control_url
    try:
        url = _checked(environment.url, "url")
        if control_url is not None:
            control_url = _checked(control_url, "control_url")
    except UsageError as error:
        raise ConfigError(f"{error}", remedy=error.remedy) from error
    access = CraftAiAccess(control_url, environment.token_env, environment.token_file)
    return CraftAiLocation(url, access=access)


def of_url(word: str, config: Config) -> tuple[CraftAiLocation, str]:
    """Return the environment a URL stands for, and the folder in it that the URL names.

    `craft-ai://` is the environment of the variables. An address such as
    `craft-ai+https://host/folder` is reached as the environment of the
    configuration, or of the variables, that it begins with.
    """
    named = _of_variables()
    if word.startswith(_VARIABLES):
        if named is None:
            raise UsageError(
                f"{word} is the environment of the variables, and {_URL_ENV} is not set.",
                remedy="Set it to the environment's address on the platform, in the environment or in"
                " a .env file here; or name the environment in the configuration.",
            )
        return named, word.removeprefix(_VARIABLES).strip("/")
    environments = config.environments.values()
    known = [of_environment(env) for env in environments if isinstance(env, CraftAiEnvironment)]
    if named is not None and not (named.access.dotenv_only and not in_dotenv(TOKEN_ENV, None)):
        # An address that the call itself names may have any token, also where a .env names it, too.
        known.append(named)
    for location in sorted(known, key=lambda place: len(place.url), reverse=True):
        if f"{word}/".startswith(f"{location}/"):
            return location, word.removeprefix(str(location)).strip("/")
    address, _, folder = word.removeprefix("craft-ai+").partition("://")[2].partition("/")
    scheme = word.removeprefix("craft-ai+").partition("://")[0]
    return CraftAiLocation(_checked(f"{scheme}://{address}", "STORE")), folder.strip("/")


def _of_variables() -> CraftAiLocation | None:
    """Return the environment of the variables, or of the `.env` file of the current folder."""
    if url := os.environ.get(_URL_ENV):
        return CraftAiLocation(_checked(url, _URL_ENV))
    if url := dotenv.variable(_URL_ENV):
        address = _checked(url, f"{_URL_ENV} in .env")
        return CraftAiLocation(address, access=CraftAiAccess(dotenv_only=True))
    return None


def open_store(location: CraftAiLocation, clock: Clock) -> Store:
    """Open an environment's data store, which waits by `clock`; the SDK is loaded only here.

    Raises `UsageError` when it is not installed, or when there is no token.
    """
    from craftsync.stores.craftai import CraftAiStore

    return CraftAiStore(access_to(location), location.folder, clock=clock)


def access_to(location: CraftAiLocation) -> Access:
    """Return who asks and where; the token is looked for when it is needed.

    An address from a `.env` file goes only with the token of that file: else any
    folder one enters could have a token sent wherever it likes.
    """
    from craftsync.stores.craftai import CONTROL_URL, Access

    known = location.access
    control_url, only = known.control_url or os.environ.get(_CONTROL_URL_ENV), known.dotenv_only
    if control_url is None and (named := dotenv.variable(_CONTROL_URL_ENV)):
        if only or in_dotenv(known.token_env, known.token_file):
            control_url, only = _checked(named, f"{_CONTROL_URL_ENV} in .env"), True
        else:
            _log.warning(
                "%s in .env is not used: the token is not from that file. Set the variable, or"
                " control_url in the configuration, if you mean it.",
                _CONTROL_URL_ENV,
            )
    elif control_url is not None:
        control_url = _checked(control_url, _CONTROL_URL_ENV)
    token = partial(find_token, known.token_env, known.token_file, dotenv_only=only)
    return Access(location.url, token, control_url or CONTROL_URL)


def _checked(text: str, name: str) -> str:
    """Return an address as it is compared, or raise `UsageError`; `name` says where it stands."""
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
