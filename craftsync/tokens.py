"""Where a secret is kept: in a file, in a variable, or with systemd. Never in an address, a message or a log."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from craftsync import dotenv
from craftsync.errors import UsageError

TOKEN_ENV = "CRAFT_AI_SDK_TOKEN"
"""The variable in which the platform's own SDK looks for the token."""
_OLD_TOKEN_ENV = "CRAFT_AI_ACCESS_TOKEN"
"""What it was called before version 0.9 of the SDK."""

_log = logging.getLogger(__name__)


def find_token(variable: str, file: Path | None) -> str:
    """Return the token in a file or, where none is named, in a variable.

    A variable is looked for in the environment, among the credentials systemd
    hands to a service (`LoadCredential=NAME:/path`), and in the `.env` file of
    the current folder. Raises `UsageError` when there is none.
    """
    if file is not None:
        return _in_file(file)
    token = os.environ.get(variable) or _credential(variable) or dotenv.variable(variable)
    if token is None and variable == TOKEN_ENV:
        token = dotenv.variable(_OLD_TOKEN_ENV)
        if token is not None:
            _log.warning("%s is an old name; call the variable %s", _OLD_TOKEN_ENV, TOKEN_ENV)
    if token is None:
        raise UsageError(
            f"There is no SDK token: {variable} is not set.",
            remedy=f"Copy your SDK token from the platform and set {variable}, in the environment or"
            " in a .env file here; or name a file that holds it with token_file in the configuration.",
        )
    return token.strip()


def _in_file(file: Path) -> str:
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(
            f"The SDK token cannot be read from {file}: {why}.",
            remedy="Put the token there, alone, and let nobody else read it; or correct token_file.",
        ) from error
    if not token:
        raise UsageError(f"{file} is empty.", remedy="Put the SDK token there, alone.")
    return token


def _credential(name: str) -> str | None:
    """Return a credential systemd hands to the service (systemd.exec(5), "Credentials")."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, name) if folder else None
    return _in_file(file) if file is not None and file.is_file() else None
