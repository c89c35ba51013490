"""A pytest plugin: proves that the changed copy is what is tested, and writes down what failed.

Given by the runner in `CRAFTSYNC_ZOO`: where the package must come from, the
module that is changed, and the file to write the results to.
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
    """Raise unless the module that the tests will see is the one below the temporary folder."""
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
