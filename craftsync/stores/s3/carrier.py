"""The bytes of ordinary objects, carried by obstore; the only file that knows it.

obstore (Apache Arrow's object_store, in Rust) moves small objects at a third
of the CPU of anything written in Python. It cannot express every key, and
strips slashes from some without a word: `can_carry` says which keys are safe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store as ObstoreBucket

from craftsync.blocking import blocking
from craftsync.clock import Clock
from craftsync.errors import CraftsyncError, PreconditionFailed, StoreMissing
from craftsync.stores.s3.errors import Conflict, from_obstore
from craftsync.stores.s3.objects import (
    CREATE,
    HEADERS,
    NO_HEADERS,
    STORAGE_CLASS,
    Condition,
    Found,
    Opened,
    version_of,
)
from craftsync.stores.s3.session import Session

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, GetResult, ObjectMeta, PutMode
    from obstore.store import ClientConfig, S3Credential

CHUNK = 1024 * 1024
LARGE_BODY = 256 * 1024
KEYS_LAST = timedelta(minutes=9)
"""boto3's keys are good for ten minutes more; obstore asks again when less than five are left."""

_ATTRIBUTES = {
    **{name: name.title() for name in HEADERS if name != "expires"},
    STORAGE_CLASS: "Storage-Class",
}
"""What obstore calls a header; every other name is metadata to it."""
_HEADERS = {attribute: name for name, attribute in _ATTRIBUTES.items()}

_NOT_CARRIED = re.compile(r"[\x00-\x1f\x7f]|//|(?:^|/)\.{1,2}(?:/|$)|^/|/$|^$")
_ERRORS = (BaseError, FileNotFoundError, ValueError)
"""obstore raises Python's own error for what is not there, and ValueError for a key it cannot parse."""


def can_carry(key: str) -> bool:
    """Tell whether obstore sends this very key, which a test checks for obstore 0.12."""
    return _NOT_CARRIED.search(key) is None


def can_send(headers: Mapping[str, str], metadata: Mapping[str, str]) -> bool:
    """Tell whether obstore knows these headers, and sends all values as they came; it encodes what is no ASCII anew."""
    values = (*headers.values(), *metadata.values())
    return headers.keys() <= _ATTRIBUTES.keys() and all(map(str.isascii, values))


class ObstoreCarrier:
    """Keeps `objects.Carrier` for the keys obstore can carry."""

    def __init__(self, session: Session, location: str, clock: Clock) -> None:
        self._location = location
        # A stalled connection is noticed within a minute. obstore counts the sending of a body
        # as one wait, so large bodies go through a client that gives the request time as a whole.
        self._quick = _bucket(session, clock, {"timeout": "1day", "read_timeout": "60s"})
        self._patient = _bucket(session, clock, {"timeout": "15min"})

    def put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        condition: Condition,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> str:
        bucket = self._patient if len(body) > LARGE_BODY else self._quick
        mode: PutMode = "overwrite"
        if condition is not None:
            mode = "create" if condition == CREATE else {"e_tag": f'"{condition}"'}
        attributes: Attributes = dict(metadata)
        attributes.update((_ATTRIBUTES[name], value) for name, value in headers.items())
        try:
            result = blocking(
                lambda: obstore.put(
                    bucket, key, body, attributes=attributes, mode=mode, use_multipart=False
                )
            )
        except (AlreadyExistsError, PreconditionError) as error:
            raise self._contradicted(error, key) from error
        except _ERRORS as error:
            raise from_obstore(error, self._location, key) from error
        return version_of(result["e_tag"]) or ""

    def head(self, key: str) -> Found | None:
        try:
            return _found(blocking(lambda: obstore.get(self._quick, key, options={"head": True})))
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise from_obstore(error, self._location, key) from error
            return None
        except _ERRORS as error:
            raise from_obstore(error, self._location, key) from error

    @contextmanager
    def get(
        self, key: str, version: str | None, offset: int, length: int | None
    ) -> Iterator[Opened]:
        options: GetOptions = {}
        if version is not None:
            options["if_match"] = f'"{version}"'
        if length is not None:
            options["range"] = (offset, offset + length)
        elif offset:
            options["range"] = {"offset": offset}
        try:
            result, body = blocking(lambda: self._got(key, options))
        except _ERRORS as error:
            raise from_obstore(error, self._location, key) from error
        start, stop = result.range
        chunks = self._chunks(result, key) if body is None else iter((body,))
        yield Opened(_found(result), start, stop - start, chunks)

    def _got(self, key: str, options: GetOptions) -> tuple[GetResult, memoryview | None]:
        """Return the head of an answer, and its body too if that is small: two waits in one."""
        result = obstore.get(self._quick, key, options=options)
        start, stop = result.range
        return result, memoryview(result.bytes()) if stop - start <= CHUNK else None

    def _chunks(self, result: GetResult, key: str) -> Iterator[memoryview]:
        try:
            stream = iter(result.stream(min_chunk_size=CHUNK))
            while (chunk := blocking(lambda: next(stream, None))) is not None:
                yield memoryview(chunk)
        except _ERRORS as error:
            raise from_obstore(error, self._location, key) from error

    def _contradicted(self, error: Exception, key: str) -> CraftsyncError:
        """Return what a refused condition means; obstore says the same of a passing conflict."""
        told = from_obstore(error, self._location, key)
        if isinstance(told, Conflict | StoreMissing):
            return told
        return PreconditionFailed(f"{key} in {self._location} is not what was expected.")


def _bucket(session: Session, clock: Clock, waits: ClientConfig) -> ObstoreBucket:
    options: ClientConfig = {
        **waits,
        "connect_timeout": "10s",
        "allow_http": session.url.startswith("http://"),
    }
    if session.ca_bundle:
        options["root_certificate"] = Path(session.ca_bundle).read_bytes()
    return ObstoreBucket(
        # The address holds the bucket already, in either style; this name only satisfies obstore.
        bucket="bucket",
        endpoint=session.url,
        aws_endpoint_url_s3=session.url,
        virtual_hosted_style_request=True,
        region=session.region,
        skip_signature=False,
        client_options=options,
        retry_config={"max_retries": 0},
        credential_provider=credential_provider(session, clock),
    )


def credential_provider(session: Session, clock: Clock) -> Callable[[], S3Credential]:
    """Return what obstore asks for keys: at once, and again before they have expired."""

    def credential() -> S3Credential:
        keys = session.keys()
        now = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC)
        return {
            "access_key_id": keys.access,
            "secret_access_key": keys.secret,
            "token": keys.token,
            "expires_at": now + KEYS_LAST if session.refreshable else None,
        }

    return credential


def _found(result: GetResult) -> Found:
    meta: ObjectMeta = result.meta
    modified_ns = int(meta["last_modified"].timestamp()) * 10**9
    metadata, headers = {}, {}
    for name, value in result.attributes.items():
        if name in _HEADERS:
            headers[_HEADERS[name]] = value
        else:
            metadata[name] = value
    return Found(meta["size"], modified_ns, version_of(meta["e_tag"]), metadata, headers)
