"""The Python functions: the same words and the same report as the command line."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

import craftsync
from craftsync.engine.report import ActionEvent, Event
from craftsync.errors import RootError, UsageError


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
    with pytest.raises(UsageError, match="address that was made a path"):
        craftsync.push(tmp_path, Path("s3://bucket/prefix"))
