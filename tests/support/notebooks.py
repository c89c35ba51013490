"""Notebooks, executed by a real kernel. Jupyter is loaded by the tests that need it, not to collect all tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.cli import DEADLINE


def executed(
    cells: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Execute cells of code in a kernel of their own that works in a folder; return them with their outputs."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return list(execute(notebook, folder, environment)["cells"])


def execute(notebook: Any, folder: Path, environment: Mapping[str, str]) -> Any:
    """Execute a notebook in a kernel of its own that works in a folder; raises where a cell does."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=int(DEADLINE),
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env={**environment, "IPYTHONDIR": str(folder / ".ipython")})
