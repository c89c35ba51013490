"""A folder or a store that is reached through a symbolic link is the same one under each of its names."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from craftsync.state import pair_folder
from craftsync.state.database import Database
from tests.support.cli import Craftsync, until
from tests.support.daemons import running


@pytest.fixture
def here(craftsync: Craftsync) -> Path:
    """Make a root and a store with two names each, and sync them by the real ones."""
    folder = craftsync.folder
    for name in ("root", "disk"):
        (folder / f"real-{name}").mkdir()
        (folder / f"link-{name}").symlink_to(f"real-{name}")
    for name in ("kept", "gone"):
        craftsync.write(f"real-root/{name}")
    assert craftsync("sync", "real-root", "./real-disk/store").code == 0
    return folder


NAMES = [
    ("real-root", "./link-disk/store"),
    ("link-root", "./real-disk/store"),
    ("link-root", "./link-disk/store"),
]
"""Every other way to name the two."""


@pytest.mark.parametrize("pair", NAMES)
def test_delete_is_synced_under_any_name_of_folder_and_store(
    craftsync: Craftsync, here: Path, pair: tuple[str, str]
) -> None:
    (here / "real-root/gone").unlink()
    assert craftsync("sync", *pair).code == 0
    assert sorted(craftsync.files("real-root")) == ["kept"]
    assert sorted(craftsync.files("real-disk/store")) == ["kept"]
    assert len(list((here / "state/pairs").iterdir())) == 1


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [
        (("./link-old", "./link-disk/new"), ("./real-old", "./real-disk/new")),
        (("./real-old", "./real-disk/new"), ("./link-old", "./link-disk/new")),
        (("./link-old", "./real-disk/new"), ("./real-old", "./link-disk/new")),
    ],
    ids=["links first", "real names first", "one of each"],
)
def test_a_killed_migration_resumes_under_other_names_of_its_folders(
    craftsync: Craftsync, here: Path, begun: tuple[str, str], resumed: tuple[str, str]
) -> None:
    for number in range(300):
        craftsync.write(f"real-old/{number:03}", "x" * 4096)
    (here / "link-old").symlink_to("real-old")
    process = craftsync.start("migrate", "--bwlimit", "100K", *begun)
    until(lambda: copied_rows(here) > 20, "some copies are recorded")
    process.kill()
    process.communicate()
    recorded = copied_rows(here)
    run = craftsync("migrate", "--json", *resumed)
    assert run.code == 0
    summary = run.summary
    assert summary["unchanged"] >= recorded
    assert summary["copied"] + summary["adopted"] + summary["unchanged"] == 300
    assert len(list((here / "state/migrations").iterdir())) == 1
    assert craftsync.files("real-disk/new") == craftsync.files("real-old")


def copied_rows(here: Path) -> int:
    """Return how many copies the state of the only migration has recorded."""
    for file in (here / "state/migrations").glob("*/state.db"):
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            try:
                return int(database.execute("SELECT count(*) FROM baseline").fetchone()[0])
            except sqlite3.OperationalError:
                break  # It is being made.
    return 0


@pytest.mark.parametrize("pair", NAMES)
def test_status_of_a_stopped_folder_is_the_same_under_each_name(
    craftsync: Craftsync, here: Path, pair: tuple[str, str]
) -> None:
    for number in range(40):
        craftsync.write(f"real-root/{number}")
    assert craftsync("sync", "real-root", "./real-disk/store").code == 0
    for number in range(40):
        (here / f"real-root/{number}").unlink()
    assert craftsync("sync", *pair).code == 7
    facts = json.loads(craftsync("status", "--json", *pair).out)
    assert facts["held"] == 40
    assert (facts["root"], facts["store"]) == (f"{here}/real-root", f"{here}/real-disk/store")
    assert len(craftsync("deletes", "list", "--root", pair[0], "--store", pair[1]).lines) >= 40


def test_one_daemon_runs_for_all_symlink_names_of_a_folder(
    craftsync: Craftsync, here: Path
) -> None:
    with running(craftsync, *NAMES[0]) as daemon:
        daemon.until_state("watching", "real-root", "./real-disk/store")
        for pair in NAMES:
            assert daemon.status(*pair)["pid"] == daemon.process.pid
            run = craftsync("watch", *pair)
            assert (run.code, f"process {daemon.process.pid}" in run.err) == (5, True)
        assert craftsync("stop", *NAMES[2]).code == 0
        until(lambda: daemon.process.poll() == 0, "the end")


def test_a_configured_folder_behind_a_link_is_known_by_its_paths(
    craftsync: Craftsync, here: Path
) -> None:
    craftsync.config.write_text(
        "environments: {disk: {store: directory, path: link-disk}}\n"
        "folders: {data: {root: link-root, environment: 'disk:store'}}\n"
    )
    run = craftsync("why", "link-root/kept")
    assert run.code == 0, run.err
    assert craftsync("status", "--json", "data").json[0]["last_success"]


def as_an_earlier_version_left_it(here: Path, store: str) -> Path:
    """Give the database the name that it had when a store was named as it was called."""
    root, state = str(here / "real-root"), here / "state"
    own = pair_folder(state, root, str(here / "real-disk/store"))
    alias = pair_folder(state, root, store)
    shutil.copytree(own, alias)
    with closing(Database.open(alias / "state.db")) as database:
        database.put("store", store)
    return own


@pytest.mark.parametrize("store", ["./link-disk/store", "./real-disk/store"])
def test_baseline_kept_under_a_symlink_name_is_found(
    craftsync: Craftsync, here: Path, store: str
) -> None:
    own = as_an_earlier_version_left_it(here, f"{here}/link-disk/store")
    shutil.rmtree(own)
    (here / "real-root/gone").unlink()
    assert json.loads(craftsync("status", "--json", "real-root", store).out)["last_success"]
    assert (
        craftsync("sync", "-n", "real-root", store)
        .lines[0]
        .startswith("delete in the store: gone ")
    )
    assert not own.exists()
    assert craftsync("sync", "real-root", store).code == 0
    assert sorted(craftsync.files("real-disk/store")) == ["kept"]
    assert sorted(craftsync.files("real-root")) == ["kept"]
    assert (own / "state.db").exists()


def test_latest_of_several_last_synced_states_is_used(craftsync: Craftsync, here: Path) -> None:
    craftsync.write("real-root/newer")
    assert craftsync("sync", "real-root", "./real-disk/store").code == 0
    own = as_an_earlier_version_left_it(here, f"{here}/link-disk/store")
    with closing(Database.open(own / "state.db")) as database:
        # The other one knows nothing of the newer file, and is older.
        database.connection.execute("DELETE FROM baseline WHERE path = 'newer'")
    alias = pair_folder(here / "state", f"{here}/real-root", f"{here}/link-disk/store")
    used_ns = (own / "state.db").stat().st_mtime_ns + 10**9
    os.utime(alias / "state.db", ns=(used_ns, used_ns))
    (here / "real-root/newer").unlink()
    assert craftsync("sync", "real-root", "./link-disk/store").code == 0
    assert sorted(craftsync.files("real-disk/store")) == ["gone", "kept"]
    assert sorted(path.name for path in own.iterdir()) == ["state.db", "state.db.superseded"]
