"""What is released: the wheel and the sdist are complete, and run without the repository."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from importlib.metadata import metadata
from pathlib import Path

import pytest

from craftsync.install_hint import install_command

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "craftsync"


def run(
    words: Sequence[str | Path], folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program away from the project and from what this interpreter was told."""
    return subprocess.run(
        words,
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; return both."""
    folder = tmp_path_factory.mktemp("released")
    build("sdist", PROJECT, folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def build(target: str, source: Path, folder: Path) -> None:
    """Build a target from a source tree into a folder, as the backend named in pyproject.toml does."""
    words = [sys.executable, "-m", "hatchling", "build", "-d", folder, "-t", target]
    done = run(words, source, HOME=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr


def test_package_index_accepts_what_is_released(
    released: tuple[Path, Path], tmp_path: Path
) -> None:
    checked = run([sys.executable, "-m", "twine", "check", "--strict", *released], tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_wheel_has_every_file_of_the_package_and_nothing_else(released: tuple[Path, Path]) -> None:
    expected = {
        path.relative_to(PROJECT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"craftsync/systemd/{path.name}" for path in (PROJECT / "systemd").iterdir()}
    expected.add("craftsync/config.example.yaml")
    names = set(zipfile.ZipFile(released[1]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"craftsync/py.typed", "craftsync/state/schema/001-initial.sql"} <= names


def test_sdist_has_docs_tests_and_locks(released: tuple[Path, Path]) -> None:
    with tarfile.open(released[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "docs/python.md"}
    wanted |= {"requirements.lock", "requirements.core.lock", "tests/test_release.py"}
    assert wanted <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", ".ci"))]


def test_wheel_works_in_an_environment_without_the_repository(
    released: tuple[Path, Path], tmp_path: Path
) -> None:
    venv, site = tmp_path / "venv", f"lib/python{sysconfig.get_python_version()}/site-packages"
    assert run([sys.executable, "-m", "venv", "--without-pip", venv], tmp_path).returncode == 0
    words = ["-m", "pip", "--python", venv, "install", "--no-compile", "--no-deps", "--no-index"]
    installed = run([sys.executable, *words, released[1]], tmp_path)
    assert installed.returncode == 0, installed.stderr
    # The dependencies are those of this interpreter; its own craftsync is not on that path.
    (venv / site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    probe = (
        "import craftsync; from craftsync.install_hint import install_command;"
        "print(craftsync.__file__); print(install_command('fs'))"
    )
    where, command = run([venv / "bin/python", "-c", probe], tmp_path).stdout.splitlines()
    assert where.startswith(str(venv))
    assert shlex.split(command)[-1] == f"craftsync[fs] @ {released[1].as_uri()}"
    shown = run([venv / "bin/craftsync", "--version"], tmp_path)
    assert shown.stdout == f"craftsync {metadata('craftsync')['Version']}\n"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("a")
    pushed = run([venv / "bin/craftsync", "push", "data", "./store"], tmp_path)
    assert (pushed.returncode, (tmp_path / "store/a.csv").read_text()) == (0, "a"), pushed.stderr
    example = run([venv / "bin/craftsync", "config", "example"], tmp_path)
    assert example.stdout == (PROJECT / "config.example.yaml").read_text()


def test_metadata_names_systems_pythons_and_places(released: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(released[1])
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    about = message_from_bytes(archive.read(name))
    classifiers = about.get_all("Classifier", [])
    assert "Operating System :: POSIX :: Linux" in classifiers
    assert "Programming Language :: Python :: 3.11" in classifiers
    assert about["Keywords"]
    assert about["Project-URL"]
    assert "WSL2" in about["Summary"]


def test_other_systems_get_a_sentence_and_exit_code_78(tmp_path: Path) -> None:
    program = "import sys; sys.platform = 'darwin'; from craftsync.__main__ import main; main()"
    ended = run([sys.executable, "-c", program], tmp_path)
    assert ended.returncode == 78
    assert ended.stderr == "craftsync: craftsync needs Linux, or WSL2 on Windows; this is darwin.\n"
    program = "import sys; sys.platform = 'win32'; from craftsync import push"
    ended = run([sys.executable, "-c", program], tmp_path)
    assert ended.stderr.splitlines()[-1].startswith("ImportError: craftsync needs Linux, or WSL2")


def test_install_command_names_where_craftsync_came_from() -> None:
    python, *words, what = shlex.split(install_command("fs"))
    assert (python, words[:3]) == (sys.executable, ["-m", "pip", "install"])
    folder, _, extra = what.partition("[")
    assert (Path(folder) / "pyproject.toml").exists()
    assert extra.rstrip("]") in metadata("craftsync").get_all("Provides-Extra", [])


def test_no_other_place_says_how_to_install() -> None:
    places = [*PACKAGE.rglob("*.py"), PROJECT / "config.example.yaml"]
    assert [path.name for path in places if "pip install" in path.read_text()] == []
