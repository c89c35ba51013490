"""Translates the errors of S3 servers and of the network into craftsync's own.

Only this module knows S3's error codes:
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ssl import SSLError
from typing import NamedTuple

from craftsync.errors import (
    ANOTHER_ANSWERS,
    ContentDamaged,
    CraftsyncError,
    ListingBroken,
    ObjectArchived,
    ObjectNotFound,
    PathRefused,
    PreconditionFailed,
    RequestDenied,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    UnknownHost,
)
from craftsync.net.hosts import NoSuchHost, NotConnected

_DENIED = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "InvalidToken": "the session token is not valid",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than 15 minutes",
    "AccessDenied": "the credentials do not allow it",
}
_ARCHIVED = {"InvalidObjectState", "ObjectNotInActiveTierError"}
"""The second is the code of a copy (AWS S3 API reference, "CopyObject")."""
_FULL = {
    *("EntityTooLarge", "QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull"),
    *("XMinioStorageQuotaExceeded", "InsufficientStorage"),
}
_TRANSIENT = {
    *("InternalError", "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable"),
    *("RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"),
    "TooManyRequests",
}
_DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest"}
_NOT_DONE = {429, 503}
"""Statuses of a request that was certainly not carried out. After another 5xx it may have been."""

_CODE = re.compile(r"<Code>\s*([^<]*?)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]*?)\s*</Message>")
_KEY = re.compile(r"<Key>([^<]*)</Key>")
_OF_SEVERAL = re.compile(r"<(Deleted|Error)>(.*?)</\1>", re.DOTALL)
_STATUSES = {"AccessDenied": 403, "SlowDown": 503, "PreconditionFailed": 412}
"""Statuses for the codes in the response to a delete of several objects, which has codes only.
After any other code the object may have been deleted."""
_REGION = re.compile(r"<Region>\s*([^<]*?)\s*</Region>")


class Refusal(NamedTuple):
    """The relevant part of an error response. `region` is the bucket's, if the server reports it."""

    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    region: str | None = None


class Conflict(StoreUnavailable):
    """This request was not carried out, because another one for the same key was under way."""


class BodyDamaged(StoreUnavailable):
    """The body that reached the server does not match the request's digest."""


class PartDamaged(BodyDamaged):
    """A damaged part reached the server, which keeps it. Some servers accept no replacement for a part."""


class ChecksumWanted(StoreError):
    """The server requires an MD5 of the body, as a bucket with object lock does."""


class UploadGone(StoreUnavailable):
    """The multipart upload no longer exists: it was completed or aborted, or has expired."""


class Unconfirmed(StoreUnavailable):
    """The response reports success, but lacks something that every S3 server includes."""


class NotSupported(StoreError):
    """The server does not support this kind of request."""


class PartsNotCopied(NotSupported):
    """The server cannot fill a part of an upload from an object."""


class RangeBeyond(StoreError):
    """The object ends before the requested range."""


def answer_of(status: int, text: str, *, retry_after: str | None = None) -> Refusal:
    """Parse an error body. If it is not an S3 error, code and message stay empty."""
    code, message, region = (_found(pattern, text) for pattern in (_CODE, _MESSAGE, _REGION))
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return Refusal(status, code, message, seconds, region or None)


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group(1).rstrip(".") if match else ""


def refused(answer: Refusal, location: str, key: str) -> CraftsyncError:
    """Return the error for an unsuccessful response."""
    where = f"{location} answered {answer.status}{' ' + answer.code if answer.code else ''}"
    if answer.code == "NoSuchBucket":
        return StoreMissing(
            f"The bucket of {location} does not exist.",
            remedy="Check the bucket's name, the endpoint and the region.",
        )
    if answer.status == 412 or answer.code == "PreconditionFailed":
        return PreconditionFailed(f"{key} in {location} is not what was expected.")
    if answer.code == "NoSuchUpload":
        return UploadGone(f"{where}: the upload of {key} is gone.", ambiguous=True)
    if answer.status == 409:
        return Conflict(f"{where}: {key} is being changed by others.", ambiguous=False)
    if answer.status == 404:
        return ObjectNotFound(f"There is no {key} in {location}.")
    if answer.status == 416:
        return RangeBeyond(f"{key} in {location} is shorter than expected.")
    if answer.code in _ARCHIVED:
        return ObjectArchived(
            f"{key} in {location} is archived and cannot be read.",
            remedy="Restore it there (RestoreObject) and run this again, or leave it out (--exclude).",
        )
    if answer.code == "KeyTooLongError":
        return PathRefused(f"{key} is too long for a key in {location}.")
    if answer.code in _FULL or answer.status == 507:
        return StoreFull(f"{where}: there is no room for {key}.")
    return _about_the_store(answer, where)


def no_s3_server(what: str) -> StoreMissing:
    """Return the error for a response that no S3 server sends; `what` names it, as "LOCATION answered 404"."""
    return StoreMissing(
        f"{what}: this may be no S3 server.",
        remedy="Check the endpoint (--endpoint-url, AWS_ENDPOINT_URL, the profile) and the bucket's name.",
    )


def _about_the_store(answer: Refusal, where: str) -> StoreError:
    if answer.code in _DAMAGED:
        return BodyDamaged(f"{where}.", remedy="Try again later.", ambiguous=True)
    if answer.status == 400 and "content-md5" in answer.message.lower():
        return ChecksumWanted(f"{where}: {answer.message}.")
    transient = answer.status in (408, 429) or answer.status >= 500
    if answer.code in _TRANSIENT or (transient and answer.status != 501):
        return StoreUnavailable(
            f"{where}.",
            remedy="Try again later.",
            ambiguous=answer.status not in _NOT_DONE,
            retry_after=answer.retry_after,
        )
    if answer.code == "InvalidStorageClass":
        return StoreError(
            f"{where}: there is no such storage class.", remedy="Give one that this server has."
        )
    if answer.status in (301, 307, 308) or answer.code == "AuthorizationHeaderMalformed":
        return _elsewhere(answer, where)
    if answer.code in _DENIED or answer.status in (401, 403):
        why = _DENIED.get(answer.code) or answer.message or "the credentials do not allow it"
        # The response to a HEAD has no body and so no code: it proves nothing about other keys.
        path_only = answer.code == "AccessDenied" or (answer.status, answer.code) == (403, "")
        kind = RequestDenied if path_only else StoreDenied
        return kind(f"{where}: {why.rstrip('.')}.", remedy=_rights(answer))
    other = NotSupported if answer.status == 501 else StoreError
    remedy = ANOTHER_ANSWERS if 300 <= answer.status < 400 else ""
    return other(f"{where}{': ' + answer.message if answer.message else ''}.", remedy=remedy)


def _rights(answer: Refusal) -> str:
    """Return the remedy for a denied request."""
    if answer.code == "RequestTimeTooSkewed":
        return "Set the clock of this machine, such as by timedatectl set-ntp true."
    if answer.code in ("", "AccessDenied"):
        return (
            "Check the credentials and their rights. "
            "If the bucket's requester pays, give --request-payer."
        )
    if answer.code in _DENIED:
        return "Check the credentials and their rights."
    return "Check the credentials, their rights, the endpoint and the profile's addressing_style."


def _elsewhere(answer: Refusal, where: str) -> StoreError:
    region = answer.region or "REGION"
    remedy = f"Give --region {region}, or set region in the environment or the AWS profile."
    return StoreError(f"{where}: the bucket belongs to another region or endpoint.", remedy=remedy)


def not_deleted(text: str, keys: Iterable[str], location: str) -> dict[str, CraftsyncError]:
    """Return the errors, by key, in the response to a delete of several objects.

    A key that the response does not name is `Unconfirmed`.
    """
    from html import unescape  # Its table of names takes a millisecond to load.

    failed: dict[str, CraftsyncError] = {
        key: unconfirmed(location, key, "deleting it") for key in keys
    }
    for kind, row in _OF_SEVERAL.findall(text):
        named, code = _KEY.search(row), _found(_CODE, row)
        key = unescape(named[1]) if named else ""
        if kind == "Deleted" or code == "NoSuchKey":
            failed.pop(key, None)
        elif key in failed:
            failed[key] = refused(answer_of(_STATUSES.get(code, 500), row), location, key)
    return failed


def unreachable(location: str, why: object, address: str, *, sent: bool) -> StoreUnavailable:
    """Return the error for a request without a response; `sent` if it may have reached `address`."""
    if isinstance(why, NoSuchHost):
        return UnknownHost(
            f"{location} cannot be reached: there is no host {why}.",
            remedy="Correct the endpoint (--endpoint-url, AWS_ENDPOINT_URL, the profile) or the region,"
            " or use a network that knows this name.",
            ambiguous=False,
        )
    remedy = f"Check the network and the endpoint, {address}."
    if "CERTIFICATE_VERIFY_FAILED" in str(why):
        remedy = "Set AWS_CA_BUNDLE to a file with the certificate of the store's authority."
    return StoreUnavailable(
        f"{location} could not be reached: {_words_of(why)}.",
        remedy=remedy,
        ambiguous=sent,
    )


def _words_of(why: object) -> str:
    """Return why there was no response, without the system's error number."""
    cause = why.args[0] if isinstance(why, NotConnected) and why.args else why
    if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, SSLError):
        return cause.strerror
    return str(why) or "the connection was closed"


def unconfirmed(location: str, key: str, what: str) -> Unconfirmed:
    """Return the error for a success without `what`, which every S3 server includes."""
    return Unconfirmed(
        f"{location} reported success for {key}, but without {what}: the answer may not come from"
        " the store.",
        remedy=ANOTHER_ANSWERS,
        ambiguous=True,
    )


def stored_otherwise(location: str, key: str) -> ContentDamaged:
    """Return the error for an object that was read back and differs from what was sent."""
    return ContentDamaged(
        f"{location} stored other bytes for {key} than were sent.",
        remedy="Check the network and the store: something changes data on its way.",
    )


def not_encrypted(location: str, asked: str) -> StoreError:
    """Return the error for an object that the server accepted without the requested encryption."""
    return StoreError(
        f"{location} does not encrypt with {asked}: its answer names no such encryption.",
        remedy="Leave --sse out for this server, or have the bucket encrypt by default.",
    )


def broken(location: str, why: str) -> ListingBroken:
    """Return the error for a listing that is not complete and so proves nothing."""
    remedy = ANOTHER_ANSWERS if "<html>" in why else "Try again later."
    return ListingBroken(f"The listing of {location} is broken: {why}.", remedy=remedy)
