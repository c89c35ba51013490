"""Checks of an environment of the Craft AI platform, beside those of any store: does it speak as expected?"""

from __future__ import annotations

from collections.abc import Iterator

from craftsync.config.places import CraftAiLocation
from craftsync.doctor.findings import Check, Finding, Level
from craftsync.opening import access_to


def _contract(location: CraftAiLocation) -> Iterator[Finding]:
    """Tell what the start-up check finds. What has changed is no error: the fallback does the work."""
    from craftsync.stores.craftai.contract import check_contract

    for found in check_contract(access_to(location)):
        level = Level.OK if found.ok else Level.NOTE
        if not found.ok and found.remedy:
            level = Level.WARNING
        yield Finding(f"platform, {found.name}", level, found.detail, found.remedy)


CHECKS: tuple[Check[CraftAiLocation], ...] = (_contract,)
