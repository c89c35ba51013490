"""Reads secrets from a file, a variable, systemd, or the `.env` file of a project.

A secret is never in an address, a message or a log. In a `.env` file,
`NAME=value`, quotes, `export` and comments are supported. Nothing is expanded,
and nothing is added to the environment.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

from craftsync.errors import ConfigError, UsageError

TOKEN_ENV = "CRAFT_AI_SDK_TOKEN"
"""The variable that the platform's own SDK reads the token from."""
_OLD_TOKEN_ENV = "CRAFT_AI_ACCESS_TOKEN"
"""Its name before version 0.9 of the SDK."""

_LINE = r"""(?x)\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*
    (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\s'"\#][^\n]*?)? )
    \s*(?:(?:(?<=\s)|(?<=['"]))\#.*)?"""
_ESCAPED = r"\\(.)"

_log = logging.getLogger(__name__)


def find_token(variable: str, file: Path | None, *, dotenv_only: bool = False) -> str:
    """Return the token in `file`, or else in a variable.

    The variable is read from the environment, from systemd's credentials of the
    service (`LoadCredential=NAME:/path`), or from the `.env` file of the current
    folder; with `dotenv_only` only from that file. Raises `UsageError` if no token
    is found.
    """
    if file is not None and not dotenv_only:
        return _in_file(file)
    token = None if dotenv_only else os.environ.get(variable) or _credential(variable)
    token = token or _in_dotenv(variable, also_environment=not dotenv_only)
    if token is None and dotenv_only:
        raise UsageError(
            f"An address in .env is used only with a token in that file, but .env does not set {variable}.",
            remedy=f"Add {variable} to .env if you trust that file; or set the addresses in the"
            " environment or the configuration.",
        )
    if token is None:
        raise UsageError(
            f"No SDK token: {variable} is not set.",
            remedy=f"Copy your SDK token from the platform and set {variable} to it, as a variable or in"
            " a .env file in this folder; or name a file that contains it with token_file in the"
            " configuration.",
        )
    return token.strip()


def name_of_token(variable: str, file: Path | None, *, dotenv_only: bool = False) -> str:
    """Return a phrase for messages that names the token of `find_token` by its source."""
    if file is not None and not dotenv_only:
        return f"the SDK token in {file}"
    if not dotenv_only and os.environ.get(variable):
        return f"the SDK token of the variable {variable}"
    if not dotenv_only and _credential(variable):
        return f"the SDK token of the credential {variable}"
    in_file = " in .env" if read_dotenv(Path(".env")).get(variable) else ""
    return f"the SDK token {variable}{in_file}"


def in_dotenv(variable: str, file: Path | None) -> bool:
    """Return whether `find_token` would return the token of the `.env` file."""
    if file is not None or os.environ.get(variable) or _credential(variable):
        return False
    if variable == TOKEN_ENV and os.environ.get(_OLD_TOKEN_ENV):
        return bool(read_dotenv(Path(".env")).get(variable))
    return _in_dotenv(variable, also_environment=False) is not None


def _in_dotenv(variable: str, *, also_environment: bool) -> str | None:
    """Return the token in the `.env` file, or under its old name in the environment or that file."""
    kept = read_dotenv(Path(".env"))
    if token := kept.get(variable):
        return token
    if variable != TOKEN_ENV:
        return None
    token = (os.environ.get(_OLD_TOKEN_ENV) if also_environment else None) or kept.get(
        _OLD_TOKEN_ENV
    )
    if token:
        _log.warning("%s is an old name; rename the variable to %s", _OLD_TOKEN_ENV, TOKEN_ENV)
    return token or None


def _in_file(file: Path) -> str:
    _warn_if_others_read(file)
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"The SDK token cannot be read from {file}: {why}.",
            remedy="Write only the token into it, readable by you alone; or correct token_file.",
        ) from error
    if not token:
        raise UsageError(f"{file} is empty.", remedy="Write only the SDK token into it.")
    return token


@cache
def _warn_if_others_read(file: Path) -> None:
    """Warn, once, about a token file that every user of the machine can read."""
    with suppress(OSError):
        if file.stat().st_mode & 0o007:
            _log.warning("Every user of this machine can read the token in %s: chmod 600", file)


def _credential(name: str) -> str | None:
    """Return a credential of the service from systemd (systemd.exec(5), "Credentials")."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, name) if folder else None
    return _in_file(file) if file is not None and file.is_file() else None


def variable(name: str) -> str | None:
    """Return a variable of the environment, else of the `.env` file in the current folder; `None` if empty or unset."""
    return os.environ.get(name) or read_dotenv(Path(".env")).get(name) or None


def read_dotenv(file: Path) -> dict[str, str]:
    """Return the variables of a `.env` file; empty if it does not exist.

    Lines that are not assignments are ignored, as other readers do. Raises
    `ConfigError` when the file is unreadable, or a named pipe.
    """
    try:
        with open(file, encoding="utf-8-sig", opener=_without_waiting) as stream:
            if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(
                    f"{file} is a named pipe, which craftsync does not read.",
                    remedy="Put the variables into a file, or set the variables themselves.",
                )
            lines = stream.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read ({error}).",
            remedy="It must be a UTF-8 file that you can read; or set the variables themselves.",
        ) from error
    matches = (re.fullmatch(_LINE, line) for line in lines)
    return {match["name"]: _value(match) for match in matches if match}


def _without_waiting(name: str, flags: int) -> int:
    """Open a file without blocking: a named pipe may never get a writer."""
    return os.open(name, flags | os.O_NONBLOCK)


def _value(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return re.sub(
            _ESCAPED, lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match["double"]
        )
    return match["single"] if match["single"] is not None else match["bare"] or ""
