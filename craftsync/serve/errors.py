"""Errors as HTTP responses.

The platform returns errors as JSON; an object store, behind the signed URLs, as
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
    """An error response: HTTP status, error name, message and headers.

    `error_answer` converts it; it never leaves this package.
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
    # A disk may be mounted again; a 404 would mean that the objects were deleted.
    (StoreMissing, 503, "StoreMissing"),
    (StoreChanged, 503, "StoreChanged"),
    (StoreFull, 507, "InsufficientStorage"),
    (ObjectArchived, 403, "InvalidObjectState"),
    # All other path errors concern one object, and are permanent.
    (PathError, 409, "ObjectUnusable"),
)
"""HTTP status and error name (S3's, if it has one) for each error of craftsync."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 forbids even when escaped (section 2.2)."""

API = "/api/v1"


def refusal_of(error: Exception) -> Refused:
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
            return Refused(500, "InternalError", "The server failed. See its log.")


def error_answer(request: Request, error: Exception) -> Response:
    """Return an error as the client expects it: JSON for the API, XML for an object."""
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
