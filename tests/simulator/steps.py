"""The steps of a history: values that print as code, so that a failing history can become a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from craftsync.core.filters import Filter, Listed

PATHS = ("a", "b", "c.txt", "d/x", "d/y", "e/f/z")
FOLDERS = ("d", "e", "e/f")
"""Folders that now and then are files."""
OTHER_CASE = {"a": "A", "c.txt": "C.txt", "d/x": "D/x", "d/y": "d/Y", "d": "D"}
"""Renames that change only the case of a letter."""
IGNORE = (".craftsyncignore", "d/.craftsyncignore")
STORE = -1


class _PrintsAsCode:
    """Prints as the code that makes it, without default values."""

    def __repr__(self) -> str:
        arguments = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value != field.default:
                arguments.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(arguments)})"


@dataclass(frozen=True, repr=False)
class Act(_PrintsAsCode):
    """A user's change on one side: `STORE`, or the number of a client.

    `what` is "write", "put over", "remove", "move" (to `target`), or for a folder "remove all" or
    "move all". "put over" writes even if a folder is at the path, or a file at one of its parents.
    `how` a write is done: "in place", as a "new file", with an "old time", or with the "same time"
    as before. Within a run, `at` is the number of the effect at which it happens.
    """

    what: str
    side: int
    path: str
    token: int = 0
    how: str = "in place"
    target: str = ""
    at: int = 0

    @property
    def content(self) -> bytes:
        """The content of a token: 8 bytes, or 80 for each seventh token; rules in an ignore file."""
        if self.path in IGNORE:
            pattern = sorted(EXCLUDED)[self.token % len(EXCLUDED)]
            return b"# %08d\n%s\n" % (self.token, pattern.encode())
        return b"%08d" % self.token + b"+" * (72 if self.token % 7 == 0 else 0)


@dataclass(frozen=True, repr=False)
class Crash(_PrintsAsCode):
    """The process is killed at the effect number `at`; with `cut` its machine loses power."""

    at: int
    cut: bool = False


@dataclass(frozen=True, repr=False)
class Fail(_PrintsAsCode):
    """From request number `first` on, `count` requests fail: before they are carried out, or `after`.

    With `doubt` the error leaves open which. `kind` is one of `KINDS`; it applies to S3 only.
    """

    first: int
    count: int = 1
    after: bool = False
    doubt: bool = False
    kind: str = ""


KINDS = (
    *("", "", "", ""),
    "error",  # The answer is 500, before or after the request is carried out.
    "throttled",
    "portal",  # A captive portal answers 200 instead of the store.
    "cut",  # The body ends in the middle.
    "truncated",  # A page of a listing claims to be the last one.
    "repeated",  # A page of a listing is sent again.
    "lie",  # A write is acknowledged, but nothing is stored.
)


@dataclass(frozen=True, repr=False)
class Wait(_PrintsAsCode):
    """Time passes; with `jump` only the wall clock is set, forward or back.

    Within a run, `at` is the number of the effect at which it happens.
    """

    seconds: float
    jump: bool = False
    at: int = 0


@dataclass(frozen=True, repr=False)
class Run(_PrintsAsCode):
    """A client runs once, or carries out a command; `mods` happen during it.

    A `daemon` does what is due and keeps running. `beside` a running daemon, a run must be refused.
    `mode` is a `core.model.Mode`; with `delete`, a push or a pull also deletes.
    """

    client: int
    mods: tuple[Act | Crash | Fail | Wait, ...] = ()
    daemon: bool = False
    beside: bool = False
    mode: str = "two-way"
    delete: bool = False
    filter: str = ""
    """One of `FILTERS`."""
    what: str = ""
    """Instead of a run one of `COMMANDS`, `OBJECTS` or `UPKEEP`, for all paths or for `path`."""
    path: str = ""
    target: str = ""
    """Target of a copy or a move of an object."""
    token: int = 0
    """Token of the content to put."""
    number: int = 0
    """For an undo, how many runs before the last one; for a purge, the hours that are kept."""
    limit: int | None = None
    """Deletes that need no approval; by default craftsync's own limit."""


COMMANDS = (
    *("dry run", "check", "plan", "apply", "approve", "reject"),
    *("restore", "restore over", "undo", "undo over"),
    *("keep local", "keep remote", "keep newer", "keep both"),
)
"""Commands besides runs; see `commands`."""
OBJECTS = ("put", "cp", "mv", "rm")
"""Commands on single objects of the store; see `objects`."""
UPKEEP = ("purge", "scrub", "repair folder", "repair store", "repair")
"""See `upkeep`. A repair names the side that is damaged before it; `repair` alone, neither."""


LISTED = Listed(frozenset(PATHS[::2]))
FILTERS = {
    "": Filter(),
    "list": Filter(listed=LISTED),
    "existing": Filter(existing=True),
    "ignore existing": Filter(ignore_existing=True),
    "size": Filter(max_size=40),
    "age": Filter(max_age=100 * 10**9),
}


@dataclass(frozen=True, repr=False)
class Disaster(_PrintsAsCode):
    """One of `DISASTERS` happens to a client or the store."""

    what: str
    client: int = 0


@dataclass(frozen=True, repr=False)
class Change(_PrintsAsCode):
    """A user edits a client's configuration; a daemon starts again with it."""

    client: int
    keep: float | None = None
    """Retention of the trash in seconds; `None` is for ever."""
    mode: str = "two-way"
    delete: bool = False
    conflict: str = "both"
    exclude: tuple[str, ...] = ()
    """Some of `EXCLUDED`."""


EXCLUDED: dict[str, Callable[[str], bool]] = {
    "d/": lambda path: "d" in path.split("/")[:-1],
    "*.txt": lambda path: any(name.endswith(".txt") for name in path.split("/")),
    "/b": lambda path: path.split("/")[0] == "b",
}
"""Patterns, and the paths that each excludes."""
DISASTERS = (
    "state saved",
    "state rolled back",
    "state lost",
    "store saved",
    "store restored",
    "folder not the one it was",
    "folder without identity",
    "store without identity",
)
Step = Act | Run | Wait | Disaster | Change


def are_at_odds(one: str, other: str) -> bool:
    """Return whether one path needs a folder where the other has a file."""
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")
