"""The `.env` file of a project: where people on the platform keep their token and addresses.

Only what such files really hold is understood: `NAME=value`, quotes, `export`
and comments. Nothing is expanded, and nothing is put into the environment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from craftsync.errors import ConfigError

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*
    (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\s'"\#][^\n]*?)? )
    \s*(?:(?:(?<=\s)|(?<=['"]))\#.*)?""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")


def variable(name: str) -> str | None:
    """Return a variable of the environment, else of the `.env` file in the current folder, else `None`.

    An empty one counts as none.
    """
    return os.environ.get(name) or read(Path(".env")).get(name) or None


def read(file: Path) -> dict[str, str]:
    """Return the variables of a `.env` file; none when there is no such file.

    A line that is no assignment is passed over, as every other reader of such
    files does. Raises `ConfigError` when the file cannot be read.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: it cannot be read ({error}).",
            remedy="It has to be a UTF-8 file you may read; or set the variables themselves.",
        ) from error
    matches = (_LINE.fullmatch(line) for line in lines)
    return {match["name"]: _value(match) for match in matches if match}


def _value(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return _ESCAPED.sub(lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match["double"])
    return match["single"] if match["single"] is not None else match["bare"] or ""
