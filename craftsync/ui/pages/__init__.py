"""All pages and routes, each built by the module of its name."""

from __future__ import annotations

from fastapi import FastAPI

from craftsync.ui import transfer
from craftsync.ui.pages import browser, conflicts, overview, preview, review, runs, settings
from craftsync.ui.workspace import Workspace


def register(app: FastAPI, workspace: Workspace) -> None:
    browser.register(workspace)
    conflicts.register(workspace)
    overview.register(workspace)
    preview.register(workspace)
    review.register(workspace)
    runs.register(app, workspace)
    settings.register(workspace)
    transfer.register(app, workspace)
