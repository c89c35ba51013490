"""Everything that may go wrong with one request: switches for `FaultyPlatform.inject`.

A fault is given the request and a function that carries it out; it may carry
it out and spoil the answer, or spoil it instead. `None` hangs up.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.platform.wire import Answer, Gate, Request

Proceed = Callable[[], Answer | None]
Fault = Callable[[Request, Proceed], Answer | None]

XML = (("Content-Type", "application/xml"),)
JSON = (("Content-Type", "application/json; charset=utf-8"),)
HTML = (("Content-Type", "text/html"),)

_XHTML = (
    b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">'
    b"<head><title>502 Bad Gateway</title></head><body><p>nginx</p></body></html>"
)
_PORTAL = b"<!doctype html><html><body>Please log in to the hotel's network</body></html>"


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), JSON)


def refusal(status: int, message: str, name: str = "") -> Answer:
    """Return an error in the platform's own words."""
    error = {"message": message, "name": name or None, "request_id": "NO_REQUEST_ID"}
    return json_answer({**error, "additional_data": None}, status)


def xml_refusal(status: int, code: str, message: str = "as injected") -> Answer:
    """Return an error in the words of an object store."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode(), XML)


def status(code: int, *, retry_after: int | None = None) -> Fault:
    """Answer with an error instead, in the words of whoever was asked."""
    wait = () if retry_after is None else (("Retry-After", str(retry_after)),)

    def fault(request: Request, proceed: Proceed) -> Answer:
        if request.endpoint in STORAGE:
            answer = xml_refusal(code, "SlowDown" if code in (429, 503) else "InternalError")
        else:
            answer = refusal(code, f"injected {code}")
        return answer._replace(headers=(*answer.headers, *wait))

    return fault


def answering(answer: Answer) -> Fault:
    """Answer with this instead."""
    return lambda request, proceed: answer


def changed(change: Callable[[Answer], Answer]) -> Fault:
    """Carry it out and change the answer."""

    def fault(request: Request, proceed: Proceed) -> Answer | None:
        answer = proceed()
        return answer and change(answer)

    return fault


def before(act: Callable[[], object]) -> Fault:
    """Let something happen first; the request itself is carried out well."""

    def fault(request: Request, proceed: Proceed) -> Answer | None:
        act()
        return proceed()

    return fault


def after(act: Callable[[], object]) -> Fault:
    """Carry it out, and let something happen before the answer is sent."""

    def fault(request: Request, proceed: Proceed) -> Answer | None:
        answer = proceed()
        act()
        return answer

    return fault


def hanging(gate: Gate) -> Fault:
    """Never answer."""

    def fault(request: Request, proceed: Proceed) -> Answer | None:
        gate.wait()
        return None

    return fault


def answer_lost(request: Request, proceed: Proceed) -> Answer | None:
    """Carry it out and hang up."""
    proceed()
    return None


def connection_lost(request: Request, proceed: Proceed) -> Answer | None:
    """Hang up and do nothing."""
    return None


def part_of_the_list(token: object) -> Fault:
    """Let a page of a listing end with this continuation token, `...` for that of this very page."""

    def fault(request: Request, proceed: Proceed) -> Answer | None:
        answer = proceed()
        assert answer is not None
        page = json.loads(answer.body)
        page["continuation_token"] = (
            request.query.get("continuation_token", "0") if token is ... else token
        )
        return json_answer(page)

    return fault


short_body = changed(lambda answer: answer._replace(cut=len(answer.body) // 2))
slow_loris = changed(lambda answer: answer._replace(drip=True))
expired_url = answering(xml_refusal(403, "AccessDenied", "Request has expired"))
xhtml_502 = answering(Answer(502, _XHTML, HTML))
html_200 = answering(Answer(200, _PORTAL, HTML))
xml_without_message = answering(
    Answer(503, b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>", XML)
)
json_array_error = answering(json_answer(["something", "went wrong"], 500))
empty_token = part_of_the_list("")
null_token = part_of_the_list(None)
repeated_token = part_of_the_list(...)

STORAGE = frozenset({"form", "part", "get", "unsigned"})
"""The endpoints of the object store behind the platform."""
