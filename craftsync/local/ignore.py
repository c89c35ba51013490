"""Which paths take part: gitignore rules from the call, from `.craftsyncignore` files and by default.

As in git, the last matching pattern of the most specific source decides, and
nothing below an ignored folder takes part. From most to least specific: the
patterns of the call, the `.craftsyncignore` of the innermost folder … of the
root, the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from craftsync.core.model import OWN_FOLDER
from craftsync.core.paths import is_own
from craftsync.errors import PathError, PathRefused
from craftsync.local.files import OpenFile, look
from craftsync.local.folder import Folder
from craftsync.local.patterns import Match, Patterns, any_of, narrowed, of_call
from craftsync.local.tree import LinkInTheWay

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
    """The rules for what lies directly in one folder.

    A *key* is a name in the folder, with a slash behind if it is a folder.
    """

    def __init__(self, prefix: str, sources: tuple[Patterns, ...], include: Patterns | None):
        """`prefix` is the folder's path with a slash behind, or ""; the most specific source comes first."""
        self.failure = ""
        """Why the rules are not known (for people); then nothing in the folder takes part."""
        self.blocked: Match | None = None
        """The rule by which the folder, or one above it, takes no part."""
        self._prefix = prefix
        self._sources = sources
        self._include = include
        self.suspects = self._first_question()
        """Asked before `ignores`, once for every file: false when the key surely takes part."""

    def block(self, match: Match) -> FolderRules:
        """Let nothing in the folder take part, and return the rules."""
        self.blocked = match
        self.suspects = self.ignores
        return self

    def _first_question(self) -> Callable[[str], object]:
        if self._include or any(source.may_match_path for source in self._sources):
            return self.ignores
        by_name = any_of([each for source in self._sources for each in source.by_name()])
        return by_name.match if by_name else _nothing

    def inside(self, prefix: str, own: Patterns | None) -> FolderRules:
        """Return the rules for a folder in this one, with what its own ignore file adds."""
        if own is None:
            return FolderRules(prefix, self._sources, self._include)
        return FolderRules(prefix, (self._sources[0], own, *self._sources[1:]), self._include)

    def ignores(self, key: str) -> bool:
        """Tell whether what is called `key` takes no part."""
        match = self.match(key)
        return match is not None and match.ignored

    def match(self, key: str) -> Match | None:
        """Return the rule that decides, or `None` when the key takes part without one."""
        if self.blocked:
            return self.blocked
        path = self._prefix + key
        match = next(filter(None, (source.match(path, key) for source in self._sources)), None)
        return narrowed(match, path, key, self._include)


class IgnoreRules:
    """All the rules of one pass over a folder; may be used from several threads.

    An ignore file is read when a path below it is first asked about. One that
    cannot be read, or holds an invalid pattern, keeps everything below its
    folder from taking part: see `FolderRules.failure`.
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
        self.inside = lru_cache(maxsize=4096)(self._inside)
        """Return the `FolderRules` of the folder at a path; "" is the root."""

    def match(self, path: str, *, is_folder: bool = False) -> Match | None:
        """Return the rule that decides about a path, whether or not anything is there."""
        if is_own(path):
            return Match(True, f"{OWN_FOLDER}/", "craftsync's own folder")
        folder, _, name = path.rpartition("/")
        return self.inside(folder).match(f"{name}/" if is_folder else name)

    def ignored(self, path: str, *, is_folder: bool = False) -> bool:
        """Tell whether a path takes no part, whether or not anything is there."""
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
            if look(tree, path) is None:
                return None
        except PathRefused as error:
            if isinstance(error.__cause__, LinkInTheWay):
                return None
            raise
        with OpenFile(tree, path) as opened:
            if opened.file.size > _LARGEST:
                raise PathRefused(f"{path} is larger than {_LARGEST} bytes.")
            return opened.read_at(0, opened.file.size)
