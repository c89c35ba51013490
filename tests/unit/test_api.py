"""The Python functions: they take the same options and return the same report as the command line."""

from __future__ import annotations

import inspect
import io
import pickle
import pydoc
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

import craftsync
from craftsync.config.options import MigrateOptions, RunOptions
from craftsync.engine.report import ActionEvent, Event
from craftsync.errors import (
    CraftsyncError,
    IncompleteError,
    NotKept,
    ObjectNotFound,
    RootError,
    StoreMissing,
    UsageError,
    builtin_kinds,
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("")
    monkeypatch.setenv("CRAFTSYNC_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_push_pull_sync_and_check_return_a_report(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("a")
    pushed = craftsync.push("root", "./store", delete=False)
    assert (pushed.command, pushed.uploaded, pushed.exit_code) == ("push", 1, 0)
    assert craftsync.pull(tmp_path / "copy", "./store").downloaded == 1
    (tmp_path / "copy" / "b.txt").write_text("b")
    assert craftsync.sync("copy", "./store").uploaded == 1
    assert (tmp_path / "store" / "b.txt").read_text() == "b"
    assert craftsync.check("copy", "./store").exit_code == 0
    (tmp_path / "config.yaml").write_text(
        "environments: {backup: {store: directory, path: store}}\n"
        "folders: {work: {root: copy, environment: backup}}\n"
    )
    assert craftsync.push("work").unchanged == craftsync.check("work").unchanged == 2
    assert repr(craftsync.DataStore("backup")) == "DataStore('backup')"


def test_store_argument_accepts_a_folder_path(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("a")
    assert craftsync.push(Path("root"), Path("store")).uploaded == 1
    assert craftsync.pull(Path("copy"), tmp_path / "store").downloaded == 1
    assert craftsync.sync(Path("copy"), Path("./store")).exit_code == 0
    assert craftsync.check(Path("copy"), Path("store")).exit_code == 0
    assert craftsync.migrate(Path("store"), Path("second")).copied == 1
    with craftsync.DataStore(Path("second")) as store:
        assert [found["path"] for found in store.list_data_store_objects()] == ["a.txt"]
        assert store.get_data_store_object_information(PurePosixPath("a.txt"))["size"] == 1
        store.upload_data_store_object(Path("root/a.txt"), PurePosixPath("b/c.txt"))
        assert len(store.list_data_store_objects(PurePosixPath("b"))) == 1


def test_data_store_can_be_pickled_at_any_time(tmp_path: Path) -> None:
    store = craftsync.DataStore(tmp_path / "store")
    copies = [pickle.loads(pickle.dumps(store))]
    store.upload_data_store_object(io.BytesIO(b"abc"), "a")
    copies.append(pickle.loads(pickle.dumps(store)))
    store.close()
    for copy in copies:
        with copy:
            out = io.BytesIO()
            copy.download_data_store_object("a", out)
            assert out.getvalue() == b"abc"


def test_on_event_receives_every_event(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("a")
    heard: list[Event] = []
    craftsync.push("root", "./store", on_event=heard.append)
    actions = [event for event in heard if isinstance(event, ActionEvent)]
    assert [(event.action, event.path) for event in actions] == [("upload", "a.txt")]


def test_report_renders_as_html_table_in_a_notebook(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    assert "<table>" in craftsync.push("root", "./store", dry_run=True)._repr_html_()
    assert not (tmp_path / "store").exists()


def test_report_prints_only_what_is_not_zero(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("abc")
    printed = re.sub(r"seconds=[\d.]+, ", "", repr(craftsync.push("root", "./store")))
    assert printed == "Report(command=push, uploaded=1, bytes_uploaded=3, exit_code=0)"


def test_unknown_keyword_error_suggests_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Unknown option 'max_deletes'") as caught:
        craftsync.push("root", "./store", max_deletes=3)  # type: ignore[call-arg]
    assert "Did you mean max_delete?" in caught.value.remedy


def test_string_instead_of_bool_is_rejected_and_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_text("a")
    (tmp_path / "store").mkdir()
    (tmp_path / "store/b").write_text("b")
    state = {"state_dir": tmp_path / "state"}
    for call in (craftsync.push, craftsync.migrate):
        with pytest.raises(UsageError, match="delete: 'no' is not a bool"):
            call(tmp_path / "root", tmp_path / "store", delete="no", **state)  # type: ignore[operator]
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["b"]


def test_missing_folder_raises() -> None:
    with pytest.raises(RootError):
        craftsync.push("missing", "./store")


def test_sync_stays_callable_after_importing_the_engine() -> None:
    import craftsync.engine.report

    assert callable(craftsync.sync)


def test_importing_craftsync_loads_no_heavy_module() -> None:
    probe = "import sys, craftsync; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, timeout=60, check=True
    )
    loaded = set(done.stdout.decode().split())
    assert "craftsync" in loaded
    assert not loaded & {"click", "yaml", "sqlite3", "pathspec", "boto3", "dataclasses"}


def test_store_address_wrapped_in_path_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="URL converted to a path"):
        craftsync.push(tmp_path, Path("s3://bucket/prefix"))


PUBLIC = {
    *("DataStore", "Report", "check", "download_folder", "errors", "migrate"),
    *("objects", "pull", "push", "sync", "upload_folder"),
}


def test_dir_lists_what_is_public_and_nothing_else() -> None:
    probe = (
        "import craftsync, craftsync.runs, craftsync.cli;"
        "print(*(name for name in dir(craftsync) if not name.startswith('_')));"
        "assert all(hasattr(craftsync, name) for name in dir(craftsync));"
        "assert callable(craftsync.migrate)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, timeout=60, check=True, text=True
    )
    assert set(done.stdout.split()) == PUBLIC
    with pytest.raises(AttributeError):
        _ = craftsync.puhs  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "options"),
    [("pull", RunOptions), ("check", RunOptions), ("migrate", MigrateOptions)],
)
def test_help_names_every_option_with_its_type_and_meaning(function: str, options: type) -> None:
    text = pydoc.render_doc(getattr(craftsync, function), renderer=pydoc.plaintext)
    parameters = inspect.signature(getattr(craftsync, function)).parameters
    for name in options.__annotations__:
        assert f"        {name}: {parameters[name].annotation}\n            " in text
    assert parameters["delete"].annotation == "bool | None"
    assert "Hold the deletes of a run that has more than this." in text


@pytest.mark.parametrize(
    ("call", "kind", "builtin"),
    [
        (lambda: craftsync.push("missing", "./store"), RootError, FileNotFoundError),
        (lambda: craftsync.push(".", "./new", conflict="x"), UsageError, ValueError),
        (lambda: craftsync.upload_folder(".", "./new", "../outside"), UsageError, ValueError),
        (lambda: craftsync.DataStore("nowhere"), UsageError, ValueError),
        (lambda: read("./missing"), StoreMissing, FileNotFoundError),
        (lambda: read("."), ObjectNotFound, FileNotFoundError),
    ],
)
def test_errors_are_of_the_builtin_kind_too(
    call: Callable[[], object], kind: type[CraftsyncError], builtin: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, builtin)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, kind)
    assert isinstance(copy, builtin)
    assert (str(copy), copy.remedy) == (str(caught.value), caught.value.remedy)


def read(store: str) -> None:
    craftsync.DataStore(store).download_data_store_object("missing", io.BytesIO())


def test_remedy_is_a_note_below_the_traceback() -> None:
    with pytest.raises(UsageError) as caught:
        craftsync.push("root", "./store", max_deletes=3)  # type: ignore[call-arg]
    lines = traceback.format_exception(caught.value)
    assert lines[-1].startswith("Did you mean max_delete?")


@pytest.mark.parametrize("error", [NotKept("a"), IncompleteError("b", exit_code=4)])
def test_errors_survive_pickling(error: CraftsyncError) -> None:
    with pytest.raises(CraftsyncError) as caught, builtin_kinds():
        raise error
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.remedy, copy.exit_code) == (str(error), error.remedy, error.exit_code)


def test_folder_functions_take_a_path_in_the_store_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "environments:\n  dev: {store: directory, path: ./store}\n"
    )
    (tmp_path / "models/deep").mkdir(parents=True)
    for name in ("a.bin", "b.tmp", "deep/c.bin", "d.txt"):
        (tmp_path / "models" / name).write_text(name)
    sent = craftsync.upload_folder(
        "models", "dev", "models/2026", allow_patterns=["*.bin", "*.tmp"], ignore_patterns="*.tmp"
    )
    assert (sent.uploaded, sent.exit_code) == (2, 0)
    assert (tmp_path / "store/models/2026/deep/c.bin").read_text() == "deep/c.bin"
    brought = craftsync.download_folder("copy", "./store", "models/2026", ignore_patterns="deep/")
    assert brought.downloaded == 1
    assert (tmp_path / "copy/a.bin").read_text() == "a.bin"
    assert craftsync.upload_folder("models", "dev:models", "2026").uploaded == 2
