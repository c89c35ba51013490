"""The kinds of requests to a store, and the faults that each can meet."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.support.fake_s3 import Answer, Drop, Request, error

Step = Answer | Drop | Callable[[Answer], Answer]

S3 = ("list", "stat", "get", "put", "copy", "delete", "begin", "part", "complete")
PLATFORM = ("token", "list", "stat", "permit", "put", "address", "get", "delete", "begin")
"""`permit` requests the form of an upload, `address` the URL of a download."""
PLATFORM_PARTS = ("permit-part", "part", "complete")

_ROUTES = {
    "/auth/refresh": "token",
    "/data-store/list": "list",
    "/data-store/information": "stat",
    "/data-store/upload": "permit",
    "/data-store/download": "address",
    "/data-store/delete": "delete",
    "/data-store/upload/multipart": "begin",
    "/data-store/upload/multipart/part": "permit-part",
    "/data-store/upload/multipart/end": "complete",
}


def kind_of(request: Request) -> str:
    """Return the kind of a request; `""` for any other."""
    path = urlsplit(request.target).path
    if path.startswith("/api/"):
        return next((kind for route, kind in _ROUTES.items() if path.endswith(route)), "")
    if "/.craftsync/" in path and request.method in ("PUT", "DELETE") and "/trash/" not in path:
        return ""
    copies = any(name.lower() == "x-amz-copy-source" for name in request.headers)
    match request.method, not request.query.keys().isdisjoint(("uploadId", "upload")):
        case "PUT", True:
            return "part"
        case "POST", True:
            return "complete"
        case "PUT", False:
            return "copy" if copies else "put"
        case "POST", False:
            return "begin" if "uploads" in request.query else "put"
        case "GET", False:
            return "list" if "list-type" in request.query else "get"
        case "HEAD", False:
            return "stat"
        case "DELETE", False:
            return "delete"
    return ""


def _portal(answer: Answer) -> Answer:
    return Answer(
        200, b"<!doctype html><html>Log in, please</html>", (("Content-Type", "text/html"),)
    )


def _without_etag(answer: Answer) -> Answer:
    return answer._replace(
        headers=tuple(pair for pair in answer.headers if pair[0].lower() != "etag")
    )


def _other_etag(answer: Answer) -> Answer:
    return _without_etag(answer)._replace(
        headers=(*_without_etag(answer).headers, ("ETag", '"0123456789abcdef0123456789abcdef"'))
    )


def _flipped(answer: Answer) -> Answer:
    """Flip one bit in the middle of a body."""
    body = bytearray(answer.body)
    if body:
        body[len(body) // 2] ^= 1
    return answer._replace(body=bytes(body))


def _cut(part: float) -> Step:
    return lambda answer: answer._replace(
        cut=min(int(len(answer.body) * part), len(answer.body) - 1)
    )


def _instead(status: int, code: str, *headers: tuple[str, str]) -> dict[str, Step]:
    return {f"{status} {code}": error(status, code, *headers)}


FAULTS: dict[str, Step] = {
    **_instead(400, "RequestTimeout"),
    **_instead(400, "BadDigest"),
    **_instead(401, "Unauthorized"),
    **_instead(403, "AccessDenied"),
    **_instead(403, "ExpiredToken"),
    **_instead(403, "RequestTimeTooSkewed"),
    **_instead(404, "NoSuchKey"),
    **_instead(405, "MethodNotAllowed"),
    **_instead(408, "RequestTimeout"),
    **_instead(409, "OperationAborted"),
    **_instead(412, "PreconditionFailed"),
    **_instead(416, "InvalidRange"),
    **_instead(429, "TooManyRequests", ("Retry-After", "1")),
    **_instead(500, "InternalError"),
    **_instead(501, "NotImplemented"),
    **_instead(503, "SlowDown"),
    **_instead(507, "InsufficientStorage"),
    "301 to nowhere": Answer(301),
    "307 to another host": Answer(307, headers=(("Location", "http://127.0.0.1:9/"),)),
    "502 of a proxy": Answer(502, b"<html>Bad Gateway</html>", (("Content-Type", "text/html"),)),
    "hung up before": Drop(delivered=False),
    "reset before": Drop(delivered=False, reset=True),
    "hung up after": Drop(),
    "reset after": Drop(reset=True),
    "500 after": lambda answer: error(500, "InternalError"),
    "503 after": lambda answer: error(503, "SlowDown"),
    "a login page after": _portal,
    "an empty answer after": lambda answer: Answer(200),
    "no ETag": _without_etag,
    "another ETag": _other_etag,
    "a bit flipped": _flipped,
    "cut at once": _cut(0),
    "cut in the middle": _cut(0.5),
    "cut at the end": _cut(1),
}
"""Answers instead of the request, lost connections, and answers that are damaged after it was carried out."""

_OF_BODIES = re.compile("cut|a bit flipped")
_BODIES = {"list", "get", "begin", "complete", "token", "permit", "address", "permit-part", "stat"}


def applies(fault: str, kind: str, *, platform: bool) -> bool:
    """Return whether a kind of request can meet a fault.

    A flipped bit only counts in content: nothing else has a checksum.
    """
    if fault == "a bit flipped":
        return kind == "get"
    if _OF_BODIES.match(fault):
        return kind in _BODIES and (platform or kind != "stat")
    return "ETag" not in fault or kind in ("put", "get", "stat", "part", "complete")
