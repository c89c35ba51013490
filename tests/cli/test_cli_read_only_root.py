"""Roots that craftsync may read and not write to, and roots of another user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import SCRIPT, Craftsync, Run

pytestmark = pytest.mark.on_disk

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder any user could enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def craftsync(place: Path) -> Craftsync:
    return Craftsync(place)


@pytest.fixture
def as_nobody(craftsync: Craftsync) -> Callable[..., Run]:
    """Return a function that runs craftsync as a user who owns only `home`."""
    home = craftsync.folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups".split()

    def run(*words: str) -> Run:
        done = subprocess.run(
            [*user, SCRIPT, *words],
            cwd=craftsync.folder,
            env=craftsync.environment
            | {"HOME": str(home), "CRAFTSYNC_STATE_DIR": str(home / "state")},
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr.decode())

    return run


@needs_root
def test_push_works_from_a_root_that_belongs_to_another_user(
    craftsync: Craftsync, as_nobody: Callable[..., Run]
) -> None:
    craftsync.write("root/a", "1")
    craftsync.write("root/b", "1")
    first = as_nobody("push", "--json", "root", "./home/store")
    assert (first.code, first.summary["uploaded"]) == (0, 2)
    assert not (craftsync.folder / "root/.craftsync").exists()
    (craftsync.folder / "root/b").unlink()
    craftsync.write("root/a", "22")
    second = as_nobody("push", "--json", "--delete", "root", "./home/store")
    assert (second.code, second.summary["uploaded"], second.summary["deleted_remote"]) == (0, 1, 1)
    assert craftsync.files("home/store") == {"a": "22"}
    assert as_nobody("check", "root", "./home/store").code == 0


@needs_root
def test_another_folder_in_place_of_a_read_only_root_deletes_nothing(
    craftsync: Craftsync, as_nobody: Callable[..., Run]
) -> None:
    craftsync.write("root/a", "1")
    assert as_nobody("push", "root", "./home/store").code == 0
    (craftsync.folder / "root").rename(craftsync.folder / "unmounted")
    (craftsync.folder / "root").mkdir()
    run = as_nobody("push", "--delete", "root", "./home/store")
    assert run.code == 3
    assert craftsync.files("home/store") == {"a": "1"}


@needs_root
def test_a_read_only_root_that_becomes_writable_gets_an_identity_file(
    craftsync: Craftsync, as_nobody: Callable[..., Run]
) -> None:
    craftsync.write("root/a", "1")
    assert as_nobody("push", "root", "./home/store").code == 0
    os.chown(craftsync.folder / "root", NOBODY, NOBODY)
    assert as_nobody("push", "root", "./home/store").code == 0
    assert as_nobody("sync", "root", "./home/store").code == 0


@needs_root
def test_download_into_a_read_only_folder_is_a_clear_problem(
    craftsync: Craftsync, as_nobody: Callable[..., Run]
) -> None:
    craftsync.write("root/a", "1")
    assert as_nobody("push", "root", "./home/store").code == 0
    craftsync.write("home/store/new", "from a colleague")
    run = as_nobody("sync", "--json", "root", "./home/store")
    assert run.code == 1
    (problem,) = (line for line in run.json if line["type"] == "problem")
    assert "Permission denied" in problem["reason"]
    assert "Traceback" not in run.err


@needs_root
def test_check_claims_nothing_about_a_folder_that_cannot_be_read(
    craftsync: Craftsync, as_nobody: Callable[..., Run]
) -> None:
    for side in ("root", "home/store"):
        craftsync.write(f"{side}/folder/a")
        craftsync.write(f"{side}/b")
    (craftsync.folder / "root/folder").chmod(0)
    for words in (("root", "./home/store"), ("file://{}/root", "file://{}/home/store")):
        run = as_nobody("check", "-v", *(word.format(craftsync.folder) for word in words))
        assert run.code == 1
        assert set(run.lines[:-1]) == {"= b", "! folder"}
        assert run.err == "problem: folder: Permission denied\n"


@needs_root
def test_root_leaves_a_users_folder_to_its_user(
    craftsync: Craftsync, as_nobody: Callable[..., Run]
) -> None:
    craftsync.write("home/root/mine", "1")
    for path in ("home/root", "home/root/mine"):
        os.chown(craftsync.folder / path, NOBODY, NOBODY)
    craftsync.write("store/new/deep/file", "2")
    assert craftsync("sync", "home/root", "./store").code == 0
    craftsync.write("store/mine", "a longer version")
    assert craftsync("sync", "home/root", "./store").code == 0
    below = [*(craftsync.folder / "home/root").rglob("*")]
    assert {"mine", "new", "deep", "file", "trash", "lock", "root-id"} <= {p.name for p in below}
    assert {path for path in below if path.lstat().st_uid != NOBODY} == set()
    (craftsync.folder / "home/root/mine").write_text("edited by its user")
    assert as_nobody("sync", "home/root", "./home/other").code == 0


@needs_root
def test_root_user_keeps_the_owner_of_replaced_store_files(
    craftsync: Craftsync,
) -> None:
    craftsync.write("store/a", "1")
    for path in ("store", "store/a"):
        os.chown(craftsync.folder / path, NOBODY, NOBODY)
    assert craftsync("pull", "root", "./store").code == 0
    craftsync.write("root/a", "edited")
    craftsync.write("root/b", "new")
    assert craftsync("push", "root", "./store").code == 0
    owners = {path.name: path.stat().st_uid for path in (craftsync.folder / "store").iterdir()}
    assert owners == {"a": NOBODY, "b": NOBODY, ".craftsync": NOBODY}


@pytest.fixture
def mounted_read_only(craftsync: Craftsync) -> Callable[..., list[Run]]:
    """Return a function that runs craftsync over and over, in a mount namespace where `root` is read-only."""
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    mounting = "mount --bind root root && mount -o remount,bind,ro root"

    def run(*calls: tuple[str, ...], mount: str = mounting) -> list[Run]:
        tried = subprocess.run(
            [*namespace, "sh", "-c", mount], cwd=craftsync.folder, capture_output=True, check=False
        )
        if tried.returncode:
            pytest.skip("this machine allows no mount namespace")
        runs = []
        for words in calls:
            script = f'{mount} && ! touch root/probe 2>&- && exec "$0" "$@"'
            done = subprocess.run(
                [*namespace, "sh", "-c", script, SCRIPT, *words],
                cwd=craftsync.folder,
                env=craftsync.environment,
                capture_output=True,
                timeout=60,
                check=False,
            )
            runs.append(Run(done.returncode, done.stdout, done.stderr.decode()))
        return runs

    return run


def test_push_from_a_read_only_mount_keeps_its_identity_in_the_state(
    craftsync: Craftsync, mounted_read_only: Callable[..., list[Run]]
) -> None:
    craftsync.write("root/a", "1")
    craftsync.write("root/b", "1")
    push = ("push", "--json", "--delete", "root", "./store")
    first, again = mounted_read_only(push, push)
    assert (first.code, first.summary["uploaded"]) == (0, 2), first.err
    assert (again.code, again.summary["unchanged"]) == (0, 2), again.err
    assert not (craftsync.folder / "root/.craftsync").exists()
    (craftsync.folder / "root/b").unlink()
    craftsync.write("root/a", "22")
    second, check = mounted_read_only(push, ("check", "root", "./store"))
    assert (second.code, second.summary["uploaded"], second.summary["deleted_remote"]) == (0, 1, 1)
    assert check.code == 0
    assert craftsync.files("store") == {"a": "22"}


def test_another_filesystem_in_place_of_a_read_only_mount_deletes_nothing(
    craftsync: Craftsync, mounted_read_only: Callable[..., list[Run]]
) -> None:
    craftsync.write("root/a", "1")
    push = ("push", "--delete", "--force-delete", "root", "./store")
    assert [run.code for run in mounted_read_only(push)] == [0]
    (run,) = mounted_read_only(push, mount="mount -t tmpfs -o ro tmpfs root")
    assert run.code == 3
    assert "is not the folder of the last run" in run.err
    assert craftsync.files("store") == {"a": "1"}


def test_download_into_a_read_only_mount_is_a_clear_problem(
    craftsync: Craftsync, mounted_read_only: Callable[..., list[Run]]
) -> None:
    craftsync.write("root/a", "1")
    craftsync.write("store/new", "from a colleague")
    (run,) = mounted_read_only(("sync", "--json", "root", "./store"))
    assert run.code == 1
    (problem,) = (line for line in run.json if line["type"] == "problem")
    assert (problem["path"], "Read-only file system" in problem["reason"]) == ("new", True)
    assert craftsync.files("store") == {"a": "1", "new": "from a colleague"}
