"""Does the platform, and the SDK in between, still speak as craftsync expects?

The wire has changed about once a year, and craftsync uses a few private
functions of the SDK. What is checked here is cheap and changes nothing: the SDK
as it is installed, the token, the first page of the listing, one description.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from craftsync.clock import Clock, SystemClock
from craftsync.core.model import RemoteObject
from craftsync.errors import CraftsyncError, StoreUnavailable, UsageError
from craftsync.stores.craftai.access import Access
from craftsync.stores.craftai.calls import Calls
from craftsync.stores.craftai.listing import Page, page_of
from craftsync.stores.craftai.objects import NoDescription, is_same
from craftsync.stores.craftai.session import Session, open_sdk
from craftsync.stores.craftai.storage import Storage

OLDEST_TESTED, NEWEST_TESTED = (0, 70), (0, 74)
_REPORT = (
    "craftsync goes on with the SDK's public functions, which are slow; report this to craftsync."
)
_CALLS = ("_get", "_post", "_delete")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `ok` is `None` for what could not be told, and for what is only worth knowing."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def check_sdk(sdk: Any, version: str) -> list[Finding]:
    """Check the SDK as it is installed, without any request."""
    return [_version(version), _private_calls(sdk)]


def _version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if OLDEST_TESTED <= numbers <= NEWEST_TESTED:
        return Finding("SDK version", True, version)
    tested = "{}.{} to {}.{}".format(*OLDEST_TESTED, *NEWEST_TESTED)
    return Finding(
        "SDK version", None, f"{version}; craftsync is tested with {tested}", "Watch for warnings."
    )


def _private_calls(sdk: Any) -> Finding:
    missing = [name for name in _CALLS if not _takes(getattr(sdk, name, None), "timeout")]
    if not isinstance(getattr(sdk, "base_environment_api_url", None), str):
        missing.append("base_environment_api_url")
    if not hasattr(getattr(sdk, "_session", None), "headers"):
        missing.append("_session")
    if not callable(getattr(type(sdk), "_refresh_access_token", None)):
        missing.append("_refresh_access_token")
    if missing:
        return Finding("SDK inside", False, f"changed: {', '.join(missing)}", _REPORT)
    return Finding("SDK inside", True, "as expected")


def _takes(call: Any, name: str) -> bool:
    """Tell whether a call takes an argument of this name, or any."""
    if not callable(call):
        return False
    try:
        parameters = inspect.signature(call, follow_wrapped=False).parameters
    except ValueError:
        return False
    kinds = {parameter.kind for parameter in parameters.values()}
    return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def check_contract(access: Access, *, clock: Clock | None = None) -> list[Finding]:
    """Check all that is cheap, with a few requests. Raises `UsageError` without the SDK or a token.

    What could not be checked because something before it failed is left out.
    """
    sdk = open_sdk(access)
    findings = check_sdk(sdk, str(getattr(sdk, "_version", "unknown")))
    if all(finding.ok is not False for finding in findings):
        clock = clock or SystemClock()
        session = Session(access, access.location, clock)
        calls = Calls(session, Storage(access.location), access.location)
        try:
            findings.extend(check_platform(session, calls))
        finally:
            calls.close()
    return findings


def check_platform(session: Session, calls: Calls) -> Iterator[Finding]:
    """Check the platform's answers; yields what was found until something fails for good."""
    token = _tried("token", session.lifetime)
    if isinstance(token, Finding):
        yield token
        return
    yield Finding("token", True, f"exchanged; good for {token:.0f} s")
    page = _tried("listing", lambda: _first_page(calls))
    if isinstance(page, Finding):
        yield page
        return
    yield Finding("listing", True, f"{len(page.objects)} objects on the first page, exact sizes")
    yield _description(calls, page)


def _first_page(calls: Calls) -> Page:
    return page_of(calls.list_page(None, None))


def _description(calls: Calls, page: Page) -> Finding:
    """Check that a look and the listing describe an object alike."""
    if not page.objects:
        return Finding("description", None, "there is no object to describe")
    listed = page.objects[0]
    found = _tried("description", lambda: calls.look(listed.path))
    if isinstance(found, Finding):
        return found
    if isinstance(found, RemoteObject) and not is_same(found, listed):
        return Finding(
            "description",
            None,
            "a listing and a look tell different times or sizes",
            "The object may just have been written: run this again.",
        )
    return Finding("description", True, "as in the listing")


def _tried(name: str, act: Callable[[], Any]) -> Any:
    """Do something and return what it returns, or the finding its failure is."""
    try:
        return act()
    except NoDescription as error:
        return Finding(name, False, f"an answer in another form: {error}", _REPORT)
    except StoreUnavailable as error:
        return Finding(name, None, str(error), error.remedy)
    except UsageError:
        raise
    except CraftsyncError as error:
        return Finding(name, None, str(error), error.remedy)
