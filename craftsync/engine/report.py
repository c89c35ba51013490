"""What a run reports: events while it runs, an outcome of each step, one `Report` at the end.

The command line, the Python API and the daemon show these; they count nothing themselves.
Also here: `Options`, what a run is called with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from craftsync.core.filters import Filter
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Action, BaselineRow, Kind, Policy, RemoteObject
from craftsync.errors import CraftsyncError, IncompleteError
from craftsync.local.temporary import Temporary
from craftsync.net.pace import Rate
from craftsync.state.history import KeptVersion
from craftsync.state.plan import Replaced, Result
from craftsync.state.transfers import Arrival


class Issue(StrEnum):
    """Why a path is not in sync after a run."""

    PROBLEM = "problem"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    HELD = "held"


STEP_WORDS: Mapping[str, str] = {
    Kind.DELETE_REMOTE: "delete in the store:",
    Kind.DELETE_LOCAL: "delete in the folder:",
    Kind.MOVE_REMOTE: "move in the store:",
    Kind.MOVE_LOCAL: "move in the folder:",
}
"""How messages name the steps that transfer no bytes."""


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """One action was carried out (`done`), or would be (`planned`). `size` is bytes."""

    action: Kind | str
    path: str
    size: int
    status: str
    rule: str = ""
    replaces: int | None = None
    """Bytes of the version that it replaces, if it is known to replace one."""

    @property
    def line(self) -> str:
        """The action in one line, for the user."""
        return f"{STEP_WORDS.get(self.action, self.action)} {self.path}"

    def as_json(self) -> dict[str, Any]:
        replaces = {} if self.replaces is None else {"replaces": self.replaces}
        return {
            "type": "action",
            "action": str(self.action),
            "path": self.path,
            "size": self.size,
            "status": self.status,
            **replaces,
        }


@dataclass(frozen=True, slots=True)
class IssueEvent:
    """One path is not in sync, and why. `by_design`: it takes no part, and the user need do nothing."""

    issue: Issue
    path: str
    reason: str
    by_design: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"type": str(self.issue), "path": self.path, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class DamageEvent(IssueEvent):
    """The content of one path is damaged although nothing wrote to it. Only `scrub` detects this."""


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """`count` deletes are held. It follows the `IssueEvent` of each path.

    `where` is the side that would lose the paths: "store", "folder" or "target". With `path`,
    the event concerns that path alone, which is held for a reason of its own.
    """

    count: int
    where: str
    reason: str
    remedy: str = ""
    path: str = ""

    def named(self, naming: str) -> HeldEvent:
        """Return this event with `naming`, flags that name the linked folder, added to its command."""
        is_command = self.remedy.endswith(" list")
        return replace(self, remedy=self.remedy + naming) if is_command else self

    @property
    def sentence(self) -> str:
        """The event in one line, for the user."""
        deletes = "1 delete" if self.count == 1 else f"{self.count} deletes"
        remedy = f". {self.remedy}" if self.remedy else ""
        if self.path:
            return f"{self.path} held: {self.reason}{remedy}"
        return f"{deletes} in the {self.where} held: {self.reason}{remedy}"


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far a run has come. Totals are `None` until planning has ended."""

    stage: str
    """`scanning` the folder, `listing` the store, `planning`, `transferring`, or `hashing` to compare."""
    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    files_hashed: int = 0
    bytes_hashed: int = 0
    """Bytes read so far to compare contents. The other figures do not include them."""


class PathIssue(NamedTuple):
    """One path of a report: `kind` is problem, skipped, conflict or held."""

    path: str
    kind: str
    reason: str


REASONS = {
    "*": "the content differs",
    "-": "only in the store (of two stores: in the second)",
    "+": "only in the folder (of two stores: in the first)",
}
"""What the symbols of a check mean."""

MOST_ISSUES = 1000
_MOST_SHOWN = 20

Event = ActionEvent | IssueEvent | HeldEvent | ProgressEvent
OnEvent = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Do nothing: the default listener."""


@dataclass(frozen=True, slots=True)
class Options:
    policy: Policy = field(default_factory=Policy)
    dry_run: bool = False
    delete_limit: DeleteLimit = field(default_factory=DeleteLimit)
    force_delete: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    transfers: int = 0
    """Concurrent transfers; 0 adapts to the connection."""
    filter: Filter = field(default_factory=Filter)
    """Leaves out paths, in addition to patterns."""
    follow_links: bool = False
    """Whether to read through symbolic links whose targets lie in the folder."""
    upload_rate: Rate = None
    download_rate: Rate = None


COPIES = (Kind.UPLOAD, Kind.DOWNLOAD)
"""Steps that transfer the content of a file."""
COUNTERS: Mapping[str, str] = {
    Kind.UPLOAD: "uploaded",
    Kind.DOWNLOAD: "downloaded",
    Kind.DELETE_REMOTE: "deleted_remote",
    Kind.DELETE_LOCAL: "deleted_local",
    Kind.MOVE_REMOTE: "moved",
    Kind.MOVE_LOCAL: "moved",
}


LEFT_OUT = ("ignored_local", "ignored_remote", "special", "filtered")
"""The counts of a report that concern what took no part."""


@dataclass(slots=True, repr=False)
class Report:
    """The result of a run. Its fields are those of the JSON summary, which scripts rely on."""

    command: str
    uploaded: int = 0
    downloaded: int = 0
    deleted_remote: int = 0
    deleted_local: int = 0
    moved: int = 0
    copied: int = 0
    replaced: int = 0
    """Transfers that replaced another version."""
    adopted: int = 0
    unchanged: int = 0
    repaired: int = 0
    conflicts: int = 0
    held: int = 0
    problems: int = 0
    skipped: int = 0
    bytes_uploaded: int = 0
    bytes_downloaded: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    damaged_state: bool = False
    ignored_local: int = 0
    """Entries that patterns left out in the folder, or in a migration's source; a folder counts once."""
    ignored_remote: int = 0
    """Objects that patterns left out in the store."""
    special: int = 0
    """Symbolic links and special files, which by design take no part."""
    filtered: int = 0
    """Paths that a filter by size, age, list or existence left out."""
    conflict_copies: int = 0
    """Conflict copies to be resolved by the user, of this run and of earlier ones."""
    issues: list[PathIssue] = field(default_factory=list)
    """The first `MOST_ISSUES` paths that are not in sync, each with its reason."""

    @property
    def in_conflict(self) -> int:
        """How many conflicts the user must resolve, including those of this run."""
        return max(self.conflicts, self.conflict_copies)

    @property
    def in_sync(self) -> bool:
        """Whether both sides hold the same now. After a conflict each side holds both versions."""
        return not (self.held or self.damaged_state or self.problems or self.skipped)

    @property
    def left_out(self) -> dict[str, int]:
        """How many paths took no part, by reason. A path that both sides hold may count twice."""
        return {name: getattr(self, name) for name in LEFT_OUT}

    @property
    def exit_code(self) -> int:
        """The exit code: 7 held deletes or damaged state, else 4 conflicts, else 1 problems, else 6 skipped, else 0."""
        if self.held or self.damaged_state:
            return 7
        if self.in_conflict:
            return 4
        if self.problems:
            return 1
        return 6 if self.skipped else 0

    def count(self, kind: Kind, moved: int) -> str:
        """Count an action that was carried out, or would be in a dry run, and its bytes; return its name."""
        counter = COUNTERS[kind]
        setattr(self, counter, getattr(self, counter) + 1)
        if kind is Kind.DOWNLOAD:
            self.bytes_downloaded += moved
        else:
            self.bytes_uploaded += moved
        return kind

    def on_synced(self, rows: Sequence[BaselineRow]) -> None:
        """Do nothing. Called with the baseline rows of each recorded step, for subclasses."""

    def note(self, event: Event) -> None:
        """Keep the path and the reason of an issue, if there is room."""
        if isinstance(event, IssueEvent) and not event.by_design and len(self.issues) < MOST_ISSUES:
            self.issues.append(PathIssue(event.path, str(event.issue), event.reason))

    def raise_for_issues(self) -> None:
        """Raise `IncompleteError`, which names the paths that are not in sync, unless the exit code is 0."""
        if self.exit_code == 0:
            return
        named = "; ".join(
            f"{issue.path} ({issue.kind}: {issue.reason})" for issue in self.issues[:3]
        )
        counts = {
            "failed": self.problems,
            "in conflict": self.in_conflict,
            "held": self.held,
            "skipped": self.skipped,
        }
        counted = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        raise IncompleteError(
            f"{self.command}: {counted or 'the state database was damaged'}: {named}".rstrip(": ")
            + ".",
            exit_code=self.exit_code,
        )

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self)
        for name in ("damaged_state", "conflict_copies", "issues"):
            fields.pop(name, None)
        fields["conflicts"] = self.in_conflict
        return {"type": "summary", **fields, "exit_code": self.exit_code}

    def _shown_fields(self) -> dict[str, Any]:
        """Return the fields of the summary that are not zero, and the exit code."""
        fields = self.as_json().items()
        return {
            name: value
            for name, value in fields
            if (value or name == "exit_code") and name != "type"
        }

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={_shown(value)}" for name, value in self._shown_fields().items()
        )
        return f"{type(self).__name__}({fields})"

    def _repr_html_(self) -> str:
        """Show the report as a table in a notebook, with the paths that are not in sync."""
        from html import escape

        rows = "".join(
            f"<tr><td>{name.replace('_', ' ')}</td><td>{escape(_shown(value))}</td></tr>"
            for name, value in self._shown_fields().items()
        )
        rows += "".join(
            f"<tr><td>{escape(issue.kind)}</td><td>{escape(issue.path)}: {escape(issue.reason)}</td></tr>"
            for issue in self.issues[:_MOST_SHOWN]
        )
        if len(self.issues) > _MOST_SHOWN:
            rows += f"<tr><td></td><td>… {len(self.issues)} of them in .issues</td></tr>"
        return f"<table>{rows}</table>"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    return "yes" if value is True else str(value)


ARCHIVED = "the object is archived, and the store can keep no copy of it"
"""Why a delete or an upload is held: the version it replaces could not be restored."""
REVIEW = "Review: craftsync deletes list"
"""The remedy for held deletes."""


class Status(StrEnum):
    """How a step ended."""

    DONE = "done"
    PLANNED = "planned"
    UNCHANGED = "unchanged"
    """Nothing was transferred: both sides already held the same content."""
    CONFLICT = "conflict"
    """Both versions were kept."""
    HELD = "held"
    """Nothing was changed: the object is archived and no copy can be kept, so the user must approve."""
    SKIPPED = "skipped"
    """The path changed since it was scanned, or cannot be stored; a later run may succeed."""
    PROBLEM = "problem"


def sentence(error: CraftsyncError) -> str:
    """Return an error and its remedy in one line."""
    return f"{str(error).removesuffix('.')}. {error.remedy}" if error.remedy else str(error)


class Outcome(NamedTuple):
    """The result of one step, and what to record of it.

    `rows` are the baseline rows to write, `forget` the paths whose rows to delete. `bytes` were
    transferred; `kept` are the versions moved to a trash. `error` is set if the failure may
    concern the whole side. `final`: trying again would not help.
    """

    action: Action
    status: Status
    reason: str = ""
    rows: tuple[BaselineRow, ...] = ()
    forget: tuple[str, ...] = ()
    bytes: int = 0
    error: CraftsyncError | None = None
    kept: tuple[KeptVersion, ...] = ()
    final: bool = False

    def completed(self, learned: Mapping[str, RemoteObject]) -> Outcome:
        """Return the outcome with version and time filled in for writes whose responses had neither."""
        if not learned:
            return self
        rows = (
            row._replace(modified_ns=found.modified_ns, version=found.version)
            if row.version is None and row.modified_ns is None and (found := learned.get(row.path))
            else row
            for row in self.rows
        )
        return self._replace(rows=tuple(rows))


_CHANGES_FOLDER = (Kind.DOWNLOAD, Kind.DELETE_LOCAL)
_CHANGES_STORE = (Kind.UPLOAD, Kind.DELETE_REMOTE)


def replaced_version(outcome: Outcome) -> Replaced | None:
    """Return the version that a step replaced or deleted, else `None`: conflicts and moves lose none."""
    action = outcome.action
    if outcome.status is not Status.DONE:
        return None
    if action.kind in _CHANGES_FOLDER and action.local is not None:
        side, size, version = "root", action.local.size, None
    elif action.kind in _CHANGES_STORE and action.remote is not None:
        side, size, version = "store", action.remote.size, action.remote.version
    else:
        return None
    stamp = next((kept.stamp for kept in outcome.kept if kept.path == action.path), None)
    row = next((row for row in outcome.rows if row.path == action.path), None)
    result = None if row is None else Result(row.size, row.digest, row.version)
    return Replaced(action.path, side, stamp, size, version, result)


class Staged(NamedTuple):
    """A finished download in a temporary file, to be swapped in once its bytes are flushed."""

    action: Action
    temporary: Temporary
    remote: RemoteObject
    digest: bytes
    bytes: int
    trash_stamp: str
    """The trash stamp for the version that it replaces."""

    @property
    def arrival(self) -> Arrival:
        """Return the record to save before the file is swapped in."""
        remote = self.remote
        inode = self.temporary.inode()
        return Arrival(
            self.action.path, remote.size, inode, self.digest, remote.modified_ns, remote.version
        )
