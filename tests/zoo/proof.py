"""A pytest plugin: it checks that the tests import the changed copy, and writes their results to a file.

The runner sets `CRAFTSYNC_ZOO`: the folder that the package must come from, the
changed module, and the file for the results.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest

_TOP, _MODULE, _RESULTS = json.loads(os.environ["CRAFTSYNC_ZOO"])
_results: dict[str, list[str]] = {"failed": [], "passed": []}


def pytest_configure() -> None:
    """Raise unless the tests import the module from the temporary folder."""
    module = importlib.import_module(_MODULE)
    assert module.__file__ is not None
    if not Path(module.__file__).is_relative_to(_TOP):
        raise pytest.UsageError(f"{_MODULE} comes from {module.__file__}, not from {_TOP}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _results["failed"].append(report.nodeid)
    elif report.when == "call" and report.passed:
        _results["passed"].append(report.nodeid)


def pytest_sessionfinish() -> None:
    Path(_RESULTS).write_text(json.dumps(_results))
