"""Compares the content of both sides and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from craftsync.core.merge import Triple, merge
from craftsync.core.model import BaselineRow
from craftsync.errors import CraftsyncError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import scan
from craftsync.state.pair import PairState
from craftsync.state.spool import in_order
from craftsync.stores.base import Store
from craftsync.stores.workers import workers
from craftsync.sync import planning
from craftsync.sync.content import Fetcher
from craftsync.sync.report import REASONS, Issue, IssueEvent, OnEvent, ProgressEvent, Report
from craftsync.sync.settle import Contents

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Checker:
    """Tells for every path whether both sides hold the same bytes, by hashing, not by fingerprint."""

    root: Folder
    store: Store
    state: PairState
    rules: IgnoreRules
    fetcher: Fetcher
    workers: int
    on_event: OnEvent

    def run(self, report: Report, on_line: Callable[[str, str], None]) -> None:
        """Call `on_line(symbol, path)` for each path, in order.

        `=` equal, `*` different, `-` only in the store, `+` only in the root,
        `!` could not be read. Anything but `=` counts as a problem, but for what
        takes no part on either side: by design, or as skipped.
        """

        here, there = (planning.Unread(report, on_line, self.on_event) for _ in range(2))
        listing = there.of(planning.counted(self.store.list(), "listing", self.on_event))
        if not self.store.features.sorted_listing:
            listing = in_order(self.state.database, listing)
        nothing_agreed: tuple[BaselineRow, ...] = ()
        scanned = planning.counted(scan(self.root, self.rules), "scanning", self.on_event)
        triples = merge(here.of(scanned), nothing_agreed, listing)
        compare = partial(self._compare, here, there)
        with workers(self.workers, "compare", self.store) as pool:
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

    def _compare(self, here: planning.Unread, there: planning.Unread, triple: Triple) -> str | None:
        if triple.remote is None:
            return there.symbol(triple.path, "+")
        if triple.local is None:
            return None if self.rules.ignored(triple.path) else here.symbol(triple.path, "-")
        contents = Contents(self.root, self.fetcher, triple.local, triple.remote)
        try:
            return "=" if contents.equal(self.store, may_read=True) else "*"
        except (CraftsyncError, OSError):
            return "!"
