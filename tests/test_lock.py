"""The lock agrees with pyproject.toml: what is asked for is pinned, what is pinned is asked for, each with hashes."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

TOP = Path(__file__).parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
REFRESH = "run `make lock`"


class Pin(NamedTuple):
    requirement: Requirement
    hashes: int
    via: frozenset[str]


def pins_of(text: str) -> list[Pin]:
    """Return the pins of a lock, each with its number of hashes and the names that ask for it."""
    found = []
    for block in re.split(r"^(?=[\w])", text, flags=re.M)[1:]:
        wanted = Requirement(block.partition("\\")[0].strip())
        via = block.partition("# via")[2].replace("#", " ").split()
        found.append(Pin(wanted, block.count("--hash=sha256:"), frozenset(via)))
    return found


def asked_for(extra: str | None = None) -> list[Requirement]:
    """Return what the project itself, or one of its extras, asks for, with the extras it names."""
    rows = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = []
    for wanted in map(Requirement, rows):
        if wanted.name == PROJECT["name"]:
            found += [one for name in wanted.extras for one in asked_for(name)]
        else:
            found.append(wanted)
    return found


PINS = pins_of((TOP / "requirements.lock").read_text())
CORE = pins_of((TOP / "requirements.core.lock").read_text())
ASKED = [*asked_for(), *asked_for("check")]


def test_every_dependency_is_pinned_at_a_version_that_pyproject_accepts() -> None:
    pinned = {pin.requirement.name: pin.requirement.specifier for pin in PINS}
    wrong = [
        str(wanted)
        for wanted in ASKED
        if not accepts(wanted.specifier, pinned.get(canonicalize_name(wanted.name)))
    ]
    assert wrong == [], REFRESH


def accepts(wanted: SpecifierSet, pinned: SpecifierSet | None) -> bool:
    if pinned is None:
        return False
    (one,) = pinned
    return one.operator == "==" and wanted.contains(one.version, prereleases=True)


def test_every_pin_is_required_by_pyproject_or_another_pin() -> None:
    project = f"{PROJECT['name']}"
    known = {pin.requirement.name for pin in PINS} | {project, "(pyproject.toml)"}
    unknown = {
        pin.requirement.name: sorted(pin.via - known)
        for pin in PINS
        if not pin.via or not pin.via <= known
    }
    assert unknown == {}, REFRESH
    direct = {pin.requirement.name for pin in PINS if project in pin.via}
    assert direct == {canonicalize_name(wanted.name) for wanted in ASKED}, REFRESH


def test_every_pin_has_the_hashes_of_its_files() -> None:
    assert len(PINS) > 50
    assert [pin.requirement.name for pin in PINS if not pin.hashes] == []


def test_the_lock_is_for_the_oldest_supported_python() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert "--python-version 3.11" in (TOP / "Makefile").read_text()


def test_core_lock_pins_what_craftsync_needs_as_the_other_lock_does() -> None:
    pins = {str(pin.requirement): pin.hashes for pin in PINS}
    assert [pin for pin in CORE if pins.get(str(pin.requirement)) != pin.hashes] == [], REFRESH
    direct = {pin.requirement.name for pin in CORE if PROJECT["name"] in pin.via}
    asked = {canonicalize_name(wanted.name) for wanted in [*asked_for(), *asked_for("build")]}
    assert direct == asked, REFRESH


def test_make_run_installs_the_core_alone(tmp_path: Path) -> None:
    words = ["make", "--dry-run", "run", f"VENV={tmp_path / 'venv'}"]
    shown = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=True).stdout
    assert "--requirement requirements.core.lock" in shown
    assert "requirements.lock" not in shown
