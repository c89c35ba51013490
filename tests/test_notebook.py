"""The notebook of the docs runs, and what it shows there is what it shows here."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
REMEDY = "run `make notebook` and read the difference"


@pytest.fixture
def runner() -> Any:
    """Load docs/notebook.py, which is a script."""
    spec = spec_from_file_location("notebook", DOCS / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebook_runs_against_serve_and_shows_what_is_kept(runner: Any, tmp_path: Path) -> None:
    import nbformat

    kept = nbformat.read(runner.NOTEBOOK, as_version=4)
    shown = runner.run(nbformat.read(runner.NOTEBOOK, as_version=4), tmp_path)
    assert (tmp_path / "prod/models/flats.npy").read_bytes().startswith(b"\x93NUMPY")
    assert nbformat.writes(shown) == nbformat.writes(kept), REMEDY
    assert runner.page_of(shown) == runner.PAGE.read_text("utf-8"), REMEDY
