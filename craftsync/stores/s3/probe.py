"""Probes what a server really does, and keeps that as facts.

Many servers accept a condition and ignore it; others refuse one that is met, hide
objects, or list in their own order. So each condition is tried in both directions,
below `.craftsync/probe/`: about thirty small requests, at most nine in a row.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import partial
from hashlib import md5, sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from craftsync.core.model import OWN_FOLDER
from craftsync.errors import PreconditionFailed, StoreDenied, StoreError, StoreUnavailable
from craftsync.stores.base import Features
from craftsync.stores.retrying import RetryBudget
from craftsync.stores.s3.api import content_md5
from craftsync.stores.s3.credentials import BODY_SHA256, UNSIGNED
from craftsync.stores.s3.errors import BodyDamaged, Unconfirmed, broken, stored_otherwise
from craftsync.stores.s3.listing import BrokenPage, ascending, parse
from craftsync.stores.s3.objects import CREATE, Condition, Digests, Form, notes
from craftsync.stores.sources import tidied, workers

if TYPE_CHECKING:
    from craftsync.stores.s3.store import S3Store


@dataclass(frozen=True, slots=True)
class Checks:
    """Which conditions the server is known to check for one kind of write, and how it takes a version."""

    create: bool
    replace: bool
    form: Form = Form.QUOTED

    def matching(self, version: str | None) -> Condition:
        """Return the condition that an object of this version is in place, if the server checks that."""
        return self.form.of(version) if self.replace else None


@dataclass(frozen=True, slots=True)
class ProbedFacts:
    """Facts about one bucket on one server; the defaults are the most careful ones.

    A condition counts as checked only if the wrong one is refused and the right
    one accepted. Probe again now and then, and when the endpoint changes.
    """

    conditional_create: bool = False
    conditional_replace: bool = False
    conditional_delete: bool = False
    conditional_complete_create: bool = False
    """As `conditional_create`, for an upload in parts."""
    conditional_complete_replace: bool = False
    conditional_copy: bool = False
    """A copy that expects nothing in its place fails when something is there."""
    conditional_source: bool = False
    """A copy fails when its source is of another version."""
    replace_form: Form = Form.QUOTED
    complete_form: Form = Form.QUOTED
    delete_form: Form = Form.QUOTED
    source_form: Form = Form.QUOTED
    """For the source of a copy; unlike the ones above it is used unprobed as well."""
    read_form: Form = Form.QUOTED
    server_side_copy: bool = False
    versions: bool = True
    """Without it no answer has an ETag: what was written is proven by a stat."""
    md5_versions: bool = False
    completed_versions: bool = False
    """The version that a completed upload is answered with is the one its object then has."""
    part_digests: Digests = Digests.BOTH
    metadata: bool = False
    ranges: bool = True
    keeps_versions: bool = False
    sorted_listing: bool = True
    folders: bool = False
    hides_below: bool = False
    """It takes an object below another one, and lists it no more (old versions of MinIO)."""

    def features(self) -> Features:
        """Return the part of the facts that every store states."""
        shared = {field.name for field in fields(Features)} & {field.name for field in fields(self)}
        return Features(**{name: getattr(self, name) for name in shared})

    def put_checks(self) -> Checks:
        return Checks(self.conditional_create, self.conditional_replace, self.replace_form)

    def completion_checks(self) -> Checks:
        return Checks(
            self.conditional_complete_create, self.conditional_complete_replace, self.complete_form
        )

    def delete_checks(self) -> Checks:
        return Checks(create=False, replace=self.conditional_delete, form=self.delete_form)

    def copy_checks(self) -> Checks:
        return Checks(self.conditional_copy, replace=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProbedFacts | None:
        """Read what `to_json` wrote; `None` for the facts of another version of craftsync."""
        try:
            stored = json.loads(text)
            names = {field.name for field in fields(cls)}
            if not isinstance(stored, dict) or stored.keys() | _ADDED != names:
                return None
            values: dict[str, Any] = {
                name: _WORDS[name](value) if name in _WORDS else bool(value)
                for name, value in stored.items()
            }
        except ValueError:
            return None
        return cls(**values)


_WORDS: Mapping[str, type[StrEnum]] = {
    "part_digests": Digests,
    **{field.name: Form for field in fields(ProbedFacts) if field.name.endswith("_form")},
}
"""The facts that are more than yes or no."""

_ADDED = {"completed_versions"}
"""What earlier versions did not try out: the most careful is taken until it is."""

T = TypeVar("T")

Try = Callable[[Condition], object]
"""Sends one request on a condition."""
_PutPart = Callable[[Mapping[str, str]], object]
"""Sends a part with these headers."""

_BODY = b"craftsync"
_NOBODY = "0" * 32
"""A version no object has."""

_REMOVALS = 4
"""Attempts to remove something of ours; no later probe knows its name."""

_NAMES = ("p!", "p/x", "p\uff21", "p\U0001f600")
"""In the byte order of UTF-8. A server that walks folders, or sorts by UTF-16, lists them otherwise."""
_DELETED, _COMPLETED, _CREATED, _REPLACED = _NAMES
"""What else each of them is for: so the conditions of different requests are tried at once."""

_IN_PARTS = "in-parts"
_OBJECTS = ("object-new", "copy", "copy-new", _IN_PARTS)
"""None begins with the `p` of those whose order is tried."""

_FILE, _BELOW = "pq", "pq/x"
"""Two objects that cannot be together where a store is made of folders, or where one then hides the other.

The first is put before all others, read and copied.
"""


def probe(store: S3Store) -> ProbedFacts:
    """Return the facts about a store's bucket; where nothing may be written, the most careful ones.

    Raises what the store raises when it cannot be reached at all; once it has
    answered, each later request is tried again for itself. Leaves nothing
    behind, unless it is interrupted.
    """
    with workers(8, "probe", store) as pool:
        return _Probe(store, pool).facts()


def gives_md5_etags(store: S3Store) -> bool:
    """Try once more whether ETags are MD5s; what cannot be tried, or is not stored as sent, is believed as before."""
    key = f"{store.root}{OWN_FOLDER}/probe/{uuid.uuid4().hex}"
    try:
        stored = store.calls.put(key, _BODY, {}, None)
    except StoreError:
        return True
    is_damaged = False
    with suppress(StoreError):
        is_damaged = _content_of(store, key) != _BODY
    with suppress(StoreError):
        store.calls.delete(key)
    return is_damaged or not stored.disagrees


def _content_of(store: S3Store, key: str) -> bytes:
    with store.calls.get(key, None, 0, None) as opened:
        return b"".join(opened.chunks)


class _MultipartFacts(NamedTuple):
    creates: bool = False
    digests: Digests = Digests.BOTH
    returns_final_version: bool = False


class _Probe:
    def __init__(self, store: S3Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._calls = store.calls
        self._location = store.location
        self._clock = store.clock
        self._pool = pool
        self._folder = f"{store.root}{OWN_FOLDER}/probe/{uuid.uuid4().hex}/"
        self._operation = uuid.uuid4().hex
        self._notes = notes(md5(_BODY).digest() * 2, 1_234_567_890_123_456_789, self._operation)

    def facts(self) -> ProbedFacts:
        with tidied(self._clean_up, self._store):
            try:
                version = self._first()
            except StoreDenied:
                return ProbedFacts(keeps_versions=self._versioning())
            return self._tried(version)

    def _first(self) -> str:
        """Put the first object and return its version, empty if the server returns none.

        Only this request is not retried: the caller waits for the store. A success
        without an ETag may come from anybody: the object must be there.
        """
        self._calls.names_versions = True
        try:
            return self._put(_FILE)
        except Unconfirmed:
            if _content_of(self._store, self._folder + _FILE) != _BODY:
                raise
            self._calls.names_versions = False
            return ""

    def _tried(self, version: str) -> ProbedFacts:
        # Puts first: tasks below wait for them, and must not fill the queue before them.
        submit = self._pool.submit
        names = {name: submit(self._patiently, partial(self._put, name)) for name in _NAMES}
        listing = submit(self._listed, [*names.values(), submit(self._put_below)])
        completing = submit(self._completing, names[_COMPLETED], listing)
        making, copying = submit(self._multipart), submit(self._copying, version)
        metadata, reading = submit(self._keeps_metadata), submit(self._reading, version)
        versioning, listed = submit(self._versioning), listing.result()
        # Not before: while an object is replaced, rclone lists it twice.
        replacing = submit(self._replacing, names[_REPLACED].result())
        creating = submit(self._creating)
        delete = self._form(self._deleting(_DELETED), names[_DELETED].result())
        hidden = [name for name in (_FILE, _BELOW) if self._folder + name not in listed]
        multipart = making.result()
        is_refused, complete = completing.result()
        ranges, read = reading.result()
        return ProbedFacts(
            conditional_create=creating.result(),
            conditional_replace=replacing.result() is not Form.NONE,
            conditional_delete=delete is not Form.NONE,
            conditional_complete_create=multipart.creates and is_refused,
            conditional_complete_replace=complete is not Form.NONE,
            replace_form=replacing.result(),
            complete_form=complete,
            delete_form=delete,
            read_form=read,
            **copying.result(),
            versions=self._calls.names_versions,
            md5_versions=version == md5(_BODY, usedforsecurity=False).hexdigest(),
            completed_versions=multipart.returns_final_version,
            part_digests=multipart.digests,
            metadata=metadata.result(),
            ranges=ranges,
            keeps_versions=versioning.result(),
            sorted_listing=ascending(listed),
            folders=bool(hidden),
            hides_below=bool(hidden) and all(map(self._is_there, hidden)),
        )

    def _versioning(self) -> bool:
        return self._unless_refused(self._calls.versioning, False)

    def _put(self, name: str, condition: Condition = None) -> str:
        return self._calls.put(self._folder + name, _BODY, self._notes, condition).version

    def _put_below(self) -> str:
        """Put an object below the first one, after it: rclone, asked for it the other way round, cannot remove either."""
        with suppress(StoreError):
            return self._patiently(partial(self._put, _BELOW))
        return ""

    def _listed(self, puts: Iterable[Future[str]]) -> list[str]:
        for put in puts:
            put.result()
        query = [("encoding-type", "url"), ("prefix", self._folder + "p")]
        page = self._patiently(partial(self._calls.list_page, query))
        try:
            return parse(page).keys
        except BrokenPage as error:
            raise broken(self._location, str(error)) from error

    def _is_there(self, name: str) -> bool:
        head = partial(self._calls.head, self._folder + name)
        return self._unless_refused(head, None) is not None

    def _replacing(self, version: str) -> Form:
        return self._form(partial(self._put, _REPLACED), version)

    def _creating(self) -> bool:
        """Return whether a write that expects no object is refused where one is, and accepted where none is."""
        return self._is_unmet(partial(self._put, _CREATED, CREATE)) and self._is_met(
            partial(self._put, "object-new", CREATE)
        )

    def _multipart(self) -> _MultipartFacts:
        def tried(complete: Try, put: _PutPart) -> _MultipartFacts:
            digests, versions = self._checked_digests(put), list[object]()
            creates = self._is_met(lambda: versions.append(complete(CREATE)))
            is_final = creates and self._is_version(_IN_PARTS, versions[0])
            return _MultipartFacts(creates, digests, is_final)

        return self._uploaded(_IN_PARTS, tried, _MultipartFacts())

    def _is_version(self, name: str, version: object) -> bool:
        look = partial(self._calls.head, self._folder + name)
        found = self._unless_refused(look, None)
        return bool(version) and found is not None and found.version == version

    def _checked_digests(self, put: _PutPart) -> Digests:
        """Return the digest with which alone a wrong part is refused and the right one accepted."""
        right, wrong = (content_md5(md5(each).digest()) for each in (_BODY, b""))
        if self._is_refused(partial(put, {BODY_SHA256: sha256().hexdigest(), **right})):
            return Digests.SHA256
        unsigned = {BODY_SHA256: UNSIGNED}
        checks_md5 = self._is_refused(partial(put, unsigned | wrong))
        checks_md5 = checks_md5 and self._is_met(partial(put, unsigned | right))
        return Digests.MD5 if checks_md5 else Digests.BOTH

    def _completing(self, put: Future[str], listing: Future[list[str]]) -> tuple[bool, Form]:
        """Return whether an upload in parts that expects no object is refused where one is, and its form of a version."""

        def tried(complete: Try, _: _PutPart) -> tuple[bool, Form]:
            listing.result()
            version = put.result()
            if not self._is_unmet(partial(complete, CREATE)):
                return False, Form.NONE
            return True, self._form(complete, version)

        return self._uploaded(_COMPLETED, tried, (False, Form.NONE))

    def _uploaded(self, name: str, tried: Callable[[Try, _PutPart], T], otherwise: T) -> T:
        """Begin an upload of one part and return the result of `tried`, `otherwise` if the server has none.

        `tried` gets a call that completes the upload, and one that sends the part again with other headers.
        """
        key, begun, completed = self._folder + name, "", False

        def complete(condition: Condition) -> str:
            nonlocal completed
            version = self._calls.complete_upload(key, begun, {1: part}, condition)
            completed = True
            return version

        try:
            begun = self._patiently(partial(self._calls.begin_upload, key, self._notes, {}))
            part = self._patiently(partial(self._calls.upload_part, key, begun, 1, _BODY))
            return tried(complete, partial(self._calls.put_part, key, begun, 1, _BODY))
        except Unconfirmed:
            # What answers requests it does not know with 200 makes no uploads in parts.
            return otherwise
        except StoreUnavailable:
            raise
        except StoreError:
            return otherwise
        finally:
            if begun and not completed:
                self._remove(partial(self._calls.abort_upload, key, begun))

    def _keeps_metadata(self) -> bool:
        found = self._patiently(partial(self._calls.head, self._folder + _FILE))
        if found is not None and found.size != len(_BODY):
            raise stored_otherwise(self._location, self._folder + _FILE)
        return found is not None and found.metadata.items() >= self._notes.items()

    def _reading(self, version: str) -> tuple[bool, Form]:
        """Return whether ranges are served, and the form of a version in their condition."""
        for form in Form:
            if self._unless_refused(partial(self._range_is_right, form.of(version)), False):
                return True, form
        return False, Form.QUOTED

    def _range_is_right(self, match: str | None) -> bool:
        with self._calls.get(self._folder + _FILE, match, 2, 3) as opened:
            return opened.start == 2 and b"".join(opened.chunks) == _BODY[2:5]

    def _copying(self, version: str) -> dict[str, Any]:
        """Return the facts about copies: whether the server makes any, and checks target and source."""
        copy = partial(self._calls.copy, self._folder + _FILE)
        target, new = self._folder + "copy", self._folder + "copy-new"
        for form in Form:
            match = form.of(version)
            if self._is_met(partial(copy, target, match=match)):
                break
        else:
            return {}
        create = self._is_unmet(partial(copy, target, match=match, condition=CREATE))
        create = create and self._is_met(partial(copy, new, match=match, condition=CREATE))
        other = form.of(_NOBODY)
        source = other is not None and self._is_unmet(partial(copy, target, match=other))
        return {
            "server_side_copy": True,
            "conditional_copy": create,
            "conditional_source": source,
            "source_form": form,
        }

    def _deleting(self, name: str) -> Try:
        return partial(self._calls.delete, self._folder + name)

    def _form(self, act: Try, version: str) -> Form:
        """Return how the server takes a version: so that another one is refused and this one is accepted."""
        for form in (Form.QUOTED, Form.PLAIN) if version else ():
            if not self._is_unmet(partial(act, form.of(_NOBODY))):
                return Form.NONE
            if self._is_met(partial(act, form.of(version))):
                return form
        return Form.NONE

    def _is_met(self, act: Callable[[], object]) -> bool:
        """Return whether the server accepts a condition that is met."""

        def met() -> bool:
            act()
            return True

        return self._unless_refused(met, False)

    def _is_unmet(self, act: Callable[[], object]) -> bool:
        """Return whether the server finds the condition unmet, as it should."""

        def unmet() -> bool:
            try:
                act()
            except PreconditionFailed:
                return True
            return False

        return self._unless_refused(unmet, False)

    def _is_refused(self, act: Callable[[], object]) -> bool:
        """Return whether the server refuses a body that does not match its digest."""

        def refused() -> bool:
            try:
                act()
            except BodyDamaged:
                return True
            return False

        return self._unless_refused(refused, True)

    def _unless_refused(self, act: Callable[[], T], otherwise: T) -> T:
        """Return the result, `otherwise` if the server refuses; a temporary failure proves nothing and is raised."""
        try:
            return self._patiently(act)
        except StoreUnavailable:
            raise
        except StoreError:
            return otherwise

    def _patiently(self, act: Callable[[], T]) -> T:
        """Retry what was certainly not carried out; a second try of anything else would prove something else."""
        backoff = RetryBudget(self._clock)
        while True:
            try:
                return act()
            except StoreUnavailable as error:
                if error.ambiguous:
                    raise
                backoff.wait_after(error)

    def _clean_up(self) -> None:
        """Remove all objects. Failures are ignored: the facts are known."""
        # Requests still under way after a failure would put objects after the removal.
        self._pool.shutdown(cancel_futures=True)
        names = (*_OBJECTS, _FILE, _BELOW, *_NAMES)
        keys = [self._folder + name for name in names]
        try:
            self._calls.delete_many(keys)
        except StoreError:
            for key in keys:
                self._remove(partial(self._calls.delete, key))

    def _remove(self, act: Callable[[], object]) -> None:
        """Remove one thing, with retries: no caller would try again."""
        for _ in range(_REMOVALS):
            try:
                act()
            except StoreUnavailable:
                continue
            except StoreError:
                return
            return
