"""The steps of a history: values that print as code, so that a failing history can be pasted into a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from craftsync.core.filters import Filter, Listed

PATHS = ("a", "b", "c.txt", "d/x", "d/y", "e/f/z")
FOLDERS = ("d", "e", "e/f")
"""Which are now and then a file."""
OTHER_CASE = {"a": "A", "c.txt": "C.txt", "d/x": "D/x", "d/y": "d/Y", "d": "D"}
"""What paths and a folder are renamed to where only the case of letters changes."""
IGNORE = (".craftsyncignore", "d/.craftsyncignore")
STORE = -1


class _Brief:
    """Prints as the code that makes it, without what is as by default."""

    def __repr__(self) -> str:
        said = []
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if value != one.default:
                said.append(f"{one.name}={value!r}")
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, repr=False)
class Act(_Brief):
    """What a person does on one side (`STORE` or the number of a client).

    `what` is write, remove or move (to `target`), or with a folder "remove all" or "move all"; `how` a write is done: in
    place, as a new file, with an old time, or with the time that was there. What is "put over"
    takes the place of a folder, or of the file that a folder is needed for.
    Within a run, `at` says at which effect.
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
        """All of one size, but for every seventh, which is large; in a file of rules, patterns."""
        if self.path in IGNORE:
            pattern = sorted(EXCLUDED)[self.token % len(EXCLUDED)]
            return b"# %08d\n%s\n" % (self.token, pattern.encode())
        return b"%08d" % self.token + b"+" * (72 if self.token % 7 == 0 else 0)


@dataclass(frozen=True, repr=False)
class Crash(_Brief):
    """The process dies at an effect; with `cut` the machine does, too."""

    at: int
    cut: bool = False


@dataclass(frozen=True, repr=False)
class Fail(_Brief):
    """The requests from the `first` on fail, `count` of them: before they are carried out, or after.

    `doubt`: the client is not told which. `kind` is one of `KINDS`, and for S3 alone.
    """

    first: int
    count: int = 1
    after: bool = False
    doubt: bool = False
    kind: str = ""


KINDS = (
    *("", "", "", ""),
    "error",  # 500, whether it was carried out or not
    "throttled",
    "portal",  # 200, from somebody who is not the store
    "cut",  # The body ends in its middle.
    "truncated",  # A page of a listing says that it is the last.
    "repeated",  # A page of a listing comes again.
    "lie",  # A write is acknowledged, and nothing is stored.
)


@dataclass(frozen=True, repr=False)
class Wait(_Brief):
    """Time passes; with `jump` the wall clock alone is set, forward or back. Within a run, `at` says at which effect."""

    seconds: float
    jump: bool = False
    at: int = 0


@dataclass(frozen=True, repr=False)
class Run(_Brief):
    """A client runs once; `mods` happen meanwhile. A `daemon` goes on living, and does what is due by now.

    `beside` a daemon that lives, a run is refused. `mode` is that of `core.model.Mode`,
    and with `delete` a push or a pull deletes as well.
    """

    client: int
    mods: tuple[Act | Crash | Fail | Wait, ...] = field(default=())
    daemon: bool = False
    beside: bool = False
    mode: str = "two-way"
    delete: bool = False
    filter: str = ""
    """One of `FILTERS`."""
    what: str = ""
    """In place of a run one of `COMMANDS`, for all or for a path."""
    path: str = ""
    target: str = ""
    """Where an object is copied or moved to."""
    token: int = 0
    """Of the content that is put."""
    number: int = 0
    """Which run before the last one is taken back; of a purge, the hours that are left."""
    limit: int | None = None
    """Deletes that it carries out unasked; by default as many as craftsync does."""


COMMANDS = (
    *("dry run", "check", "plan", "apply", "approve", "reject"),
    *("restore", "restore over", "undo", "undo over"),
    *("keep local", "keep remote", "keep newer", "keep both"),
)
"""What people do with commands besides runs; see `commands`."""
OBJECTS = ("put", "cp", "mv", "rm")
"""What they do with single objects of the store, beside everything else; see `objects`."""
UPKEEP = ("purge", "scrub", "repair folder", "repair store", "repair")
"""`repair` finds something that went bad on a side, or on neither."""


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
class Disaster(_Brief):
    """What befalls a client or the store: one of `DISASTERS`."""

    what: str
    client: int = 0


@dataclass(frozen=True, repr=False)
class Change(_Brief):
    """A client's configuration is edited; its daemon begins anew with it."""

    client: int
    keep: float | None = None
    """Seconds for which what is displaced is kept."""
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
"""Patterns, and what each means."""
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
    """Tell whether of two paths one needs a folder where the other has a file."""
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")
