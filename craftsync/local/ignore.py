"""Ignore rules: which paths take part, by patterns from options, `.craftsyncignore` files and defaults.

As in git, the last matching pattern of the most specific source decides, and nothing below an
ignored folder takes part. From most to least specific, the sources are the options, the
`.craftsyncignore` files from the innermost folder outwards, and the defaults.

pathspec parses the patterns; only this module imports it. Its regular expressions are rewritten so
that matching is at worst quadratic in the path's length, because any client of the store can write
an ignore file. Most paths match nothing, so one expression first tests all patterns at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol, TypeVar

from craftsync.core.model import OWN_FOLDER, Skipped
from craftsync.core.paths import is_own
from craftsync.errors import PathError, PathRefused, UsageError
from craftsync.local.files import OpenFile, stat_file
from craftsync.local.folder import Folder
from craftsync.local.tree import LinkInTheWay

_NAMED_GROUP = r"\(\?P<\w+>"
_ANY_FOLDER = "^(?:.+/)?"
"""pathspec's prefix of a pattern that applies at any depth. It is dropped where only names are matched."""
_ANY_FOLDER_BETWEEN = "(?:/.+)?/"
"""pathspec's expression for `/**/`."""
_STAR = "[^/]*"
_TOKEN = r"""(?P<between>\(\?:/\.\+\)\?/) | (?P<star>\[\^/\]\*) | (?P<slash>/)
    | \[\^/\]\+? | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\]) | \\. | [^\\\[\](){}*+?|.^$]"""
_OF_BOTH, _OF_FOLDERS = "(?:(?:/)|$)", "(?:/)"
"""pathspec's suffixes of a pattern, and of one that ends with a slash."""
_TAILS = (_OF_BOTH, _OF_FOLDERS, "")
_PLAIN_NAME = re.compile(r"\*?[\w.-]+/?", re.ASCII)
"""A pattern such as `*.part` or `.git/`, whose expression is made here without pathspec."""
MOST_PATTERNS = 4096
"""The most patterns of one source, because each path may be tested against each."""


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_HasPath)


class Match(NamedTuple):
    """The rule that decided about a path: its pattern and source, as text for messages."""

    ignored: bool
    pattern: str
    source: str


class _Rule:
    """One pattern. Unlike a `GitIgnoreSpec`, it matches a path itself, not the folders above it."""

    def __init__(self, line: str, *, ignores: bool, expression: str) -> None:
        self.line = line
        self.ignores = ignores
        self.expression = expression
        text = line.rstrip().lstrip("!").removeprefix("**/")
        self.by_name = "/" not in text.rstrip("/")
        """Whether the pattern matches the last part of a path alone: it has no slash except at its ends."""

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled expression. Compiled when a path first matches the test of all patterns at once."""
        return re.compile(self.expression)

    def hits(self, path: str, key: str) -> bool:
        """Return whether the pattern matches this path itself, whose last part is `key`."""
        if self.by_name:
            return self.regex.search(key) is not None
        if self.line.endswith("/**"):  # Everything in the folder, but not the folder.
            return self.regex.search(path.rstrip("/")) is not None
        parent = path[: -len(key)]
        return self.regex.search(path) is not None and (
            not parent or self.regex.search(parent) is None
        )


class Patterns:
    """The patterns of one source. They match paths relative to the source's folder."""

    def __init__(self, lines: Iterable[str], source: str, base: str = "") -> None:
        """`base` is that folder with a final slash, or "". Raises `ValueError` for an invalid pattern."""
        self.lines = tuple(filter(None, lines))
        self._base = base
        self._source = source
        if len(self.lines) > MOST_PATTERNS:
            raise ValueError(f"more than {MOST_PATTERNS} patterns")
        self._rules = [rule for line in reversed(self.lines) if (rule := _compiled(line))]
        self._may_match_name = any_of(self.by_name())
        self.may_match_path = any_of(
            [_expression(rule) for rule in self._rules if not rule.by_name]
        )

    def by_name(self) -> list[str]:
        """Return the expressions of the patterns that match names at any depth."""
        expressions = [_expression(rule) for rule in self._rules if rule.by_name]
        return [each.removeprefix(_ANY_FOLDER) for each in expressions]

    def match(self, path: str, key: str) -> Match | None:
        """Return the rule that matches a path, whose last part is `key`, or `None`."""
        path = path[len(self._base) :]
        if not (
            (self._may_match_name and self._may_match_name.match(key))
            or (self.may_match_path and self.may_match_path.match(path))
        ):
            return None
        return next((self._by(rule) for rule in self._rules if rule.hits(path, key)), None)

    def covering(self, path: str) -> Match | None:
        """Return the rule that matches a path relative to `base`, or a folder above it, or `None`."""
        return next((self._by(rule) for rule in self._rules if rule.regex.search(path)), None)

    def _by(self, rule: _Rule) -> Match:
        return Match(rule.ignores, rule.line.strip(), self._source)


def _expression(rule: _Rule) -> str:
    """Return the pattern as a regular expression that is matched from the start."""
    expression = rule.expression
    return expression if expression.startswith("^") else f"(?s:.*?){expression}"


@lru_cache(maxsize=MOST_PATTERNS)
def _compiled(line: str) -> _Rule | None:
    """Parse one line; `None` for a comment. Raises `ValueError` for an invalid pattern."""
    if _PLAIN_NAME.fullmatch(line):
        return _Rule(line, ignores=True, expression=_of_plain_name(line))
    # Imported only for other patterns: the import takes as long as all other work to find files.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        pattern = GitIgnoreSpecPattern(line)
    except re.error as error:
        raise ValueError(f"{line!r} is not a pattern: {error}") from error
    if pattern.include is None or pattern.regex is None:
        return None
    expression = re.sub(_NAMED_GROUP, "(?:", pattern.regex.pattern)
    return _Rule(line, ignores=pattern.include, expression=_without_backtracking(line, expression))


def _of_plain_name(line: str) -> str:
    """Return the expression that pathspec makes of a plain name."""
    name = line.removesuffix("/")
    star = _STAR if name.startswith("*") else ""
    tail = _OF_FOLDERS if line.endswith("/") else _OF_BOTH
    return f"{_ANY_FOLDER}{star}{re.escape(name.removeprefix('*'))}{tail}"


def _without_backtracking(line: str, expression: str) -> str:
    """Return an expression that matches the same, and never backtracks over two wildcards.

    The text between two wildcards matches at the first possible place and stays there (an atomic
    group), because a later place would only leave less of the path for the rest. That holds for the
    stars in a name, and for the names between two `**`. Raises `ValueError` for an unknown form of
    expression.
    """
    if expression == ".":
        return expression
    tail = next(tail for tail in _TAILS if expression.endswith(tail))
    body = expression.removesuffix(tail)
    at_any_depth = body.startswith(_ANY_FOLDER)
    runs = _runs(line, body.removeprefix(_ANY_FOLDER).removeprefix("^"))
    first, last = ("(?:.+?/)??", "(?:.+/)?") if at_any_depth else ("", "")
    written = []
    for run in runs[:-1]:
        written.append(f"(?>{first}{run}(?=/))")
        first, last = "(?:/.+?)??/", _ANY_FOLDER_BETWEEN
    anchor = "^" if expression.startswith("^") else ""
    return f"{anchor}{''.join(written)}{last}{runs[-1]}{tail}"


def _runs(line: str, body: str) -> list[str]:
    """Return the expressions between the `/**/` of a pattern, with the stars in each name made atomic."""
    runs, names, pieces, at = [""], "", [""], 0
    tokens = re.compile(_TOKEN, re.VERBOSE | re.DOTALL)
    while at < len(body):
        token = tokens.match(body, at)
        if token is None:
            raise ValueError(f"{line!r} cannot be matched quickly")
        at = token.end()
        if token.lastgroup == "star":
            pieces.append("")
            continue
        if token.lastgroup in (None, "set"):
            pieces[-1] += token[0] if token.lastgroup is None else f"(?!/){token[0]}"
            continue
        names, pieces = names + _name_of(pieces), [""]
        if token.lastgroup == "slash":
            names += "/"
        else:
            runs[-1], names = names, ""
            runs.append("")
    runs[-1] = names + _name_of(pieces)
    return runs


def _name_of(pieces: list[str]) -> str:
    """Return the expression for one name, from the pieces between its stars."""
    if len(pieces) == 1:
        return pieces[0]
    bound = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1] if piece)
    return f"{pieces[0]}{bound}{_STAR}{pieces[-1]}"


def any_of(expressions: list[str]) -> re.Pattern[str] | None:
    """Return one expression that matches if any of these does; `None` if there are none."""
    return re.compile("|".join(f"(?:{each})" for each in expressions)) if expressions else None


@dataclass(slots=True)
class IgnoredCounter:
    """Counts the entries that patterns leave out: each file, and each folder once. Used by one thread."""

    count: int = 0


def of_call(patterns: Iterable[str], option: str) -> Patterns:
    """Return the patterns of one flag or keyword. Raises `UsageError` for an invalid one."""
    try:
        return Patterns(patterns, option)
    except ValueError as error:
        raise UsageError(
            f"{option}: {error}.", remedy="Patterns follow the syntax of .gitignore."
        ) from error


def narrowed(match: Match | None, path: str, key: str, include: Patterns | None) -> Match | None:
    """Return the match with `--include` applied, which concerns only files that no pattern ignores."""
    if (match is not None and match.ignored) or include is None or key.endswith("/"):
        return match
    included = include.covering(path)
    if included is not None and included.ignored:
        return included._replace(ignored=False)
    return Match(True, " ".join(include.lines), "not among --include")


class CallRules:
    """The patterns of one call, applied to the paths of a store, where no ignore file is read.

    Accepts any key, also one that no folder can hold. As elsewhere, nothing below an ignored folder
    takes part.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        """Raises `UsageError` for an invalid pattern."""
        includes = tuple(include)
        self._include = of_call(includes, "--include") if includes else None
        self._exclude = of_call(exclude, "--exclude")
        self._leave_out = bool(includes or self._exclude.lines)
        self._folder_ignored = lru_cache(maxsize=4096)(self._any_folder_ignored)

    def of(
        self, entries: Iterable[_Entry], ignored: IgnoredCounter | None = None
    ) -> Iterable[_Entry]:
        """Return the entries that take part, lazily; count the others in `ignored`."""
        if not self._leave_out:
            return entries
        return self._taking_part(entries, ignored or IgnoredCounter())

    def _taking_part(self, entries: Iterable[_Entry], ignored: IgnoredCounter) -> Iterator[_Entry]:
        for entry in entries:
            if self._takes_part(entry):
                yield entry
            else:
                ignored.count += 1

    def _takes_part(self, entry: _HasPath) -> bool:
        if isinstance(entry, Skipped) and entry.subtree:
            # Paths below it may take part, even if --include does not match the folder.
            return not (entry.path and self.ignored_folder(entry.path))
        return not self.ignored(entry.path)

    def ignored(self, path: str) -> bool:
        """Return whether a path takes no part."""
        if not self._leave_out:
            return False
        folder, slash, name = path.rpartition("/")
        if slash and self.ignored_folder(folder):
            return True
        decided = self._exclude.match(path, name)
        match = narrowed(decided, path.lstrip("/"), name, self._include)
        return match is not None and match.ignored

    def ignored_folder(self, path: str) -> bool:
        """Return whether a folder is left out, with everything in it."""
        return self._leave_out and self._folder_ignored(f"{path}/")

    def _any_folder_ignored(self, folder: str) -> bool:
        """Return whether a folder (with a final slash), or one above it, is left out."""
        start, end = 0, folder.find("/")
        while end >= 0:
            match = self._exclude.match(folder[: end + 1], folder[start : end + 1])
            if match is not None and match.ignored:
                return True
            start, end = end + 1, folder.find("/", end + 1)
        return False


IGNORE_FILE = ".craftsyncignore"
DEFAULTS = (
    ".git/",
    ".venv/",
    "__pycache__/",
    ".ipynb_checkpoints/",
    ".DS_Store",
    "*.part",
    ".env",
)

_LARGEST = 1024 * 1024


def _nothing(_key: str) -> None:
    return None


class FolderRules:
    """The rules for the names directly in one folder.

    A *key* is such a name, with a final slash if it is a folder.
    """

    def __init__(self, prefix: str, sources: tuple[Patterns, ...], include: Patterns | None):
        """`prefix` is the folder's path with a final slash, or "". The most specific source comes first."""
        self.failure = ""
        """Why the rules are unknown, as text for a message. Then nothing in the folder takes part."""
        self.blocked: Match | None = None
        """The rule that leaves out the folder, or one above it."""
        self._prefix = prefix
        self._sources = sources
        self._include = include
        self.suspects = self._first_question()
        """Called before `ignores`, for every key: falsy if the key certainly takes part."""

    def block(self, match: Match) -> FolderRules:
        """Leave out everything in the folder, and return these rules."""
        self.blocked = match
        self.suspects = self.ignores
        return self

    def _first_question(self) -> Callable[[str], object]:
        if self._include or any(source.may_match_path for source in self._sources):
            return self.ignores
        by_name = any_of([each for source in self._sources for each in source.by_name()])
        return by_name.match if by_name else _nothing

    def inside(self, prefix: str, own: Patterns | None) -> FolderRules:
        """Return the rules for a folder in this one, with the patterns of its own ignore file, if any."""
        if own is None:
            return FolderRules(prefix, self._sources, self._include)
        return FolderRules(prefix, (self._sources[0], own, *self._sources[1:]), self._include)

    def ignores(self, key: str) -> bool:
        """Return whether a key takes no part."""
        match = self.match(key)
        return match is not None and match.ignored

    def match(self, key: str) -> Match | None:
        """Return the rule that decides about a key, or `None` if it takes part by default."""
        if self.blocked:
            return self.blocked
        path = self._prefix + key
        match = next(filter(None, (source.match(path, key) for source in self._sources)), None)
        return narrowed(match, path, key, self._include)


class IgnoreRules:
    """All rules of one run over a folder. Thread-safe.

    An ignore file is read when a path below it is first tested. If it is unreadable or holds an
    invalid pattern, nothing below its folder takes part (`FolderRules.failure`).
    """

    def __init__(
        self,
        folder: Folder,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        defaults: bool = True,
    ) -> None:
        """With `include`, only files that match one of its patterns take part. Raises `UsageError`."""
        self._folder = folder
        self._call = of_call(exclude, "--exclude")
        self._defaults = Patterns(DEFAULTS if defaults else (), "the defaults")
        included = tuple(include)
        self._included = of_call(included, "--include") if included else None
        self.counter = IgnoredCounter()
        """Counts the entries that scans with these rules have left out."""
        self.inside = lru_cache(maxsize=4096)(self._inside)
        """Return the `FolderRules` of the folder at a path ("" is the whole)."""

    def match(self, path: str, *, is_folder: bool = False) -> Match | None:
        """Return the rule that decides about a path, whether or not it exists."""
        if is_own(path):
            return Match(True, f"{OWN_FOLDER}/", "craftsync's own folder")
        folder, _, name = path.rpartition("/")
        return self.inside(folder).match(f"{name}/" if is_folder else name)

    def ignored(self, path: str, *, is_folder: bool = False) -> bool:
        """Return whether a path takes no part, whether or not it exists."""
        folder, _, name = path.rpartition("/")
        rules, key = self.inside(folder), f"{name}/" if is_folder else name
        return bool(rules.suspects(key) and rules.ignores(key)) or is_own(path)

    def _inside(self, path: str) -> FolderRules:
        prefix = f"{path}/" if path else ""
        if path:
            above, _, name = path.rpartition("/")
            outer = self.inside(above)
            blocked = self._blocked(outer, name)
            if blocked:
                return outer.inside(prefix, None).block(blocked)
        else:
            outer = FolderRules("", (self._call, self._defaults), self._included)
        return self._with_own_file(outer, prefix)

    def _blocked(self, outer: FolderRules, name: str) -> Match | None:
        match = outer.match(f"{name}/")
        return match if match is not None and match.ignored else None

    def _with_own_file(self, outer: FolderRules, prefix: str) -> FolderRules:
        source = prefix + IGNORE_FILE
        try:
            content = self._read(source)
            lines = content.decode().split("\n") if content is not None else None
            own = Patterns(lines, source, prefix) if lines is not None else None
        except (PathError, ValueError) as error:
            rules = outer.inside(prefix, None)
            rules.failure = f"{source} cannot be used: {error}"
            return rules.block(Match(True, "", rules.failure))
        return outer.inside(prefix, own)

    def _read(self, path: str) -> bytes | None:
        tree = self._folder.tree
        try:
            if stat_file(tree, path) is None:
                return None
        except PathRefused as error:
            if isinstance(error.__cause__, LinkInTheWay):
                return None
            raise
        with OpenFile(tree, path) as opened:
            if opened.file.size > _LARGEST:
                raise PathRefused(f"{path} is larger than {_LARGEST} bytes.")
            return opened.read_at(0, opened.file.size)
