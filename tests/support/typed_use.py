"""What a type checker knows of the Python functions: `make lint` checks this file and nobody runs it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import craftsync
from craftsync.engine.report import PathIssue
from craftsync.migrate.options import MigrationReport

report = craftsync.push(
    "folder", Path("store"), max_delete="10%", exclude=["*.tmp"], progress=False
)
assert_type(report.issues, list[PathIssue])
assert_type(craftsync.migrate("dev", "prod", verify="full"), MigrationReport)
assert_type(craftsync.upload_folder("a", "dev", "b", allow_patterns="*.x"), craftsync.Report)
craftsync.push("folder", "dev", max_deletes=3)  # type: ignore[call-arg]
craftsync.push("folder", "dev", delete="no")  # type: ignore[arg-type]
_ = craftsync.puhs  # type: ignore[attr-defined]
