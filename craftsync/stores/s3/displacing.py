"""What a write or delete displaces: looked at, kept, and then demanded of the server.

Where the server checks a condition, it is left to it; where it does not, the
look just before is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from craftsync.core.model import OWN_FOLDER, Absent, RemoteObject
from craftsync.errors import ObjectNotFound, PreconditionFailed
from craftsync.stores.base import Expect
from craftsync.stores.s3.absence import Absence
from craftsync.stores.s3.calls import Calls
from craftsync.stores.s3.facts import Checks, ProbedFacts
from craftsync.stores.s3.multipart import MIB, SMALLEST_PART, Uploads
from craftsync.stores.s3.objects import CREATE, Condition, Original, kept

Metadata = tuple[Mapping[str, str], Mapping[str, str]]
"""The headers of a copied object, and the metadata its copy gets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where one way of doing things ends and another begins. Sizes are bytes."""

    single_put: int = 16 * MIB
    smallest_part: int = SMALLEST_PART
    """Of an upload in parts; AWS takes no parts under 5 MiB but the last."""
    single_copy: int = 5 * 1024 * MIB
    """CopyObject takes no more (AWS S3 API reference, "CopyObject")."""
    quick_copy: int = 1024 * MIB
    """Of another bucket's object: a larger one is copied in several parts at once, which can be resumed."""
    page: int = 1000
    """Keys asked for at once when listing; S3 never gives more."""
    fresh_listing_seconds: float = 2.0
    """For so long after its begin, a complete listing is taken for a look at where nothing was."""


class Displacing:
    """Prepares writes and deletes.

    `key` maps a path to its key, `look` describes what is at a path, `facts`
    returns what is known of the server by now.
    """

    def __init__(
        self,
        calls: Calls,
        uploads: Uploads,
        limits: Limits,
        *,
        key: Callable[[str], str],
        look: Callable[[str], RemoteObject | None],
        absence: Absence,
        facts: Callable[[], ProbedFacts],
    ) -> None:
        self._calls = calls
        self._uploads = uploads
        self._limits = limits
        self._key = key
        self._look = look
        self._absence = absence
        self._facts = facts

    def prepared(self, path: str, expect: Expect, keep: str | None, checks: Checks) -> Condition:
        """Do what comes before a write, and return what the write is to demand.

        With `keep`, only what was kept may be replaced: should another object
        come in between, the write fails although anything was expected.
        """
        if isinstance(expect, Absent):
            if not (checks.create or self._absence.is_sure(path) or self._look(path) is None):
                raise PreconditionFailed(f"{path} already exists in the store.")
            return CREATE if checks.create else None
        current = expect
        # A listing may leave the version out (some servers' do); then a look has to tell it.
        checked = checks.replace and expect is not None and expect.version is not None
        if (expect is None and keep is not None) or (expect is not None and not checked):
            current = self._look(path)
            check(path, current, expect)
        if current is None:
            return None
        if keep is not None:
            try:
                self.keep(current, keep)
            except ObjectNotFound as error:
                raise PreconditionFailed(f"{path} is gone.") from error
        return checks.matching(current.version)

    def keep(self, current: RemoteObject, keep: str) -> None:
        """Copy an object into the trash; `ObjectNotFound` when it is not there any more."""
        self.copied(current, self._key(f"{OWN_FOLDER}/trash/{keep}/{current.path}"))

    def copied(
        self,
        source: RemoteObject,
        target: str,
        replace: Metadata | None = None,
        condition: Condition = None,
    ) -> str:
        """Copy an object to a key and return the new version; without `replace` the metadata stays."""
        key, match = self._key(source.path), self._facts().source_form.of(source.version)
        if source.size <= self._limits.single_copy:
            return self._calls.copy(key, target, match=match, replace=replace, condition=condition)
        if replace is None:
            seen = self._calls.look(key)
            if seen is None:
                raise ObjectNotFound(f"There is no {source.path}.")
            replace = seen[1], seen[0].metadata
        headers, metadata = replace
        original = Original(key, source.size, match)
        return self._uploads.copy(original, target, (kept(headers), metadata), lambda: condition)


def check(path: str, current: RemoteObject | None, expect: Expect) -> None:
    """Raise `PreconditionFailed` unless a look agrees with what was expected."""
    if expect is None:
        return
    if current is None:
        raise PreconditionFailed(f"{path} is gone.")
    if isinstance(expect, Absent):
        raise PreconditionFailed(f"{path} already exists in the store.")
    if expect.version is not None:
        same = current.version == expect.version
    else:
        same = current.size == expect.size and _second(current) == _second(expect)
    if not same:
        raise PreconditionFailed(f"{path} has changed.")


def _second(found: RemoteObject) -> int | None:
    """Return when an object was modified, to the second: a listing may be finer than a HEAD."""
    return None if found.modified_ns is None else found.modified_ns // 10**9
