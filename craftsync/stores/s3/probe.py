"""Probes what an S3 server really does, and returns it as `ProbedFacts`.

Many servers accept a condition and ignore it; others refuse a condition that is met, hide objects,
or list in an order of their own. So each condition is tried with a right and a wrong version, on
objects below `.craftsync/probe/`: about thirty-five small requests.

On a distant server a run waits for this before its first upload. So requests that do not depend on
each other are sent at once, in five steps:

1. Put the first object, alone: servers that make folders of keys fail when two writes race to make
   the same one. Begin the multipart uploads.
2. Put all other objects, copy, send the parts, read the first object.
3. List them; try all writes that expect no object, now that one exists.
4. Replace and delete listed objects: the wrong version at one object, the right one at another.
5. Complete a multipart upload on the right version. An upload takes one completion at a time, and
   this is its third.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import md5, sha256
from typing import Any, NamedTuple, Protocol, TypeVar

from craftsync.clock import Clock
from craftsync.core.model import OWN_FOLDER
from craftsync.errors import (
    ObjectRefused,
    PreconditionFailed,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from craftsync.stores.retrying import RetryBudget
from craftsync.stores.s3.credentials import BODY_SHA256, UNSIGNED
from craftsync.stores.s3.errors import (
    BodyDamaged,
    Unconfirmed,
    broken,
    no_s3_server,
    stored_otherwise,
)
from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.listing import BrokenPage, ascending, parse
from craftsync.stores.s3.objects import CREATE, Condition, Digests, Form, content_md5, notes
from craftsync.stores.s3.reading import content_of
from craftsync.stores.s3.requests import Calls
from craftsync.stores.sources import tidied, workers

T = TypeVar("T")

Try = Callable[[Condition], object]
"""Sends one request on a condition."""
CleanUp = Callable[[], object]
"""Removes the objects and uploads of the probe from the bucket."""


class Bucket(Protocol):
    """What the probe needs of a store: its requests, clock, location and prefix."""

    calls: Calls
    clock: Clock
    location: str
    """The store's name in messages."""
    root: str
    """The prefix of the store's keys."""


_BODY = b"craftsync"
_NOBODY = "0" * 32
"""A version that no object has."""

_THREADS = 24
"""More than there are tasks at once, because some wait for others."""
_REMOVALS = 4
"""Attempts to remove one of our objects. No later probe knows its name."""
_TIDY_SECONDS = 10.0
"""No removal starts later than this: if the store stops responding, each may take a minute.

None waits longer than this for a store that has not responded at all.
"""

_NAMES = ("p!", "p/x", "p\uff21", "p\U0001f600")
"""In the byte order of UTF-8. A server that walks folders, or sorts by UTF-16, lists them in another order."""
_DELETED, _NOT_DELETED, _NOT_REPLACED, _REPLACED = _NAMES
"""Their second use, once they are listed: the right version is tried at one object and the wrong
one at another, so both at once."""

_NEW, _COPY, _NOT_COPIED = "new", "copy", "copied-not"
_IN_PARTS, _COMPLETED, _DAMAGED = "in-parts", "completed", "damaged"
"""None starts with `p`, as those do whose order is probed."""

_FILE, _BELOW = "pq", "pq/x"
"""Two objects that cannot both exist in a store made of folders, or of which one then hides the other.

The first is put before all others, and is the one that is read and copied.
"""
_UPLOADS = (_IN_PARTS, _COMPLETED, _DAMAGED)
_OBJECTS = (_FILE, _BELOW, *_NAMES, _NEW, _IN_PARTS, _COMPLETED, _COPY, _NOT_COPIED)


def probe(store: Bucket, later: Callable[[CleanUp], object] | None = None) -> ProbedFacts:
    """Return the facts about a store's bucket; the most careful ones if it permits no writes.

    `later` is called with a function that removes the probe's objects; without it they are
    removed before this returns. If the store is unreachable, raises its error at once; after its
    first response, each request is retried. Leaves nothing behind, unless it is interrupted or
    the store stops responding.
    """
    probing = _Probe(store)
    tidy: CleanUp = probing.clean_up
    with tidied(lambda: tidy(), store), workers(_THREADS, "probe", store) as pool:
        facts = probing.facts(pool)
        if later is not None:  # After a failure, the cleanup comes first, and then the error.
            tidy = partial(later, probing.clean_up)
    return facts


class _MultipartFacts(NamedTuple):
    creates: bool = False
    digests: Digests = Digests.BOTH
    returns_final_version: bool = False


class _Upload(NamedTuple):
    """A multipart upload that was begun."""

    name: str
    id: str


class _Probe:
    def __init__(self, store: Bucket) -> None:
        self._calls = store.calls
        self._store = store
        self._folder = f"{store.root}{OWN_FOLDER}/probe/{uuid.uuid4().hex}/"
        operation = uuid.uuid4().hex
        self._notes = notes(md5(_BODY).digest() * 2, 1_234_567_890_123_456_789, operation)
        self._reached = Future[None]()
        """The result of the first request."""
        self._begun: set[_Upload] = set()
        """Multipart uploads that are not completed."""
        self._names: Sequence[str] = ()
        """Objects that may exist."""

    def facts(self, pool: ThreadPoolExecutor) -> ProbedFacts:
        self._submit = pool.submit
        try:
            return self._facts()
        except Exception:
            # Requests under way would otherwise create objects after the cleanup.
            pool.shutdown(cancel_futures=True)
            raise

    def _facts(self) -> ProbedFacts:
        versioning = self._submit(self._unless_refused, self._calls.versioning, False)
        begun = {name: self._submit(self._begin, name) for name in _UPLOADS}
        try:
            version = self._first()
        except StoreDenied:
            return ProbedFacts(keeps_versions=versioning.result())
        return self._tried(version, begun, versioning)

    def _first(self) -> str:
        """Put the first object and return its version, empty if the server returns none.

        Only this request is not retried here: the caller retries until the store responds. A
        success without an ETag may not come from the store, so the object must then exist.
        """
        self._calls.names_versions = True
        self._names = (_FILE,)
        try:
            version = self._put_first()
        except BaseException as error:
            if isinstance(error, StoreDenied) or not getattr(error, "ambiguous", True):
                self._names = ()
            self._reached.set_exception(error)
            raise
        self._names = _OBJECTS
        self._reached.set_result(None)
        return version

    def _put_first(self) -> str:
        try:
            return self._put(_FILE)
        except ObjectRefused as error:  # Every S3 server accepts this name.
            raise no_s3_server(f"{self._store.location} takes no object") from error
        except Unconfirmed:
            if content_of(self._calls, self._folder + _FILE) != _BODY:
                raise
            self._calls.names_versions = False
            return ""

    def _tried(
        self, version: str, begun: Mapping[str, Future[_Upload]], versioning: Future[bool]
    ) -> ProbedFacts:
        submit = self._submit
        puts = {name: submit(self._put_patiently, name) for name in (*_NAMES, _COMPLETED)}
        listing = submit(self._listed, [*puts.values(), submit(self._put_below)])
        completing = submit(self._completing, begun[_COMPLETED], puts[_COMPLETED])
        making = submit(self._unless_unable, partial(self._made_in_parts, begun), _MultipartFacts())
        copying, creating = submit(self._copying, version), submit(self._creating)
        metadata, reading = submit(self._keeps_metadata), submit(self._reading, version)
        # Replace only after the listing: rclone lists an object twice while it is replaced.
        listed = listing.result()
        hidden = [name for name in (_FILE, _BELOW) if self._folder + name not in listed]
        there = [submit(self._is_there, name) for name in hidden]
        replacing = submit(self._form_of_two, self._putting, _NOT_REPLACED, _REPLACED, puts)
        delete = self._form_of_two(self._deleting, _NOT_DELETED, _DELETED, puts)
        multipart, read = making.result(), reading.result()
        is_refused, complete = completing.result()
        return ProbedFacts(
            conditional_create=creating.result(),
            conditional_replace=replacing.result() is not Form.NONE,
            conditional_delete=delete is not Form.NONE,
            conditional_complete_create=multipart.creates and is_refused,
            conditional_complete_replace=complete is not Form.NONE,
            replace_form=replacing.result(),
            complete_form=complete,
            delete_form=delete,
            read_form=read or Form.QUOTED,
            **copying.result(),
            versions=self._calls.names_versions,
            md5_versions=version == md5(_BODY, usedforsecurity=False).hexdigest(),
            completed_versions=multipart.returns_final_version,
            part_digests=multipart.digests,
            metadata=metadata.result(),
            ranges=read is not None,
            keeps_versions=versioning.result(),
            sorted_listing=ascending(listed),
            folders=bool(hidden),
            hides_below=bool(hidden) and all(each.result() for each in there),
        )

    def _put(self, name: str, condition: Condition = None) -> str:
        return self._calls.put(self._folder + name, _BODY, self._notes, condition).version

    def _put_patiently(self, name: str) -> str:
        return self._patiently(partial(self._put, name))

    def _put_below(self) -> str:
        """Put an object below the first one, after that: in the other order rclone can remove neither."""
        with suppress(StoreError):
            return self._put_patiently(_BELOW)
        return ""

    def _listed(self, puts: Iterable[Future[str]]) -> list[str]:
        for put in puts:
            put.result()
        query = [("encoding-type", "url"), ("prefix", self._folder + "p")]
        keys, more = list[str](), query
        while more and len(keys) <= len(_OBJECTS):
            body = self._patiently(partial(self._calls.list_page, more))
            try:
                page = parse(body)
            except BrokenPage as error:
                raise broken(self._store.location, str(error)) from error
            keys += page.keys
            more = [*query, ("continuation-token", page.token)] if page.token and page.keys else []
        return keys

    def _is_there(self, name: str) -> bool:
        head = partial(self._calls.head, self._folder + name)
        return self._unless_refused(head, None) is not None

    def _creating(self) -> bool:
        """Return whether a write that expects no object succeeds where none exists, and fails where one does."""
        create = partial(self._put, _NEW, CREATE)
        return self._is_met(create) and self._is_unmet(create)

    def _begin(self, name: str) -> _Upload:
        begin = partial(self._calls.begin_upload, self._folder + name, self._notes, {})
        upload = _Upload(name, self._patiently(begin))
        self._begun.add(upload)
        return upload

    def _made_in_parts(self, begun: Mapping[str, Future[_Upload]]) -> _MultipartFacts:
        """Probe a multipart upload. Wrong digests go to another one: moto may answer 500 to two puts of a part."""
        upload, damaged = begun[_IN_PARTS].result(), begun[_DAMAGED].result()
        wrong = {BODY_SHA256: sha256().hexdigest(), **content_md5(md5(_BODY).digest())}
        refusing = self._submit(self._is_refused, partial(self._put_part_with, damaged, wrong))
        part = self._part(upload)
        digests = Digests.SHA256 if refusing.result() else self._checked_md5(upload, damaged)
        versions = list[str]()
        complete = partial(self._complete, upload, part)
        creates = self._is_met(lambda: versions.append(complete(CREATE)))
        is_final = creates and self._is_version(upload.name, versions[0])
        return _MultipartFacts(creates, digests, is_final)

    def _put_part_with(self, upload: _Upload, digests: Mapping[str, str]) -> None:
        self._calls.put_part(self._folder + upload.name, upload.id, 1, _BODY, digests)

    def _part(self, upload: _Upload) -> str:
        """Send the only part of an upload and return its version."""
        key = self._folder + upload.name
        return self._patiently(partial(self._calls.upload_part, key, upload.id, 1, _BODY))

    def _complete(self, upload: _Upload, part: str, condition: Condition) -> str:
        key = self._folder + upload.name
        version = self._calls.complete_upload(key, upload.id, {1: part}, condition)
        self._begun.discard(upload)
        return version

    def _is_version(self, name: str, version: str) -> bool:
        look = partial(self._calls.head, self._folder + name)
        found = self._unless_refused(look, None)
        return bool(version) and found is not None and found.version == version

    def _checked_md5(self, upload: _Upload, damaged: _Upload) -> Digests:
        """Return which digests to send with a part if the server does not check its SHA-256."""
        right, wrong = (
            {BODY_SHA256: UNSIGNED, **content_md5(md5(each).digest())} for each in (_BODY, b"")
        )
        accepting = self._submit(self._is_met, partial(self._put_part_with, upload, right))
        is_refused = self._is_refused(partial(self._put_part_with, damaged, wrong))
        return Digests.MD5 if accepting.result() and is_refused else Digests.BOTH

    def _completing(self, begun: Future[_Upload], target: Future[str]) -> tuple[bool, Form]:
        """Probe conditions of a completion: whether "no object" fails where one exists; the form of a version."""

        def tried() -> tuple[bool, Form]:
            upload = begun.result()
            complete = partial(self._complete, upload, self._part(upload))
            version = target.result()
            if not self._is_unmet(partial(complete, CREATE)):
                return False, Form.NONE
            return True, self._form(complete, version)

        return self._unless_unable(tried, (False, Form.NONE))

    def _unless_unable(self, act: Callable[[], T], otherwise: T) -> T:
        """Return the result, or `otherwise` if the server does not support multipart uploads."""
        try:
            return act()
        except Unconfirmed:
            # A server that answers an unknown request with 200 supports none either.
            return otherwise
        except StoreUnavailable:
            raise
        except StoreError:
            return otherwise

    def _keeps_metadata(self) -> bool:
        found = self._patiently(partial(self._calls.head, self._folder + _FILE))
        if found is not None and found.size != len(_BODY):
            raise stored_otherwise(self._store.location, self._folder + _FILE)
        return found is not None and found.metadata.items() >= self._notes.items()

    def _reading(self, version: str) -> Form | None:
        """Return the form of a version in the condition of a range; `None` if ranges do not work."""
        for form in Form:
            if self._unless_refused(partial(self._range_is_right, form.of(version)), False):
                return form
        return None

    def _range_is_right(self, match: str | None) -> bool:
        with self._calls.get(self._folder + _FILE, match, 2, 3) as opened:
            return opened.start == 2 and b"".join(opened.chunks) == _BODY[2:5]

    def _copying(self, version: str) -> dict[str, Any]:
        """Return the facts about copies: whether the server can copy, and checks target and source."""
        copy = partial(self._calls.copy, self._folder + _FILE)
        target, other, form = self._folder + _COPY, self._folder + _NOT_COPIED, Form.QUOTED
        creates = self._is_met(partial(copy, target, match=form.of(version), condition=CREATE))
        if not creates:
            for form in Form:
                if self._is_met(partial(copy, target, match=form.of(version))):
                    break
            else:
                return {}
            create = partial(copy, other, match=form.of(version), condition=CREATE)
            creates = form is not Form.QUOTED and self._is_met(create)
        refusing = self._submit(self._refuses_source, form)
        create = partial(copy, target, match=form.of(version), condition=CREATE)
        return {
            "server_side_copy": True,
            "conditional_copy": creates and self._is_unmet(create),
            "conditional_source": refusing.result(),
            "source_form": form,
        }

    def _refuses_source(self, form: Form) -> bool:
        """Return whether the server refuses a copy whose source has another version than expected."""
        match, target = form.of(_NOBODY), self._folder + _NOT_COPIED
        copy = partial(self._calls.copy, self._folder + _FILE, target, match=match)
        return match is not None and self._is_unmet(copy)

    def _putting(self, name: str) -> Try:
        return partial(self._put, name)

    def _deleting(self, name: str) -> Try:
        return partial(self._calls.delete, self._folder + name)

    def _form(self, act: Try, version: str) -> Form:
        """Return the form of a version in which the server refuses a wrong one and accepts the right one."""
        for form in (Form.QUOTED, Form.PLAIN) if version else ():
            if not self._is_unmet(partial(act, form.of(_NOBODY))):
                return Form.NONE
            if self._is_met(partial(act, form.of(version))):
                return form
        return Form.NONE

    def _form_of_two(
        self, act: Callable[[str], Try], other: str, name: str, puts: Mapping[str, Future[str]]
    ) -> Form:
        """As `_form`, but with both versions at once: the wrong one is tried at another object."""
        version = puts[name].result()
        for form in (Form.QUOTED, Form.PLAIN) if version else ():
            accepting = self._submit(self._is_met, partial(act(name), form.of(version)))
            is_refused = self._is_unmet(partial(act(other), form.of(_NOBODY)))
            is_accepted = accepting.result()
            if not is_refused:
                return Form.NONE
            if is_accepted:
                return form
        return Form.NONE

    def _is_met(self, act: Callable[[], object]) -> bool:
        """Return whether the server accepts a condition that is met."""

        def met() -> bool:
            act()
            return True

        return self._unless_refused(met, False)

    def _is_unmet(self, act: Callable[[], object]) -> bool:
        """Return whether the server refuses a condition that is not met."""

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
        """Return the result, or `otherwise` if the server refuses. Raises a transient failure."""
        try:
            return self._patiently(act)
        except StoreUnavailable:
            raise
        except StoreError:
            return otherwise

    def _patiently(self, act: Callable[[], T]) -> T:
        """Retry a request that was certainly not carried out. Repeating any other would prove nothing."""
        backoff = RetryBudget(self._store.clock)
        while True:
            try:
                return act()
            except StoreUnavailable as error:
                self._reached.result()  # Raises if the store was never reached: the caller retries.
                if error.ambiguous:
                    raise
                backoff.wait_after(error)

    def clean_up(self) -> None:
        """Remove all that may exist. Failures are ignored: the facts are known."""
        began, calls = self._store.clock.monotonic(), self._calls
        if not self._reached.done() or self._reached.exception() is not None:
            calls = calls.within(_TIDY_SECONDS)  # The store may never answer.
        for name, upload in self._begun:
            self._remove(partial(calls.abort_upload, self._folder + name, upload), began)
        keys = [self._folder + name for name in self._names]
        with suppress(StoreError):
            keys = list(calls.delete_many(keys)) if keys else []
        for key in keys:
            self._remove(partial(calls.delete, key), began)

    def _remove(self, act: Callable[[], object], began: float) -> None:
        """Remove one object or upload, with retries, because no caller retries; not after the deadline."""
        clock = self._store.clock
        if clock.monotonic() - began < _TIDY_SECONDS:
            with suppress(StoreError):
                RetryBudget(clock, None, _REMOVALS, _TIDY_SECONDS, began).retried(act)
