"""One mapping of the configuration file, which knows its place there for the sake of messages.

A section hands out values, checked by a parser of the caller's, and turns what
is wrong into a `ConfigError` that names file, key and value and says what to
do. Which keys there are, and what they mean, is the business of `config`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from craftsync.errors import ConfigError, nearest
from craftsync.words import BadWord

T = TypeVar("T")

_NAME = re.compile(r"[\w][\w.-]*")
_SECRET = re.compile(r"(?i)token|secret|password|access_?key|credential")


class Section:
    """The mapping at `key` of `file`; an unknown key in it is an error at once."""

    def __init__(self, file: Path, key: str, content: Any, known: tuple[str, ...]) -> None:
        self._file = file
        self._key = key
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise self._wrong(
                key, f"{content!r} is not a section", "Write keys below it, each with a value."
            )
        self._content: dict[Any, Any] = content
        for name in content:
            if name not in known:
                raise self._unknown(name, known)

    def take(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """Return the value of a key, or `None` when the file does not have it or leaves it empty."""
        value = self._content.get(name)
        if value is None:
            return None
        try:
            return parse(value)
        except BadWord as bad:
            raise self.wrong_value(name, str(bad), bad.remedy) from bad

    def required(self, name: str, parse: Callable[[Any], T]) -> T:
        value = self.take(name, parse)
        if value is None:
            raise self._wrong(self._place(name), "it is missing", f"Add a line `{name}: …` there.")
        return value

    def named(self, name: str) -> dict[str, Any]:
        """Return a section whose keys are names the user chose."""
        content = self._content.get(name)
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise self.wrong_value(
                name, "is not a section", "Write a name below it, and its keys below the name."
            )
        for chosen in content:
            if not isinstance(chosen, str) or not _NAME.fullmatch(chosen):
                raise self._wrong(
                    self._place(name),
                    f"{chosen!r} cannot be a name",
                    "Use letters, digits, dots, dashes and underscores.",
                )
        return content

    def path(self, value: Any) -> Path:
        """Read a path; one that is not absolute starts at the folder of the file."""
        return Path(os.path.abspath(self._file.absolute().parent / Path(text(value)).expanduser()))

    def wrong_value(self, name: str, problem: str, remedy: str) -> ConfigError:
        return self._wrong(self._place(name), f"{self._content[name]!r} {problem}", remedy)

    def _unknown(self, name: Any, known: tuple[str, ...]) -> ConfigError:
        misspelt = nearest(str(name), known, likeness=0.8)
        if _SECRET.search(str(name)) and not misspelt:
            # The value is a secret: the message must not repeat it.
            return self._wrong(
                self._place(str(name)),
                "a secret has no place in the configuration",
                "Remove it, and name the variable or file that holds it with token_env or "
                "token_file; S3 credentials belong in an AWS profile or in the AWS_* variables.",
            )
        return self._wrong(
            self._place(str(name)),
            f"unknown key (its value is {self._content[name]!r})",
            f"{nearest(str(name), known)}Known keys: {', '.join(known)}.",
        )

    def _place(self, name: str) -> str:
        return f"{self._key}.{name}" if self._key else name

    def _wrong(self, key: str, problem: str, remedy: str) -> ConfigError:
        place = f"{self._file}: {key}" if key else f"{self._file}"
        return ConfigError(f"{place}: {problem}.", remedy=remedy)


def text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise BadWord("is not a word", "Put a text there, in quotes if it looks like a number.")


def url(value: Any) -> str:
    if isinstance(value, str) and re.match(r"https?://[^/]", value):
        return value
    raise BadWord("is not an address", "Use one that starts with https:// or http://.")


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise BadWord("is neither true nor false", "Use true or false.")


def patterns(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(pattern, str) for pattern in value):
        return tuple(value)
    raise BadWord("is not a list of patterns", 'Use a list such as ["*.tmp", "cache/"].')


def argv(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise BadWord(
        "is not a command", 'Use a list of its words, such as ["/usr/local/bin/tell-me", "--now"].'
    )
