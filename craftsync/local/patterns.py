"""Gitignore patterns: what they say about a path, whatever holds it. The only importer of pathspec.

pathspec reads the patterns; because asking them one by one takes microseconds
and most paths match none, one regular expression asks first whether any could
match at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from craftsync.core.model import Skipped
from craftsync.errors import UsageError

_NAMED_GROUP = re.compile(r"\(\?P<\w+>")
_ANY_FOLDER = "^(?:.+/)?"
"""What pathspec puts before a pattern that applies at any depth: nothing, when only names are asked about."""


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_HasPath)


class Match(NamedTuple):
    """The rule that decided about a path: a pattern and where it stands, for people."""

    ignored: bool
    pattern: str
    source: str


class _Rule(NamedTuple):
    """One pattern. Unlike a `GitIgnoreSpec`, it tells a path from the folders the path lies in."""

    line: str
    pattern: GitIgnoreSpecPattern

    @property
    def by_name(self) -> bool:
        """Tell whether only the last part of a path matters: there is no slash but at the ends."""
        text = self.line.rstrip().lstrip("!").removeprefix("**/")
        return "/" not in text.rstrip("/")

    def hits(self, path: str, key: str) -> bool:
        """Tell whether the pattern means this very path, whose last part is `key`."""
        if self.by_name:
            return self.pattern.match_file(key) is not None
        if self.line.endswith("/**"):  # Everything in the folder, but not the folder.
            return self.pattern.match_file(path.rstrip("/")) is not None
        parent = path[: -len(key)]
        return self.pattern.match_file(path) is not None and (
            not parent or self.pattern.match_file(parent) is None
        )


class Patterns:
    """The patterns of one source; they see paths relative to the folder the source stands in."""

    def __init__(self, lines: Iterable[str], source: str, base: str = "") -> None:
        """`base` is that folder with a slash behind, or "". Raises `ValueError` for an invalid pattern."""
        self.lines = tuple(filter(None, lines))
        self._base = base
        self._source = source
        rules = [_Rule(line, _compiled(line)) for line in self.lines]
        self._rules = [rule for rule in reversed(rules) if rule.pattern.include is not None]
        self._may_match_name = any_of(self.by_name())
        self.may_match_path = any_of(
            [_expression(rule) for rule in self._rules if not rule.by_name]
        )

    def by_name(self) -> list[str]:
        """Return regular expressions for the names the patterns could mean at any depth."""
        expressions = [_expression(rule) for rule in self._rules if rule.by_name]
        return [each.removeprefix(_ANY_FOLDER) for each in expressions]

    def match(self, path: str, key: str) -> Match | None:
        """Decide about the path from the root whose last part is `key`."""
        path = path[len(self._base) :]
        if not (
            (self._may_match_name and self._may_match_name.match(key))
            or (self.may_match_path and self.may_match_path.match(path))
        ):
            return None
        return next((self._by(rule) for rule in self._rules if rule.hits(path, key)), None)

    def covering(self, path: str) -> Match | None:
        """Decide about a path relative to `base` by the patterns that mean it or a folder it lies in."""
        return next((self._by(rule) for rule in self._rules if rule.pattern.match_file(path)), None)

    def _by(self, rule: _Rule) -> Match:
        return Match(bool(rule.pattern.include), rule.line.strip(), self._source)


def _expression(rule: _Rule) -> str:
    """Return the pattern as a regular expression to be matched from the start, without group names."""
    assert rule.pattern.regex is not None  # Only a comment has none.
    expression = _NAMED_GROUP.sub("(?:", rule.pattern.regex.pattern)
    return expression if expression.startswith("^") else f"(?s:.*?){expression}"


def _compiled(line: str) -> GitIgnoreSpecPattern:
    try:
        return GitIgnoreSpecPattern(line)
    except re.error as error:
        raise ValueError(f"{line!r} is no pattern: {error}") from error


def any_of(expressions: list[str]) -> re.Pattern[str] | None:
    """Return one expression for all of them; `None` for none."""
    return re.compile("|".join(f"(?:{each})" for each in expressions)) if expressions else None


def of_call(patterns: Iterable[str], option: str) -> Patterns:
    """Return the patterns of one flag or keyword; raises `UsageError` for an invalid one."""
    try:
        return Patterns(patterns, option)
    except ValueError as error:
        raise UsageError(
            f"{option}: {error}.", remedy="Patterns follow the syntax of .gitignore."
        ) from error


def narrowed(match: Match | None, path: str, key: str, include: Patterns | None) -> Match | None:
    """Return what decides about a path once `--include` has its say: only about files that nothing ignores."""
    if (match is not None and match.ignored) or include is None or key.endswith("/"):
        return match
    included = include.covering(path)
    if included is not None and included.ignored:
        return included._replace(ignored=False)
    return Match(True, " ".join(include.lines), "not among --include")


class CallRules:
    """What the patterns of one call say about the paths of a store, where no ignore file is read.

    Any key will do, also one that no folder can hold. As everywhere, nothing
    below an ignored folder takes part.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        """Raises `UsageError` for an invalid pattern."""
        includes = tuple(include)
        self._include = of_call(includes, "--include") if includes else None
        self._exclude = of_call(exclude, "--exclude")
        self._leave_out = bool(includes or self._exclude.lines)
        self._folder_ignored = lru_cache(maxsize=4096)(self._any_folder_ignored)

    def of(self, entries: Iterable[_Entry]) -> Iterable[_Entry]:
        """Return the entries that take part, as they come."""
        return filter(self._takes_part, entries) if self._leave_out else entries

    def _takes_part(self, entry: _HasPath) -> bool:
        if isinstance(entry, Skipped) and entry.subtree:
            # What it keeps unknown may be wanted, also where --include does not name the folder.
            return not (entry.path and self.ignored_folder(entry.path))
        return not self.ignored(entry.path)

    def ignored(self, path: str) -> bool:
        """Tell whether a path takes no part."""
        if not self._leave_out:
            return False
        folder, slash, name = path.rpartition("/")
        if slash and self.ignored_folder(folder):
            return True
        decided = self._exclude.match(path, name)
        match = narrowed(decided, path.lstrip("/"), name, self._include)
        return match is not None and match.ignored

    def ignored_folder(self, path: str) -> bool:
        """Tell whether nothing in a folder takes part."""
        return self._leave_out and self._folder_ignored(f"{path}/")

    def _any_folder_ignored(self, folder: str) -> bool:
        """Tell whether a folder, its path ending with a slash, or one above it is left out."""
        start, end = 0, folder.find("/")
        while end >= 0:
            match = self._exclude.match(folder[: end + 1], folder[start : end + 1])
            if match is not None and match.ignored:
                return True
            start, end = end + 1, folder.find("/", end + 1)
        return False
