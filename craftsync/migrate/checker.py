"""Compares the content of two stores and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from craftsync.clock import SystemClock
from craftsync.core.model import LocalFile, RemoteObject, as_object
from craftsync.engine.content import digest_of
from craftsync.engine.inspect import Checker
from craftsync.engine.report import OnEvent, Report
from craftsync.local.ignore import CallRules
from craftsync.migrate.content import is_md5
from craftsync.migrate.shards import Span
from craftsync.migrate.sides import SourceSide, TargetSide
from craftsync.net.pace import Limiter
from craftsync.state.database import Database
from craftsync.stores.base import Store

_READ_AT_ONCE = 8
"""Each of them holds a part of its object in memory."""


def check(
    source: Store,
    target: Store,
    rules: CallRules,
    workers: int,
    on_line: Callable[[str, str], None],
    on_event: OnEvent,
    *,
    size_only: bool = False,
) -> Report:
    """Compare two stores as `Checker.run` says; with `size_only`, only how many bytes they hold.

    By checksums where both stores are on one server and have true ones, which
    is known only of a server that was tried; else by reading both.
    """
    report, clock = Report("check"), SystemClock()
    started = clock.monotonic()
    features = source.features, target.features
    has_true_md5s = all(side.md5_versions for side in features)

    def equal(left: LocalFile, there: RemoteObject) -> bool:
        here = as_object(left)
        if here.size != there.size or size_only:
            return here.size == there.size
        if has_true_md5s and is_md5(here.version) and here.version == there.version:
            return True
        limiter = Limiter(None, clock)
        return digest_of(source, here, limiter) == digest_of(target, there, limiter)

    left, right = SourceSide(source, rules, Span()), TargetSide(target, rules, Span())
    at_once, stores = min(workers, _READ_AT_ONCE), [source, target]
    with closing(Database.scratch()) as database:
        Checker(left, right, database, equal, at_once, stores, on_event).run(report, on_line)
    report.seconds = round(clock.monotonic() - started, 3)
    return report
