"""Every test here runs the installed program, away from the user's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Craftsync
from tests.support.memory import memory as memory
from tests.support.memory import tmp_path as tmp_path


@pytest.fixture
def craftsync(tmp_path: Path) -> Craftsync:
    return Craftsync(tmp_path)
