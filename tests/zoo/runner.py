"""Runs the tests of one mutation against a copy of the package with that bug in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.zoo.mutation import PROJECT, Mutation, files_of_tests, module_of, sources_below

TIMEOUT_SECONDS = 300
"""A bug counts as killed, too, if its tests hang."""

_BESIDE = ("docs", "systemd", "benchmarks", "README.md", "CHANGELOG.md", "config.example.yaml")


class Result(NamedTuple):
    """The outcome of tests: names in `failed` and `passed`; `trouble` is why the tests could not run."""

    failed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    trouble: str = ""

    def noticed_by(self, test: str) -> bool:
        """Return whether a test failed with any of its parameters."""
        return _is_among(test, self.failed)


def _is_among(test: str, found: Iterable[str]) -> bool:
    return any(one == test or one.startswith(f"{test}[") for one in found)


class Copy:
    """A copy of the package and its tests in a temporary folder, where one mutation at a time is applied."""

    def __init__(self, top: Path) -> None:
        self.top = top.resolve()
        unwanted = shutil.ignore_patterns("__pycache__")
        for folder in ("craftsync", "tests"):
            shutil.copytree(PROJECT / folder, self.top / folder, ignore=unwanted)
        shutil.copy(PROJECT / "pyproject.toml", self.top)
        self._python = _interpreter(self.top)
        for name in _BESIDE:
            (self.top / name).symlink_to(PROJECT / name)
        self._sources = sources_below(self.top)
        self._files = files_of_tests(self.top)

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[str]:
        """Put a bug into the copy; yield the name of its module."""
        name, text = mutation.applied(self._sources)
        file = self.top / name
        self._write(file, text)
        try:
            yield module_of(name)
        finally:
            self._write(file, self._sources[name])

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text)
        # Python notices a change only by size and by time in seconds.
        Path(cache_from_source(str(file))).unlink(missing_ok=True)

    def run(self, tests: Iterable[str], module: str) -> Result:
        """Run tests in the copy; `module` is the one that must come from it."""
        results = self.top / "results.json"
        results.unlink(missing_ok=True)
        command = [
            *(str(self._python), "-m", "pytest", "-p", "tests.zoo.proof", "-p", "no:cacheprovider"),
            *(
                "-q",
                "--tb=no",
                "-o",
                "addopts=--strict-markers",
                *(f"{self._files[test.partition('[')[0]][0]}::{test}" for test in tests),
            ),
        ]
        environment = os.environ | {
            # Loading plugins that these tests do not use takes as long as the tests.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CRAFTSYNC_ZOO": json.dumps([str(self.top), module, str(results)]),
        }
        try:
            done = subprocess.run(
                command,
                cwd=self.top,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result(failed=tuple(tests))
        if done.returncode not in (0, 1) or not results.exists():
            return Result(trouble=(done.stdout + done.stderr).strip()[-600:])
        found = json.loads(results.read_text())
        failed, passed = (
            tuple(dict.fromkeys(node.partition("::")[2] for node in found[kind]))
            for kind in ("failed", "passed")
        )
        return Result(failed, passed)


def _interpreter(top: Path) -> Path:
    """Make a virtual environment like this one, but with the copy of craftsync, for all processes of the tests."""
    home = top / "environment"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    packages.mkdir(parents=True)
    (home / "bin").mkdir()
    python = home / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    (home / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    ours = sysconfig.get_path("purelib")
    (packages / "copy.pth").write_text(f"{top}\nimport site; site.addsitedir({ours!r})\n")
    for other in Path(sys.executable).parent.iterdir():
        if not (home / "bin" / other.name).is_symlink() and other.name != "craftsync":
            (home / "bin" / other.name).symlink_to(other)  # Servers that tests start, for instance.
    script = home / "bin" / "craftsync"
    script.write_text(f"#!{python}\nfrom craftsync.__main__ import main\n\nmain()\n")
    script.chmod(0o755)
    return python


@contextmanager
def copied() -> Iterator[Copy]:
    """Make a copy, and remove it afterwards."""
    with TemporaryDirectory(prefix="craftsync-zoo-") as top:
        yield Copy(Path(top))


def try_mutation(copy: Copy, mutation: Mutation) -> tuple[str, ...] | str:
    """Return the tests that did not notice the bug (none: it is killed), or why the tests could not run."""
    try:
        with copy.mutated(mutation) as module:
            result = copy.run(mutation.tests, module)
    except ValueError as error:
        return str(error)
    if result.trouble:
        return result.trouble
    return tuple(test for test in mutation.tests if not result.noticed_by(test))


def failing_without(copy: Copy, mutations: Iterable[Mutation]) -> Result:
    """Run the tests of these mutations without any bug: a test that fails then, or is skipped, proves nothing."""
    tests = dict.fromkeys(test for mutation in mutations for test in mutation.tests)
    result = copy.run(tests, "craftsync")
    unused = [test for test in tests if not _is_among(test, (*result.failed, *result.passed))]
    return result._replace(failed=(*result.failed, *unused))
