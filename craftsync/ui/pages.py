"""Every page and route there is; each is built by the module it is imported from."""

from __future__ import annotations

from fastapi import FastAPI

from craftsync.ui import browser, conflicts, overview, preview, review, transfer
from craftsync.ui.workspace import Workspace


def register(app: FastAPI, workspace: Workspace) -> None:
    """Register all pages."""
    browser.register(workspace)
    conflicts.register(workspace)
    overview.register(workspace)
    preview.register(workspace)
    review.register(workspace)
    transfer.register(app, workspace)
