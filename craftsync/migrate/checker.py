"""Compares the content of two stores and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from craftsync.clock import SystemClock
from craftsync.core.merge import Joined, merge
from craftsync.core.model import BaselineRow, RemoteObject
from craftsync.engine import planfile
from craftsync.engine.report import REASONS, Issue, IssueEvent, OnEvent, ProgressEvent, Report
from craftsync.errors import CraftsyncError
from craftsync.local.ignore import CallRules
from craftsync.migrate.content import digest_of, is_md5
from craftsync.net.pace import Limiter
from craftsync.state.database import Database
from craftsync.state.spool import in_order
from craftsync.stores.base import Store
from craftsync.stores.sources import workers

_BATCH = 256
_READ_AT_ONCE = 8
"""Each of them holds a part of its object in memory."""

_Triple = Joined[RemoteObject, BaselineRow, RemoteObject]


@dataclass(frozen=True, slots=True)
class Checker:
    """Tells for every path whether both stores hold the same bytes.

    With `size_only`, whether they hold as many. By checksums where both stores are on one server and have true ones, which
    is known only of a server that was tried; else by reading both.
    """

    source: Store
    target: Store
    rules: CallRules
    workers: int
    on_event: OnEvent
    size_only: bool = False

    def run(self, on_line: Callable[[str, str], None]) -> Report:
        """Call `on_line(symbol, path)` for each path, in order.

        `=` equal, `*` different, `-` only in the target, `+` only in the
        source, `!` could not be read. Anything but `=` counts as a problem, but
        for what takes no part on either side: by design, or as skipped.
        """
        report = Report("check")
        clock = SystemClock()
        started = clock.monotonic()
        nothing_agreed: tuple[BaselineRow, ...] = ()
        database = Database.scratch()
        left, right = (planfile.Unread(report, on_line, self.on_event) for _ in range(2))
        triples = merge(
            self._listed(self.source, database, "source", left),
            nothing_agreed,
            self._listed(self.target, database, "target", right),
        )
        compare = partial(self._compare, left, right)
        count = min(self.workers, _READ_AT_ONCE)
        with workers(count, "compare", self.source, self.target) as pool:
            compared = 0
            while batch := list(islice(triples, _BATCH)):
                for symbol, triple in zip(pool.map(compare, batch), batch, strict=True):
                    if symbol is None:
                        continue
                    report.unchanged += symbol == "="
                    if symbol != "=":
                        report.problems += 1
                        report.note(IssueEvent(Issue.PROBLEM, triple.path, REASONS[symbol]))
                    on_line(symbol, triple.path)
                compared += len(batch)
                self.on_event(ProgressEvent("hashing", compared))
        database.close()
        report.seconds = round(clock.monotonic() - started, 3)
        return report

    def _listed(
        self,
        store: Store,
        database: Database,
        name: str,
        unread: planfile.Unread,
    ) -> Iterator[RemoteObject]:
        listing = unread.of(
            planfile.counted(self.rules.of(store.list()), f"listing the {name}", self.on_event)
        )
        return listing if store.features.sorted_listing else in_order(database, listing, name=name)

    def _compare(
        self, left: planfile.Unread, right: planfile.Unread, triple: _Triple
    ) -> str | None:
        if triple.remote is None:
            return right.symbol(triple.path, "+")
        if triple.local is None:
            return left.symbol(triple.path, "-")
        try:
            return "=" if self._are_equal(triple.local, triple.remote) else "*"
        except (CraftsyncError, OSError):
            return "!"

    def _are_equal(self, source: RemoteObject, target: RemoteObject) -> bool:
        if source.size != target.size or self.size_only:
            return source.size == target.size
        features = self.source.features, self.target.features
        true_md5s = all(side.md5_versions for side in features) and is_md5(source.version)
        if true_md5s and source.version == target.version:
            return True
        limiter = Limiter(None, SystemClock())
        return digest_of(self.source, source, limiter) == digest_of(self.target, target, limiter)
