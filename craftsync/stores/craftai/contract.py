"""Checks for `doctor` whether the platform's API still has the form that craftsync expects.

The API has changed about once a year. The checks are cheap and change nothing: the token, the first
page of the listing, one description, and the signed URLs of a download and an upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from craftsync.clock import Clock, SystemClock
from craftsync.core.model import OWN_FOLDER, RemoteObject
from craftsync.errors import CraftsyncError, StoreUnavailable, UsageError
from craftsync.stores.craftai.errors import InvalidResponse
from craftsync.stores.craftai.listing import InvalidDescription, is_same, page_of
from craftsync.stores.craftai.platform import Access, Platform

_REMEDY = (
    "Report this to craftsync. Until it knows the new form, install the extra sdk and put"
    " `transport: sdk` under this environment in the configuration; that is slower, see docs/stores.md."
)
_PROBE = f"{OWN_FOLDER}/probe"


@dataclass(frozen=True, slots=True)
class ContractFinding:
    """The result of one check. `ok` is `None` if the check was not possible, or for a mere remark."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def check_contract(access: Access, *, clock: Clock | None = None) -> Iterator[ContractFinding]:
    """Yield the findings of a few requests, up to the first that fails for good.

    Raises `UsageError` without a token.
    """
    with closing(Platform(access, access.location, clock or SystemClock())) as platform:
        seconds = _tried("token", platform.token.lifetime)
        if isinstance(seconds, ContractFinding):
            yield seconds
            return
        yield ContractFinding("token", True, f"exchanged; good for {seconds:.0f} s")
        page = _tried("listing", lambda: page_of(platform.list_page(None, None)))
        if isinstance(page, ContractFinding):
            yield page
            return
        objects = page.objects
        yield ContractFinding(
            "listing", True, f"{len(objects)} objects on the first page, exact sizes"
        )
        if objects:
            yield _description(platform, objects[0])
            yield _url("download", lambda: platform.download_url(objects[0].path))
        else:
            yield ContractFinding("description", None, "there is no object to describe")
        yield _url("upload", lambda: platform.upload_url(_PROBE))


def _description(platform: Platform, listed: RemoteObject) -> ContractFinding:
    """Check that a stat describes an object as the listing does."""
    found = _tried("description", lambda: platform.stat(listed.path))
    if isinstance(found, ContractFinding):
        return found
    if isinstance(found, RemoteObject) and not is_same(found, listed):
        return ContractFinding(
            "description",
            None,
            "a listing and a stat give different times or sizes",
            "The object may just have been written: run this again.",
        )
    return ContractFinding("description", True, "as in the listing")


def _url(name: str, ask: Callable[[], object]) -> ContractFinding:
    found = _tried(name, ask)
    return (
        found
        if isinstance(found, ContractFinding)
        else ContractFinding(name, True, "a signed URL is given out")
    )


def _tried(name: str, act: Callable[[], Any]) -> Any:
    """Return the result of `act`, or its failure as a finding."""
    try:
        return act()
    except (InvalidDescription, InvalidResponse) as error:
        return ContractFinding(name, False, f"an answer in another form: {error}", _REMEDY)
    except StoreUnavailable as error:
        return ContractFinding(name, None, str(error), error.remedy)
    except UsageError:
        raise
    except CraftsyncError as error:
        return ContractFinding(name, None, str(error), error.remedy)
