"""The data store of a Craft AI environment: over its own protocol, or over the SDK's public functions.

The protocol is faster and safer, and it is what is used as long as the start-up
check finds it to be the one craftsync knows. Otherwise the fallback does the
work, and a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from craftsync.clock import Clock, SystemClock
from craftsync.core.model import RemoteObject, Skipped
from craftsync.stores.base import (
    Expect,
    Features,
    Reader,
    Source,
    Store,
    UploadJournal,
    cancel,
    renew,
)
from craftsync.stores.craftai.access import Access
from craftsync.stores.craftai.contract import Finding, check_platform, check_sdk
from craftsync.stores.craftai.session import open_sdk
from craftsync.stores.craftai.wire import WireStore
from craftsync.stores.craftai.writing import Limits

_log = logging.getLogger(__name__)
_AS_EXPECTED, _CHANGED = "wire", "public"


class CraftAiStore:
    """Keeps `stores.base.Store` for an environment, or for a folder in it.

    Raises `UsageError` when the SDK is not installed or there is no token.
    Making one sends nothing.
    """

    def __init__(
        self,
        access: Access,
        folder: str = "",
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._access = access
        self._folder = folder
        self._clock = clock or SystemClock()
        self._limits = limits or Limits()
        sdk = open_sdk(access)
        findings = check_sdk(sdk, str(getattr(sdk, "_version", "unknown")))
        self._wire: WireStore | None = None
        self._backend: Store = self._opened(findings)
        self.name = self._backend.name
        self.location = self._backend.location

    @property
    def features(self) -> Features:
        return self._backend.features

    def prepare(self, saved: str | None) -> str | None:
        """Check that the platform answers as expected, unless that was found before.

        One that does not answer at all shows nothing, and is asked again next time.
        """
        wire = self._wire
        if wire is None:
            return _CHANGED
        if saved == _AS_EXPECTED:
            return saved
        findings = list(check_platform(wire.session, wire.calls))
        if not any(finding.ok is False for finding in findings):
            listed = any(finding.name == "listing" and finding.ok for finding in findings)
            return _AS_EXPECTED if listed else None
        self._backend = self._fallback(findings)
        wire.close()
        return _CHANGED

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        return self._backend.list(prefix, boundaries=boundaries, nested_own=nested_own)

    def stat(self, path: str) -> RemoteObject | None:
        return self._backend.stat(path)

    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> AbstractContextManager[Reader]:
        return self._backend.read(path, expect=expect, offset=offset, length=length)

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        keep: str | None = None,
        journal: UploadJournal | None = None,
    ) -> RemoteObject:
        return self._backend.write(
            path, source, expect=expect, operation=operation, keep=keep, journal=journal
        )

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        self._backend.delete(path, expect=expect, keep=keep)

    def copy(
        self, source: RemoteObject, target: str, *, expect: Expect, operation: str
    ) -> RemoteObject:
        return self._backend.copy(source, target, expect=expect, operation=operation)

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        self._backend.abort_stale(uploads)

    def barrier(self) -> Mapping[str, RemoteObject]:
        return self._backend.barrier()

    def cancel(self) -> None:
        cancel(self._clock)
        cancel(self._backend)

    def renew(self) -> None:
        renew(self._clock)
        renew(self._backend)

    def close(self) -> None:
        self._backend.close()

    def _opened(self, findings: Sequence[Finding]) -> Store:
        if any(finding.ok is False for finding in findings):
            return self._fallback(findings)
        self._wire = WireStore(self._access, self._folder, clock=self._clock, limits=self._limits)
        return self._wire

    def _fallback(self, findings: Sequence[Finding]) -> Store:
        from craftsync.stores.craftai.public import PublicStore

        why = "; ".join(f"{found.name}: {found.detail}" for found in findings if found.ok is False)
        _log.warning(
            "%s: the SDK or the platform is not the one craftsync knows (%s);"
            " its public functions are used, which are slower",
            self._access.location,
            why,
        )
        self._wire = None
        return PublicStore(self._access, self._folder)
