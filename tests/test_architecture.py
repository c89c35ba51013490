"""The shape of the house: which room may know which, who owns a package, how large things get.

Every import counts, wherever it stands: inside a function and under
`TYPE_CHECKING` too. Each failure names the file and the line.
"""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner

from craftsync.cli import cli
from craftsync.local import linux
from tests.simulator.disk import Kernel

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "craftsync"

GROUND = {"errors", "install_hint", "limits", "hashing", "clock", "net"}
ENGINE = {"engine", "state", "local", "stores", "core"} | GROUND
FRONT = {"config", "open_store", "linked_folders", "runs", "datastore", "objects"}

MAY_IMPORT = {
    "errors": set(),
    "install_hint": set(),
    "wording": set(),
    "limits": set(),
    "hashing": set(),
    "net": {"net", "limits", "errors"},
    "clock": {"net", "errors"},
    "core": {"core"},
    "state": {"state", "core"} | GROUND,
    "local": {"local", "core"} | GROUND,
    "stores": {"stores", "core"} | GROUND,
    "engine": ENGINE,
    "daemon": {"daemon"} | ENGINE,
    "config": {"config", "core", "errors"},
    "open_store": {"config", "stores", "core"} | GROUND,
    "linked_folders": {"open_store", "config"} | ENGINE,
    "runs": {"linked_folders", "config"} | ENGINE,
    "datastore": {"open_store", "config"} | ENGINE,
    "progress": {"engine", "clock", "wording"},
    "objects": {"objects", "datastore", "migrate", "linked_folders", "config"} | ENGINE,
    "filesystem": {"objects", "datastore", "errors"},
    "api": {"migrate", "progress"} | FRONT | ENGINE,
    "__init__": {"api", "datastore", "engine", "errors", "objects"},
    "serve": {"serve", "stores", "core"} | GROUND,
    "migrate": {"migrate", "runs", "open_store", "config"} | ENGINE,
    "doctor": {"doctor", "open_store", "config", "wording"} | ENGINE,
    "ui": {"ui", "daemon", "doctor", "migrate", "wording"} | FRONT | ENGINE,
    "cli": {"cli", "ui", "daemon", "serve", "doctor", "migrate", "progress", "wording"}
    | FRONT
    | ENGINE,
    "__main__": {"cli", "install_hint"},
}
"""For each room, a file or folder of the package, the rooms it may import. Arrows point one way."""

EXCEPTIONS = {
    ("stores/directory.py", "local"),
    ("stores/fileobjects.py", "local"),
    ("config/edit.py", "local"),
    ("net/pace.py", "clock"),
}
"""A directory store, a download to a path and an edited configuration replace files as a folder does; a rate needs the time."""

OWNERS = {
    "boto3": ("stores/s3", "daemon/events.py"),
    "botocore": ("stores/s3", "daemon/events.py"),
    "click": ("cli/",),
    "craft_ai_sdk": ("stores/craftai",),
    "distributed": ("migrate/dask.py",),
    "fastapi": ("ui/",),
    "fsspec": ("filesystem.py",),
    "IPython": ("progress.py",),
    "greenlet": ("net/tasks.py",),
    "jwt": ("serve/",),
    "nicegui": ("ui/",),
    "pyarrow": ("ui/pages/preview.py",),
    "pathspec": ("local/ignore.py",),
    "platformdirs": ("config/",),
    "prometheus_client": ("daemon/metrics.py",),
    "python_multipart": ("serve/",),
    "requests": ("stores/craftai",),
    "rich": ("cli/", "progress.py"),
    "sqlite3": ("state/",),
    "starlette": ("serve/", "ui/"),
    "uvicorn": ("serve/", "ui/"),
    "watchdog": ("local/watch/",),
    "yaml": ("config/",),
}
"""For each package at the border, the only places that import it: starts of paths."""

CORE_STDLIB = {
    *("__future__", "bisect", "collections", "dataclasses", "datetime", "enum", "functools"),
    *("heapq", "itertools", "math", "operator", "posixpath", "re", "string", "typing"),
    "unicodedata",
}
"""What a room without a clock, a disk and a logger needs of the standard library."""

FILE_LIMIT = 500
TEST_FILE_LIMIT = 800
PACKAGE_LIMIT = 15
"""Files, and `__init__.py`; what belongs together beyond that is a package within."""
FUNCTION_LIMIT = 60
LONG_FUNCTION = 40
LONG_FUNCTIONS_ALLOWED = 2


class Import(NamedTuple):
    """One module named by an import statement."""

    module: str
    line: int


class Function(NamedTuple):
    """Where a function begins, and how many lines it has."""

    name: str
    line: int
    length: int


def tree_of(source: str) -> ast.Module:
    """Parse a source without collecting garbage: a growing tree has none, and looking for it took longer."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


def statements_below(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in one, at any depth. Expressions, ten times as many, hold none."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for below in getattr(node, field, ()):
            yield below
            yield from statements_below(below)


def imports_of(statements: Iterable[ast.AST], package: str) -> Iterator[Import]:
    """Yield every module that is imported; `package` is the one that relative imports start from."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, package)


def _imported_from(node: ast.ImportFrom, package: str) -> Iterator[Import]:
    module = node.module or ""
    if node.level:
        base = package.split(".")[: len(package.split(".")) - node.level + 1]
        module = ".".join([*base, module]).rstrip(".")
    if module == "craftsync":
        # The version is a constant of the package itself, which is loaded before every room.
        names = (alias.name for alias in node.names if alias.name != "__version__")
        yield from (Import(f"craftsync.{name}", node.lineno) for name in names)
    else:
        names = [f"{module}.{alias.name}" for alias in node.names]
        modules = {name if _is_module(name) else module for name in names}
        yield from (Import(name, node.lineno) for name in sorted(modules))


def _is_module(name: str) -> bool:
    path = PROJECT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def room_of(module: str) -> str:
    """Return the room a module of craftsync belongs to; what the package itself offers is `__init__`."""
    name = module.split(".")[1] if "." in module else "__init__"
    exists = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return name if exists else "__init__"


def functions_of(statements: Iterable[ast.AST]) -> Iterator[Function]:
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield Function(node.name, node.lineno, node.end_lineno - node.lineno + 1)


class SourceFile(NamedTuple):
    """A file of the folder `top` of the project; `name` is its path within."""

    top: str
    name: str
    imports: tuple[Import, ...]
    """Of a file of the package."""
    functions: tuple[Function, ...]

    @property
    def room(self) -> str:
        first, below, _ = self.name.partition("/")
        return first if below else first.removesuffix(".py")


def _read(path: Path) -> SourceFile:
    top, *folders, _ = path.relative_to(PROJECT).parts
    statements = list(statements_below(tree_of(path.read_text())))
    own = top == PACKAGE.name
    imports = imports_of(statements, ".".join((top, *folders))) if own else ()
    name = str(path.relative_to(PROJECT / top))
    return SourceFile(top, name, tuple(imports), tuple(functions_of(statements)))


def _sources() -> Iterator[Path]:
    for folder in ("craftsync", "tests", "benchmarks", "docs"):
        yield from sorted((PROJECT / folder).rglob("*.py"))


@cache
def sources() -> list[SourceFile]:
    return [_read(path) for path in _sources()]


def files() -> list[SourceFile]:
    """Return the files of the package."""
    return [file for file in sources() if file.top == PACKAGE.name]


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == "craftsync"


def test_packages_import_only_what_they_may() -> None:
    wrong = [
        f"craftsync/{file.name}:{found.line} imports {found.module}: "
        f"{file.room} may not know {room_of(found.module)}"
        for file in files()
        for found in file.imports
        if _is_own(found.module)
        and room_of(found.module) not in MAY_IMPORT.get(file.room, set())
        and (file.name, room_of(found.module)) not in EXCEPTIONS
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_its_allowed_imports_listed() -> None:
    rooms = {file.room for file in files()}
    unknown, gone = sorted(rooms - MAY_IMPORT.keys()), sorted(MAY_IMPORT.keys() - rooms)
    assert not unknown, f"say in MAY_IMPORT what these may import: {', '.join(unknown)}"
    assert not gone, f"these are no longer there; take them out of MAY_IMPORT: {', '.join(gone)}"


def test_allowed_imports_have_no_cycle() -> None:
    open_rooms = {room: known - {room} for room, known in MAY_IMPORT.items()}
    while leaves := [room for room, known in open_rooms.items() if not known & open_rooms.keys()]:
        for room in leaves:
            del open_rooms[room]
    assert not open_rooms, f"these rooms know each other: {', '.join(sorted(open_rooms))}"


def _module_of(file: SourceFile) -> str:
    return ".".join(("craftsync", *Path(file.name).with_suffix("").parts)).removesuffix(".__init__")


def test_files_import_each_other_in_no_circle() -> None:
    known = {_module_of(file): {found.module for found in file.imports} for file in files()}
    for names in known.values():
        names &= known.keys()
    while leaves := [module for module, names in known.items() if not names & known.keys()]:
        for module in leaves:
            del known[module]
    circle = [
        f"{module} imports {', '.join(names & known.keys())}" for module, names in known.items()
    ]
    assert not circle, "\n".join(circle)


def test_each_library_has_one_owner() -> None:
    wrong = []
    for file in files():
        for found in file.imports:
            package = found.module.partition(".")[0]
            if _is_own(package) or (package in sys.stdlib_module_names and package not in OWNERS):
                continue
            if not file.name.startswith(OWNERS.get(package, ())):
                owners = ", ".join(OWNERS.get(package, ())) or "nobody: name its owner in OWNERS"
                wrong.append(
                    f"craftsync/{file.name}:{found.line} imports {package}, which belongs to {owners}"
                )
    assert not wrong, "\n".join(wrong)


def test_the_core_uses_only_the_pure_part_of_the_standard_library() -> None:
    wrong = [
        f"craftsync/{file.name}:{found.line} imports {found.module}"
        for file in files()
        if file.room == "core"
        for found in file.imports
        if not _is_own(found.module) and found.module.partition(".")[0] not in CORE_STDLIB
    ]
    assert not wrong, "\n".join(wrong)


def test_core_never_reads_the_clock() -> None:
    wrong = [
        f"{path.relative_to(PROJECT)}:{node.lineno} asks for .{node.attr}"
        for path in sorted((PACKAGE / "core").rglob("*.py"))
        for node in ast.walk(tree_of(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_simulator_has_every_system_call_on_a_folder() -> None:
    missing = sorted(name for name in linux.__all__ if not hasattr(Kernel, name))
    assert not missing, f"tests/simulator/disk.py lacks {', '.join(missing)}"


def test_every_system_call_on_a_folder_goes_through_one_file() -> None:
    own_business = ("local/linux.py", "local/files.py", "local/watch/", "local/scan.py")
    calls = set(linux.__all__) & set(dir(os)) | {"flock", "ioctl", "rmtree"}
    wrong = [
        f"{path.relative_to(PROJECT)}:{node.lineno} calls {node.value.id}.{node.attr}"
        for room in ("local", "engine")
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith((*own_business, "net/waiting.py"))
        for node in ast.walk(tree_of(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"os", "fcntl", "shutil"}
        and node.attr in calls
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("def f():\n    import boto3.session", "boto3.session"),
        ("if TYPE_CHECKING:\n    from craftsync.engine import report", "craftsync.engine.report"),
        ("if True:\n    from craftsync import daemon", "craftsync.daemon"),
        ("if True:\n    from . import base", "craftsync.stores.base"),
        ("if True:\n    from .. import daemon", "craftsync.daemon"),
        ("if True:\n    from ..engine.report import Report", "craftsync.engine.report"),
    ],
)
def test_every_form_of_import_is_found(source: str, module: str) -> None:
    statements = statements_below(tree_of(source))
    assert list(imports_of(statements, "craftsync.stores")) == [Import(module, 2)]


def test_packages_have_at_most_fifteen_files() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    sizes = {folder: len({*folder.glob("*.py")} - {folder / "__init__.py"}) for folder in folders}
    too_many = [
        f"{folder.relative_to(PROJECT)}: {size} files"
        for folder, size in sizes.items()
        if size > PACKAGE_LIMIT
    ]
    assert not too_many


def test_files_stay_small_enough_to_read() -> None:
    wrong = []
    for path in _sources():
        name = path.relative_to(PROJECT)
        limit = TEST_FILE_LIMIT if name.parts[0] == "tests" else FILE_LIMIT
        lines = len(path.read_text().splitlines())
        if lines > limit:
            wrong.append(f"{name}: {lines} lines, at most {limit}")
    assert not wrong, "\n".join(wrong)


def test_functions_stay_small_enough_to_read() -> None:
    long = sorted(
        (function.length, f"{file.top}/{file.name}:{function.line} {function.name}")
        for file in sources()
        for function in file.functions
        if function.length > LONG_FUNCTION
    )
    shown = "\n".join(f"{place}: {length} lines" for length, place in long)
    assert all(length <= FUNCTION_LIMIT for length, _ in long), shown
    assert len(long) <= LONG_FUNCTIONS_ALLOWED, shown


HEAVY = {"boto3", "botocore", "craft_ai_sdk"}
LATE = {"difflib", "html", "rich", "zipfile", "craftsync.migrate.command"}
"""What only a mistake, a notebook, a terminal or a migration needs: each costs milliseconds of every start."""

PROBE = """
import sys
from craftsync.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def loaded_by(*arguments: str, folder: Path) -> set[str]:
    """Run craftsync in a new interpreter; return the modules it has loaded at its end."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.defpath, "CRAFTSYNC_STATE_DIR": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(run.stderr.splitlines()[-1].split())


def test_version_flag_loads_no_cloud_library(tmp_path: Path) -> None:
    loaded = loaded_by("--version", folder=tmp_path)
    assert "craftsync" in loaded
    assert not loaded & {"craftsync.config.options", "craftsync.engine.session", *HEAVY, *LATE}


def test_a_push_to_a_directory_store_loads_no_cloud_library(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("a")
    (tmp_path / "store").mkdir()
    loaded = loaded_by("push", "root", "./store", folder=tmp_path)
    assert (tmp_path / "store" / "a.txt").read_text() == "a"
    assert not loaded & (HEAVY | LATE)


def test_status_loads_no_ignore_rules(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "store").mkdir()
    assert not loaded_by("status", "root", "./store", folder=tmp_path) & {"pathspec", *HEAVY, *LATE}


def test_each_step_of_the_database_schema_has_a_number_of_its_own() -> None:
    names = sorted(path.name for path in (PACKAGE / "state/schema").glob("*.sql"))
    numbers = [name.partition("-")[0] for name in names]
    assert len(set(numbers)) == len(numbers), names


def commands_below(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and subcommand; a name without a command too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield (*words, name)
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands_below(command, (*words, name))


def test_every_command_is_found_and_shows_its_help() -> None:
    for words in [(), *commands_below(cli)]:
        run = CliRunner().invoke(cli, [*words, "--help"], prog_name="craftsync")
        usage = " ".join(("Usage: craftsync", *words))
        assert (run.exit_code, run.output.startswith(usage)) == (0, True), (words, run)
