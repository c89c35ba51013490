"""Translates the platform's error responses and network errors into craftsync's own.

Two servers respond: the platform with JSON, the storage behind the signed URLs with XML. No message
ever contains a signed URL or a token, because messages end up in logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from craftsync.errors import (
    CraftsyncError,
    ListingBroken,
    ObjectArchived,
    ObjectNotFound,
    PathError,
    PathRefused,
    PreconditionFailed,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    UnknownHost,
)
from craftsync.net.hosts import NoSuchHost, ProxyFailed

_FULL = {"EntityTooLarge", "QuotaExceeded", "StorageFull", "XMinioStorageFull"}
_EXPIRED = {"ExpiredToken", "RequestTimeTooSkewed", "RequestExpired"}
_ARCHIVED = {"InvalidObjectState", "ObjectNotInActiveTierError"}
_UNUSABLE = "ObjectUnusable"
"""The code that `serve` sends for an error that concerns this object alone."""
_TRANSIENT = {
    *("SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "Throttling"),
    *("TooManyRequests", "OperationAborted"),
}
_NOT_DONE = {401, 403, 425, 429, 503}
"""Statuses of a request that was certainly not carried out. After another failure it may have been."""

_GATEWAY = {502, 503, 504}
_CODE = re.compile(r"<Code>\s*([^<]*?)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]*?)\s*</Message>")
_LONGEST_MESSAGE = 300
SDK_TOKEN = "the SDK token"


class Answer(NamedTuple):
    """The relevant part of an error response.

    `structured`: it has the form of that server's errors, and is not, say, a proxy's web page.
    """

    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    structured: bool = False


class UrlExpired(StoreUnavailable):
    """The signed URL has expired; a new one helps."""


class InvalidResponse(StoreUnavailable):
    """The platform's API responded in a form that craftsync does not know."""


class UploadGone(StoreUnavailable):
    """The multipart upload no longer exists: it was completed, or has expired."""


class RangeBeyond(StoreError):
    """The object ends before the requested range."""


def platform_answer(status: int, headers: Mapping[str, str], content: Any) -> Answer:
    """Parse an error response of the platform; `content` is its body as JSON."""
    seconds = _seconds(headers.get("retry-after"))
    if not isinstance(content, dict):
        return Answer(status, retry_after=seconds)
    code, message = (_text(content.get(name)) for name in ("name", "message"))
    return Answer(status, code, message, seconds, structured=True)


def storage_answer(status: int, headers: Mapping[str, str], body: str) -> Answer:
    """Parse an error response of the storage behind a signed URL."""
    code, message = (_found(pattern, body) for pattern in (_CODE, _MESSAGE))
    seconds = _seconds(headers.get("retry-after"))
    return Answer(status, code, message, seconds, structured=bool(code))


def _text(value: object) -> str:
    """Return a value of a response as part of a sentence: short, and without a final full stop."""
    return " ".join(str(value).split())[:_LONGEST_MESSAGE].rstrip(".") if value else ""


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return _text(match.group(1)) if match else ""


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None


def refused(answer: Answer, location: str, path: str, *, token: str = SDK_TOKEN) -> CraftsyncError:
    """Return the error for an error response about one path; `token` is what messages call the token."""
    where = f"{location} answered {answer.status}{' ' + answer.code if answer.code else ''}"
    if answer.status == 412 or answer.code == "PreconditionFailed":
        return PreconditionFailed(f"{path} in {location} is not what was expected.")
    if answer.code == "NoSuchUpload":
        return UploadGone(f"{where}: the upload of {path} is gone.", ambiguous=True)
    if answer.code == "NoSuchBucket":
        return StoreMissing(f"{where}: the data store is gone.", remedy="Look at the platform.")
    if answer.status == 404 and answer.structured:
        return ObjectNotFound(f"There is no {path} in {location}.")
    if answer.status == 416:
        return RangeBeyond(f"{path} in {location} is shorter than expected.")
    if answer.code in _FULL or answer.status in (413, 507):
        return StoreFull(f"{where}: there is no room for {path}.")
    if answer.code == _UNUSABLE or answer.code in _ARCHIVED:
        why = answer.message or "it is archived"
        kind = ObjectArchived if answer.code in _ARCHIVED else PathError
        return kind(
            f"{where}: {path} cannot be read: {why}.",
            remedy="Make it readable there, or leave it out (--exclude).",
        )
    if answer.code in _EXPIRED or (answer.status == 403 and "expired" in answer.message.lower()):
        return UrlExpired(f"{where}: the signed URL for {path} has expired.", ambiguous=False)
    if answer.status in (400, 422) and answer.structured and answer.code not in _TRANSIENT:
        return PathRefused(f"{location} takes no {path!r}: {answer.message or answer.code}.")
    return about_the_store(answer, location, token=token)


def about_the_store(answer: Answer, location: str, *, token: str = SDK_TOKEN) -> StoreError:
    """Return the error for an error response, whatever the path."""
    where = f"{location} answered {answer.status}{' ' + answer.code if answer.code else ''}"
    if answer.code in _TRANSIENT or answer.status in (408, 425, 429) or answer.status >= 500:
        return _unavailable(answer, where)
    if answer.status in (401, 403):
        return StoreDenied(
            f"{where}: {answer.message or 'the token does not allow it'}.",
            remedy=f"Check {token} and its rights; a token that was regenerated makes the old one"
            " worthless. Inside an execution some functions are forbidden.",
        )
    if 300 <= answer.status < 400:
        return StoreError(
            f"{where}: it sends its callers elsewhere.",
            remedy="Write the environment's address as the platform shows it, with https://.",
        )
    if answer.status == 404:
        return StoreMissing(
            f"{where}: there is no data store at this address.",
            remedy="Check the environment's address, and that the environment still exists.",
        )
    return StoreError(f"{where}{': ' + answer.message if answer.message else ''}.")


def _unavailable(answer: Answer, where: str) -> StoreUnavailable:
    remedy = "Try again later."
    if answer.status in _GATEWAY:
        remedy = (
            "The environment may be in standby or restarting: resume it on the platform, or wait."
        )
    return StoreUnavailable(
        f"{where}{': ' + answer.message if answer.message else ''}.",
        remedy=remedy,
        ambiguous=answer.status not in _NOT_DONE,
        retry_after=answer.retry_after,
    )


def unreachable(
    location: str, error: BaseException, *, sent: bool, configured: bool = False
) -> StoreUnavailable:
    """Return the error for a request without a response; `sent` if it may have arrived.

    `configured`: the user wrote the host's name, which may be wrong. Only the kind of failure is
    reported, because the text of a library's exception may contain the signed URL.
    """
    if configured and isinstance(error, NoSuchHost):
        return UnknownHost(
            f"{location} cannot be reached: there is no host {error}.",
            remedy="Correct the environment's address (url, or CRAFT_AI_ENVIRONMENT_URL) or the"
            " control_url (CRAFT_AI_CONTROL_URL), or use a network that knows this name.",
            ambiguous=False,
        )
    why = str(error) if isinstance(error, ProxyFailed) else _kind(error)
    return StoreUnavailable(
        f"{location} could not be reached: {why}.",
        remedy="Check the network and the environment's address.",
        ambiguous=sent,
    )


_KINDS = (
    ("NameResolution", "its name could not be resolved"),
    ("gaierror", "its name could not be resolved"),
    ("ConnectTimeout", "no connection within the time"),
    ("NotConnectedTimeout", "no connection within the time"),
    ("Timeout", "no answer within the time"),
    ("SSL", "the certificate or the encryption was not accepted"),
    ("NewConnection", "the connection was refused"),
    ("NotConnected", "the connection was refused"),
    ("Proxy", "the proxy did not let it through"),
    ("IncompleteRead", "the answer ended early"),
    ("Chunked", "the answer ended early"),
)


def _kind(error: BaseException | None) -> str:
    """Return words for the first kind of failure in `_KINDS` that the chain of exceptions contains."""
    names: list[str] = []
    while error is not None and len(names) < 8:
        names.append(type(error).__name__ + "".join(type(arg).__name__ for arg in error.args))
        reason = getattr(error, "reason", None)
        names.append(type(reason).__name__)
        error = error.__cause__ or error.__context__
    text = " ".join(names)
    return next((words for mark, words in _KINDS if mark in text), "the connection was closed")


def not_exchanged(answer: Answer, control: str, location: str, *, token: str) -> StoreError:
    """Return the error for a refused token exchange; `location` is the environment."""
    if answer.status in (400, 401, 403, 422):
        return StoreDenied(
            f"{control} does not accept {token}, for {location}.",
            remedy="Copy the SDK token of your account from the platform again: one that was"
            " regenerated makes the old one worthless.",
        )
    if answer.status == 404:
        return StoreMissing(
            f"{control} exchanges no tokens.",
            remedy="Check control_url, or CRAFT_AI_CONTROL_URL.",
        )
    found = about_the_store(answer, control)
    if isinstance(found, StoreUnavailable):
        found.ambiguous = False
    return found


def another_form(location: str, what: str) -> InvalidResponse:
    """Return the error for a response of the platform's API in an unknown form."""
    return InvalidResponse(
        f"{location} sent an invalid {what}.",
        remedy="The platform may have changed its API: run `craftsync doctor`.",
        ambiguous=True,
    )


def unintelligible(location: str, what: str) -> StoreUnavailable:
    """Return the error for a success whose content is not what the request returns."""
    return StoreUnavailable(
        f"{location} sent an invalid {what}.",
        remedy="Is there a proxy or a login page in between? Otherwise run `craftsync doctor`.",
        ambiguous=True,
    )


def broken(location: str, why: str) -> ListingBroken:
    """Return the error for a listing that is not complete and so proves nothing."""
    return ListingBroken(
        f"The listing of {location} is broken: {why}.",
        remedy="Try again later. If it stays so, run `craftsync doctor`.",
    )


def not_as_sent(path: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{path} is not in the store as it was sent.",
        remedy="Another client may have written it, or the store lost bytes.",
        ambiguous=True,
    )
