"""Reads, without changing anything, what `status`, `why` and `check` report: what is out of sync, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from craftsync import __version__
from craftsync.clock import iso
from craftsync.core.conflict_names import conflict_original
from craftsync.core.decide import decide
from craftsync.core.filters import Filter, Now, Sieve
from craftsync.core.merge import Joined, Triple, Unknown, merge
from craftsync.core.model import (
    OWN_FOLDER,
    BaselineRow,
    Kind,
    LocalFile,
    Mode,
    Policy,
    RemoteObject,
    Skipped,
)
from craftsync.core.paths import is_own, malformed
from craftsync.engine.identity import confirm_root
from craftsync.engine.planner import counted
from craftsync.engine.report import (
    REASONS,
    Issue,
    IssueEvent,
    OnEvent,
    ProgressEvent,
    Report,
    sentence,
)
from craftsync.engine.run import left_out_before
from craftsync.engine.sides import Left, StoreSide, in_order_left, now_of
from craftsync.errors import CraftsyncError, PathError, PathObstructed, RootError, UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.database import Database
from craftsync.state.pair import PairState
from craftsync.stores.base import Store
from craftsync.stores.sources import workers


def of_pair(root: str, store: str, state_dir: Path) -> dict[str, Any]:
    """Return the fields of `status --json`, whether or not folder and store exist.

    `reason` is the problem with the folder, if any. No request is sent to the store. Raises
    `StateError`.
    """
    with closing(PairState.open(state_dir, root, store, new_id=str, reading=True)) as state:
        return of_state(root, store, state)


def of_state(root: str, store: str, state: PairState) -> dict[str, Any]:
    """As `of_pair`, for an open state."""
    return {**_of_stopped(root, store, state), "reason": _wrong_with(root, state)}


def _wrong_with(root: str, state: PairState) -> str | None:
    try:
        with Folder.open(root) as folder:
            confirm_root(folder, state, create=False)
    except RootError as error:
        return f"{str(error).removesuffix('.')}. {error.remedy}".rstrip()
    return None


def _of_stopped(root: str, store: str, state: PairState) -> dict[str, Any]:
    """Return the fields of `status --json`."""
    database = state.database
    last = database.get_int("last_success_ns")
    return {
        "state": "stopped",
        "root": root,
        "store": store,
        "mode": database.get("mode"),
        "pid": None,
        "pending": None,
        "conflicts": state.baseline.conflict_copies(),
        "held": state.held.count(),
        "problems": database.get_int("last_problems") or 0,
        "left_out": left_out_before(database),
        "last_success": iso(last) if last else None,
        "watch": {"healthy": False, "reason": "not running"},
        "version": __version__,
    }


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each side holds at a path, and what a run would do. `decision` is `None` if it does nothing.

    `unread` is the reason if the path in the folder is not a readable file. If not `compared`,
    neither side got a stat.
    """

    path: str
    local: LocalFile | None
    baseline: BaselineRow | None
    remote: RemoteObject | None
    decision: Kind | None
    rule: str
    ignored_by: str | None = None
    unread: str | None = None
    compared: bool = True
    conflict: tuple[str, str] | None = None
    """The file and its conflict copy, if the path is one of them."""


def explain(
    path: str, root: Folder, store: Store, state: PairState, rules: IgnoreRules, policy: Policy
) -> Explanation:
    """Stat both sides and explain what a run would do. Raises `UsageError` if `path` cannot be a file's."""
    if is_own(path):
        rule = f"{OWN_FOLDER} is craftsync's own"
        return Explanation(path, None, None, None, None, rule, compared=False)
    if path == ".":
        raise _folder(path)
    if reason := malformed(path):
        raise UsageError(f"{path!r} is not a path in the folder: {reason}.")
    row, remote = state.baseline.get(path), store.stat(path)
    try:
        local = root.stat(path)
    except PathError as error:
        if isinstance(error, PathObstructed) and remote is None and row is None:
            raise _folder(path) from error
        unread = str(error).rstrip(".")
        rule = "what is not a file, or cannot be read, takes no part"
        return Explanation(path, None, row, remote, None, rule, unread=unread)
    if local is None and remote is None and row is None and _is_folder(path, store):
        raise _folder(path)
    match = rules.match(path)
    if match is not None and match.ignored:
        ignored_by = f"{match.pattern} ({match.source})"
        return Explanation(path, local, row, remote, None, f"ignored: {ignored_by}", ignored_by)
    if state.cut_off.is_over(Joined(path, local, row, remote)):
        row = None
    decision = decide(local, row, remote, policy)
    kind = decision.kind if decision else None
    rule = decision.rule if decision else _rule_without_action(local, remote, policy)
    conflict = _conflict_of(path, state)
    if conflict and not decision and local and remote:
        rule = f"{conflict[0]} has the folder's version, {conflict[1]} the store's"
    return Explanation(path, local, row, remote, kind, rule, None, conflict=conflict)


def _conflict_of(path: str, state: PairState) -> tuple[str, str] | None:
    for copy in state.baseline.conflict_paths():
        original = conflict_original(copy)
        if original and path in (original, copy):
            return original, copy
    return None


def _is_folder(path: str, store: Store) -> bool:
    return next(iter(store.list(f"{path}/")), None) is not None


def _folder(path: str) -> UsageError:
    return UsageError(
        f"{path} is a folder.",
        remedy="Name a file in it. For the whole folder, use craftsync history, plan or check.",
    )


def _rule_without_action(
    local: LocalFile | None, remote: RemoteObject | None, policy: Policy
) -> str:
    if local is None and remote is None:
        return "on neither side"
    if local is None or remote is None:
        return f"{policy.mode} without --delete leaves it alone"
    return "both sides are as last synced"


_Side = TypeVar("_Side", LocalFile, RemoteObject)


class Unread:
    """Reports the entries that one side of a check could not read, each with a `!`.

    An entry that takes no part by design gets an event, but no line.
    """

    def __init__(
        self, report: Report, on_line: Callable[[str, str], None], on_event: OnEvent
    ) -> None:
        self._report = report
        self._on_line = on_line
        self._on_event = on_event
        self._unknown = Unknown()

    def of(self, stream: Iterable[_Side | Skipped]) -> Iterator[_Side]:
        """Yield the entries; report the skipped ones."""
        for entry in stream:
            if isinstance(entry, Skipped):
                self._note(entry)
            else:
                yield entry

    def symbol(self, path: str, absent: str) -> str | None:
        """Return the symbol of a path that the side does not show: `absent`, or `None` if a `!` covers it."""
        return None if path in self._unknown else absent

    def _note(self, skipped: Skipped) -> None:
        if skipped.by_design:
            self._report.special += 1
            self._on_event(IssueEvent(Issue.SKIPPED, skipped.path, skipped.reason, by_design=True))
            return
        self._unknown.add(skipped)
        self._report.problems += skipped.failed
        self._report.skipped += not skipped.failed
        issue = Issue.PROBLEM if skipped.failed else Issue.SKIPPED
        event = IssueEvent(issue, skipped.path or ".", skipped.reason)
        self._report.note(event)
        self._on_event(event)
        self._on_line("!", event.path)


_BATCH = 256


@dataclass(frozen=True, slots=True)
class Checker:
    """Reports for every path whether both sides hold the same bytes, by hashing them."""

    left: Left
    right: StoreSide
    database: Database
    equal: Callable[[LocalFile, RemoteObject], bool]
    """Compares the two sides of a path. Raises `CraftsyncError` or `OSError` if one cannot be read."""
    workers: int
    stores: Sequence[Store]
    on_event: OnEvent
    filter: Filter = field(default_factory=Filter)
    now_ns: int = 0

    def run(self, report: Report, on_line: Callable[[str, str], None]) -> None:
        """Call `on_line(symbol, path)` for each path, in order.

        `=` equal, `*` different, `-` only on the right, `+` only on the left, `!` unreadable, with
        an event for the reason. All but `=` count as problems, except entries that take no part: by
        design, or skipped.
        """

        unread_left, unread_right = (Unread(report, on_line, self.on_event) for _ in range(2))
        scanned = counted(self.left.scan((), 0), self.left.stage, self.on_event)
        files = in_order_left(self.left, self.database, unread_left.of(scanned))
        listed = counted(self.right.list(()), self.right.stage, self.on_event)
        objects = self.right.in_order(self.database, unread_right.of(listed))
        nothing_agreed: tuple[BaselineRow, ...] = ()
        sieve = Sieve(self.filter, Mode.TWO_WAY, self._now()) if self.filter else None
        joined = merge(files, nothing_agreed, objects)
        triples = sieve.of(joined) if sieve else joined
        compare = partial(self._compare, unread_left, unread_right)
        with workers(self.workers, "compare", *self.stores) as pool:
            compared = 0
            while batch := list(islice(triples, _BATCH)):
                for symbol, triple in zip(pool.map(compare, batch), batch, strict=True):
                    self._report(triple, symbol, report, on_line)
                compared += len(batch)
                self.on_event(ProgressEvent("hashing", compared))
        report.ignored_local = self.left.ignored_count
        if sieve:
            self._report_unmet(sieve, report, on_line)

    def _report(
        self,
        triple: Triple,
        symbol: str | None,
        report: Report,
        on_line: Callable[[str, str], None],
    ) -> None:
        path = triple.path
        if symbol is None:
            return
        if symbol == "":
            report.ignored_remote += 1
        elif symbol == "=":
            report.unchanged += 1
            on_line(symbol, path)
        elif reason := REASONS.get(symbol):
            report.problems += 1
            report.note(IssueEvent(Issue.PROBLEM, path, reason))
            on_line(symbol, path)
        else:
            self._unreadable(path, symbol, report, on_line)

    def _now(self) -> Now:
        return now_of(self.filter, Mode.TWO_WAY, self.left, self.right, self.now_ns)

    def _report_unmet(
        self, sieve: Sieve, report: Report, on_line: Callable[[str, str], None]
    ) -> None:
        """Report the entries of a list that neither side has."""
        report.filtered += sieve.count
        for entry in sieve.unmet():
            reason = "named in --files-from, but neither side holds a file there"
            if entry in sieve.folders:
                reason = f"named in --files-from, but it is a folder: {entry}/ stands for all in it"
            self._unreadable(entry, reason, report, on_line)

    def _unreadable(
        self, path: str, reason: str, report: Report, on_line: Callable[[str, str], None]
    ) -> None:
        report.problems += 1
        event = IssueEvent(Issue.PROBLEM, path, reason)
        report.note(event)
        self.on_event(event)
        on_line("!", path)

    def _compare(self, unread_left: Unread, unread_right: Unread, triple: Triple) -> str | None:
        """Return the symbol of a path (`None`: no line; "": left out by patterns), or why it is unreadable."""
        if triple.remote is None:
            return unread_right.symbol(triple.path, "+")
        if triple.local is None:
            symbol = unread_left.symbol(triple.path, "-")
            return "" if symbol and self.left.ignored(triple.path) else symbol
        try:
            return "=" if self.equal(triple.local, triple.remote) else "*"
        except CraftsyncError as error:
            return sentence(error)
        except OSError as error:
            return f"{error.strerror or error}"
