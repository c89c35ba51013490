"""A migration on a Dask cluster: many shares of the keys, each copied by a free worker. The only importer of distributed.

A share is a migration of its own (`shards`). If its worker is lost, the share runs
again and skips what was already copied. Workers need their own configuration,
variables and credentials for the stores. This process adds up their reports and
concatenates their manifests, because the shares are in the order of the keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Client, as_completed

from craftsync.engine.report import Event, HeldEvent, IssueEvent, OnEvent, ProgressEvent
from craftsync.errors import StoreUnavailable
from craftsync.migrate.options import MigrationReport

SHARES_PER_WORKER = 4
"""More shares than workers, so that the others do not wait long for a slow one."""
_RETRIES = 3
_CONNECT_SECONDS = 5

_one_at_a_time = threading.Lock()
"""A worker may have several threads, but memory for only one migration."""

RunShare = Callable[[int, int, OnEvent], MigrationReport]
"""Copies the share `number` of `count`; sent to the workers, so it must be picklable."""

_ADDED = (
    *("copied", "deleted_remote", "adopted", "unchanged", "held", "problems", "skipped"),
    *(
        "ignored_local",
        "special",
        "filtered",
        "bytes_copied",
        "requests",
        "replaced",
        "damaged_state",
    ),
)


class Done(NamedTuple):
    """The result of a share: its report, its issues, and its manifest."""

    number: int
    report: dict[str, Any]
    issues: list[IssueEvent | HeldEvent]
    manifest: bytes


class Fleet:
    """The workers of one scheduler."""

    def __init__(self, address: str) -> None:
        """Raises `StoreUnavailable` when no scheduler responds, or it has no workers."""
        try:
            self._client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise StoreUnavailable(
                f"No Dask scheduler responds at {address} ({error}).",
                remedy="Check the address, and that a scheduler runs there.",
            ) from error
        self.workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        if not self.workers:
            self._client.close()
            raise StoreUnavailable(
                f"The Dask scheduler at {address} has no workers.", remedy="Start some first."
            )

    def close(self) -> None:
        self._client.close()

    def run(self, run_share: RunShare, on_event: OnEvent, manifests: Path) -> MigrationReport:
        """Copy all shares, write their manifests to a folder, and return the combined report.

        The file names sort in the order of the keys. Raises the error of a share
        after all others have ended.
        """
        count = SHARES_PER_WORKER * self.workers
        share = partial(_share, run_share, count)
        futures = self._client.map(share, range(1, count + 1), pure=False, retries=_RETRIES)
        report = MigrationReport("migrate")
        failure: Exception | None = None
        for ended in as_completed(futures, loop=self._client.loop):
            try:
                done: Done = ended.result()
            except Exception as error:  # noqa: BLE001 (whatever it is, the other shares end first)
                failure = error
                continue
            _add(report, done.report)
            (manifests / f"{done.number:06}").write_bytes(done.manifest)
            ended.release()
            for issue in done.issues:
                report.note(issue)
                on_event(issue)
            files = report.copied + report.adopted + report.unchanged
            on_event(ProgressEvent("transferring", files, None, report.bytes_copied))
        if failure is not None:
            raise failure
        return report


def _share(run_share: RunShare, count: int, number: int) -> Done:
    """Copy one share, in a worker."""
    issues: list[IssueEvent | HeldEvent] = []

    def note(event: Event) -> None:
        if isinstance(event, IssueEvent | HeldEvent):
            issues.append(event)

    with _one_at_a_time:
        report = run_share(number, count, note)
    manifest = Path(report.manifest).read_bytes() if report.manifest else b""
    return Done(number, asdict(report), issues, manifest)


def _add(report: MigrationReport, other: dict[str, Any]) -> None:
    """Add the counts of a share to the combined report."""
    for name in _ADDED:
        setattr(report, name, getattr(report, name) + other[name])
    for how, number in other["verified"].items():
        report.verified[how] = report.verified.get(how, 0) + number
