"""Errors as HTTP answers.

The platform answers errors in JSON; an object store, behind the signed URLs, in
XML. The SDK reads both and fails on anything else.
"""

from __future__ import annotations

import errno
import math
import re
from secrets import token_hex
from xml.sax.saxutils import escape

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from craftsync.errors import (
    CraftsyncError,
    ObjectArchived,
    ObjectNotFound,
    PathBusy,
    PathError,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
    StoreChanged,
    StoreDenied,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)


class Refused(Exception):
    """An HTTP status, a name for programs, a sentence for people, and headers that go with it.

    It never leaves the room: `answers.py` makes an answer of it.
    """

    def __init__(
        self, status: int, name: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.headers = headers or {}


_ANSWERS: tuple[tuple[type[CraftsyncError], int, str], ...] = (
    (PathRefused, 400, "InvalidPath"),
    (StoreDenied, 403, "AccessDenied"),
    (ObjectNotFound, 404, "NoSuchKey"),
    (PathObstructed, 409, "PathObstructed"),
    (PreconditionFailed, 412, "PreconditionFailed"),
    (PathBusy, 503, "ServiceUnavailable"),
    (StoreUnavailable, 503, "ServiceUnavailable"),
    # A disk that is not mounted comes back; a 404 would say that the objects are gone.
    (StoreMissing, 503, "StoreMissing"),
    (StoreChanged, 503, "StoreChanged"),
    (StoreFull, 507, "InsufficientStorage"),
    (ObjectArchived, 403, "InvalidObjectState"),
    # What is left of them concerns one object, and stays so.
    (PathError, 409, "ObjectUnusable"),
)
"""For each error of craftsync the status, and a name for programs (that of S3 where it has one)."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0, section 2.2: what no document may hold, not even escaped."""

API = "/api/v1"


def refusal_of(error: Exception) -> Refused:
    """Return how a request that ended with this error is answered."""
    match error:
        case Refused():
            return error
        case CraftsyncError():
            return _of_craftsync(error)
        case HTTPException():
            return Refused(
                error.status_code, "NoSuchRoute", error.detail, dict(error.headers or {})
            )
        case OSError() if error.errno in _FULL:
            return Refused(
                507, "InsufficientStorage", f"The server's temporary folder: {error.strerror}."
            )
        case OSError():
            return Refused(503, "ServiceUnavailable", f"The server: {error.strerror}.", _soon(None))
        case _:
            return Refused(500, "InternalError", "The server failed. See its own output.")


def error_answer(request: Request, error: Exception) -> Response:
    """Word an error as the caller expects it: the platform's way for its API, S3's for an object."""
    refused = refusal_of(error)
    request_id = token_hex(8)
    if request.url.path.startswith(f"{API}/"):
        content = {
            "message": str(refused),
            "name": refused.name,
            "request_id": request_id,
            "additional_data": {},
        }
        return JSONResponse(content, refused.status, refused.headers)
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refused.name}</Code><Message>{_in_xml(str(refused))}</Message>"
        f"<RequestId>{request_id}</RequestId></Error>"
    )
    return Response(xml, refused.status, refused.headers, "application/xml")


def _of_craftsync(error: CraftsyncError) -> Refused:
    message = f"{error} {error.remedy}".strip()
    for kind, status, name in _ANSWERS:
        if isinstance(error, kind):
            wait = error.retry_after if isinstance(error, StoreUnavailable) else None
            return Refused(status, name, message, _soon(wait) if status == 503 else None)
    return Refused(500, "InternalError", message)


def _soon(seconds: float | None) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds or 0.0)))}


def _in_xml(text: str) -> str:
    return escape(_NOT_IN_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text))
