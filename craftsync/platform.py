"""The environments of the Craft AI platform as places for a store: named by variables, by the configuration, by URL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from craftsync import dotenv
from craftsync.config import Config, CraftAiEnvironment
from craftsync.errors import UsageError
from craftsync.stores.base import Store
from craftsync.tokens import TOKEN_ENV, find_token

if TYPE_CHECKING:
    from craftsync.stores.craftai import Access

_URL_ENV, _CONTROL_URL_ENV = "CRAFT_AI_ENVIRONMENT_URL", "CRAFT_AI_CONTROL_URL"
"""The variables in which the platform's own SDK looks for its two addresses."""

_VARIABLES = "craft-ai://"


@dataclass(frozen=True, slots=True)
class CraftAiAccess:
    """Where the token for an environment is, and where it is exchanged (`None`: where the SDK would)."""

    control_url: str | None = None
    token_env: str = TOKEN_ENV
    token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class CraftAiLocation:
    """An environment of the platform, told by its URL, and a folder in its data store."""

    url: str
    folder: str = ""
    access: CraftAiAccess = CraftAiAccess()

    def __str__(self) -> str:
        return f"craft-ai+{self.url}/{self.folder}".rstrip("/")


def of_environment(environment: CraftAiEnvironment) -> CraftAiLocation:
    """Return the place an environment of the configuration stands for."""
    access = CraftAiAccess(environment.control_url, environment.token_env, environment.token_file)
    return CraftAiLocation(_checked(environment.url), access=access)


def of_url(word: str, config: Config) -> tuple[CraftAiLocation, str]:
    """Return the environment a URL stands for, and the folder in it that the URL names.

    `craft-ai://` is the environment of the variables. An address such as
    `craft-ai+https://host/folder` is reached as the environment of the
    configuration, or of the variables, that it begins with.
    """
    variable = dotenv.variable(_URL_ENV)
    named = [CraftAiLocation(_checked(variable))] if variable else []
    if word.startswith(_VARIABLES):
        if not named:
            raise UsageError(
                f"{word} is the environment of the variables, and {_URL_ENV} is not set.",
                remedy="Set it to the environment's address on the platform, in the environment or in"
                " a .env file here; or name the environment in the configuration.",
            )
        return named[0], word.removeprefix(_VARIABLES).strip("/")
    environments = config.environments.values()
    known = [of_environment(env) for env in environments if isinstance(env, CraftAiEnvironment)]
    for location in sorted([*known, *named], key=lambda place: len(place.url), reverse=True):
        if f"{word}/".startswith(f"{location}/"):
            return location, word.removeprefix(str(location)).strip("/")
    url = urlsplit(word.removeprefix("craft-ai+"))
    return CraftAiLocation(_checked(f"{url.scheme}://{url.netloc}")), url.path.strip("/")


def open_store(location: CraftAiLocation) -> Store:
    """Open an environment's data store; the SDK is loaded only here.

    Raises `UsageError` when it is not installed, or when there is no token.
    """
    from craftsync.stores.craftai import CraftAiStore

    return CraftAiStore(access_to(location), location.folder)


def access_to(location: CraftAiLocation) -> Access:
    """Return who asks and where, as the place, the variables and `.env` say; the token is looked for when it is needed."""
    from craftsync.stores.craftai import CONTROL_URL, Access

    known = location.access
    control_url = known.control_url or dotenv.variable(_CONTROL_URL_ENV) or CONTROL_URL
    return Access(location.url, partial(find_token, known.token_env, known.token_file), control_url)


def _checked(text: str) -> str:
    """Return the address of an environment as it is compared, or raise `UsageError`."""
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname or "@" in url.netloc:
        raise UsageError(
            f"{text!r} is not the address of an environment.",
            remedy="Copy it from the platform: https://my-env.mlops-platform.craft.ai",
        )
    return text.rstrip("/")
