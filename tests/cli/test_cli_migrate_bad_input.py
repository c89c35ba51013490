"""A migration that cannot go as asked: refused, or ended with a clear word, nothing lost, and gone on with later."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import NamedTuple

import pytest

from tests.support.cli import Craftsync, Process, until
from tests.support.platform import faulty_platform
from tests.support.servers import S3Server

MIB = 1024 * 1024


class Sides(NamedTuple):
    """The folders of a test, source and target."""

    old: Path
    new: Path

    def arrived(self) -> dict[str, bytes]:
        return held(self.new)


def held(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds, craftsync's own left out."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and ".craftsync" not in file.relative_to(folder).parts
    }


def trashed(folder: Path) -> set[bytes]:
    files = (folder / ".craftsync" / "trash").rglob("*")
    return {file.read_bytes() for file in files if file.is_file()}


@pytest.fixture
def sides(craftsync: Craftsync) -> Sides:
    sides = Sides(craftsync.folder / "old", craftsync.folder / "new")
    sides.old.mkdir()
    return sides


def fill(folder: Path, count: int) -> dict[str, bytes]:
    """Put many small files into a folder and return what it holds then."""
    for number in range(count):
        (folder / f"{number:03}").write_bytes(b"%4d" % number * 1024)
    return held(folder)


def ended(process: Process) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


def test_one_store_under_two_names_is_refused(craftsync: Craftsync, sides: Sides) -> None:
    (craftsync.folder / "link").symlink_to("old")
    (sides.old / "sub").mkdir()
    before = held(craftsync.folder)
    for words in (("./link", "./old"), ("./old", "./link/sub"), (f"file://{sides.old}", "./link")):
        run = craftsync("migrate", *words)
        assert run.code == 2
        assert "Choose two stores that do not overlap" in run.err
    assert held(craftsync.folder) == before


def test_overlapping_prefixes_of_one_bucket_are_rejected(craftsync: Craftsync) -> None:
    craftsync.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for source, target in (("a", "a"), ("a/", "a"), ("a", "a/b"), ("a/b", "a"), ("", "")):
        run = craftsync("migrate", f"s3://bucket/{source}", f"s3://bucket/{target}")
        assert run.code == 2
        assert "overlap" in run.err


def test_existing_target_objects_stay_or_stay_recoverable(
    craftsync: Craftsync, sides: Sides
) -> None:
    sides.new.mkdir()
    for path in ("both", "same"):
        (sides.old / path).write_text("from the source")
    (sides.new / "same").write_text("from the source")
    for path in ("both", "only there"):
        (sides.new / path).write_text("its own")
    kept = craftsync("migrate", "--no-overwrite", "./old", "./new")
    assert (kept.code, (sides.new / "both").read_text()) == (6, "its own")
    assert "both: --no-overwrite: the target has a different object" in kept.err
    assert craftsync("migrate", "./old", "./new").code == 0
    assert sides.arrived() == {
        "both": b"from the source",
        "same": b"from the source",
        "only there": b"its own",
    }
    assert trashed(sides.new) == {b"its own"}


def test_many_migrate_deletes_are_held_with_a_remedy(craftsync: Craftsync, sides: Sides) -> None:
    shutil.copytree(sides.old, sides.new)
    fill(sides.new, 30)
    (sides.old / "a").write_text("1")
    run = craftsync("migrate", "--delete", "./old", "./new")
    assert (run.code, len(sides.arrived())) == (7, 31)
    assert "--force-delete" in run.err
    forced = craftsync("migrate", "--delete", "--force-delete", "./old", "./new")
    assert (forced.code, sides.arrived()) == (0, {"a": b"1"})
    assert len(trashed(sides.new)) == 30


def test_vanishing_source_ends_the_migration_and_the_next_resumes(
    craftsync: Craftsync, sides: Sides
) -> None:
    content = fill(sides.old, 200)
    process = craftsync.start("migrate", "--delete", "--bwlimit", "200K", "./old", "./new")
    until(lambda: len(sides.arrived()) > 20, "twenty objects are copied")
    shutil.rmtree(sides.old)
    code, errors = ended(process)
    assert code == 3
    assert "cannot be used: No such file or directory" in errors
    assert "Check the path, that its disk is mounted" in errors
    assert "Traceback" not in errors
    arrived = sides.arrived()
    assert arrived.items() <= content.items()
    gone = craftsync("migrate", "--delete", "--force-delete", "./old", "./new")
    assert (gone.code, sides.arrived()) == (3, arrived)
    sides.old.mkdir()
    fill(sides.old, 200)
    assert craftsync("migrate", "./old", "./new").code == 0
    assert sides.arrived() == content


def test_missing_bucket_is_reported_by_migrate(
    craftsync: Craftsync, sides: Sides, moto: S3Server
) -> None:
    (sides.old / "a").write_text("1")
    craftsync.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for words in (("s3://none", "./new"), ("./old", "s3://none")):
        run = craftsync("migrate", *words, "--endpoint-url", moto.endpoint)
        assert run.code == 3
        assert "The bucket of s3://none does not exist" in run.err


def test_revoked_token_ends_the_migration_and_a_new_one_resumes(
    craftsync: Craftsync, sides: Sides
) -> None:
    content = {f"{number:03}": b"%4d" % number * 1024 for number in range(200)}
    with faulty_platform() as platform:
        for path, body in content.items():
            platform.put(path, body)
        craftsync.environment["DEV_TOKEN"] = platform.token
        craftsync.config.write_text(
            "environments:\n  dev: {store: craft-ai, token_env: DEV_TOKEN,"
            f" url: {platform.url!r}, control_url: {platform.url!r}}}\n"
        )
        process = craftsync.start("migrate", "--bwlimit", "off:200K", "dev", "./new")
        until(lambda: len(sides.arrived()) > 20, "twenty objects are copied")
        platform.revoke()  # An access token that expires is fetched anew, and nobody notices.
        until(lambda: len(sides.arrived()) > 40, "forty objects are copied")
        platform.regenerate()
        code, errors = ended(process)
        assert (code, "Traceback" in errors) == (3, False), errors
        assert "SDK token" in errors
        assert len(sides.arrived()) < len(content)
        assert sides.arrived().items() <= content.items()
        craftsync.environment["DEV_TOKEN"] = platform.token
        run = craftsync("migrate", "dev", "./new")
        assert (run.code, sides.arrived()) == (0, content), run.err


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let programs that are started anew meet a disk that is full for all but small files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_two_sources_into_one_target_at_once_lose_nothing(
    craftsync: Craftsync, sides: Sides
) -> None:
    sides.new.mkdir()
    other = craftsync.folder / "other"
    other.mkdir()
    wanted = {b"the target's own"}
    for number in range(200):
        (sides.old / f"{number}").write_bytes(b"old %d" % number)
        (other / f"{number}").write_bytes(b"another %d" % number)
        (sides.new / f"{number}").write_bytes(b"target %d" % number)
        wanted |= {b"old %d" % number, b"another %d" % number, b"target %d" % number}
    (sides.new / "own").write_bytes(b"the target's own")
    runs = [craftsync.start("migrate", source, "./new") for source in ("./old", "./other")]
    assert [ended(run) for run in runs] == [(0, ""), (0, "")]
    assert {*sides.arrived().values(), *trashed(sides.new)} == wanted


@pytest.mark.parametrize("size", [4 * MIB, 20 * MIB], ids=["in one piece", "in parts"])
def test_full_target_receives_what_fits_and_the_rest_is_reported(
    craftsync: Craftsync, sides: Sides, size: int
) -> None:
    fill(sides.old, 5)
    (sides.old / "large").write_bytes(bytes(size))
    with no_file_longer_than(3 * MIB):
        run = craftsync.anew("migrate", "./old", "./new")
    assert run.code == 1
    assert "large: " in run.err
    assert "Free space on its disk" in run.err
    assert set(sides.arrived()) == {"000", "001", "002", "003", "004"}
    again = craftsync("migrate", "./old", "./new")
    done = f"migrate: 1 copied ({size // MIB}.0 MiB), 5 unchanged"
    assert (again.code, again.lines[0].split(";")[0]) == (0, done)
    assert sides.arrived() == held(sides.old)


def test_a_file_in_the_place_of_the_target_is_refused(craftsync: Craftsync, sides: Sides) -> None:
    craftsync.write("file", "content")
    for target in ("./file", "./file/below"):
        run = craftsync("migrate", "./old", target)
        assert (run.code, "a file is in the way" in run.err) == (3, True)
    assert (craftsync.folder / "file").read_text() == "content"


def test_a_manifest_for_a_device_does_not_take_its_place(
    craftsync: Craftsync, sides: Sides
) -> None:
    fill(sides.old, 1)
    pipe = craftsync.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    run = craftsync("migrate", str(sides.old), str(sides.new), "--manifest", str(pipe))
    assert run.code == 0
    assert json.loads(os.read(reader, 4096))["path"] == "000"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_manifest_that_cannot_be_written_leaves_nothing_behind(
    craftsync: Craftsync, sides: Sides
) -> None:
    fill(sides.old, 1)
    (folder := craftsync.folder / "manifests").mkdir()
    (taken := folder / "m").mkdir()
    run = craftsync("migrate", str(sides.old), str(sides.new), "--manifest", str(taken))
    assert run.code == 1
    assert list(folder.iterdir()) == [taken]


def test_many_medium_objects_need_little_memory(craftsync: Craftsync, sides: Sides) -> None:
    for number in range(24):
        (sides.old / f"{number}").write_bytes(bytes([number]) * 15 * MIB)
    with craftsync.started("migrate", str(sides.old), str(sides.new), anew=True) as process:
        status, most = Path(f"/proc/{process.pid}/status"), 0
        while process.returncode is None:
            # What wait4(2) tells would begin with the memory of the process that started it.
            most = max(most, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())), 0)
            with suppress(TimeoutExpired):
                process.wait(0.02)
    assert process.returncode == 0
    assert 0 < most < 200 * 1024
    assert held(sides.new) == held(sides.old)


def test_a_state_folder_that_cannot_be_used_is_named(craftsync: Craftsync, sides: Sides) -> None:
    (craftsync.folder / "file").write_text("no folder")
    run = craftsync("--state-dir", "file/state", "migrate", "./old", "./new")
    assert (run.code, "--state-dir" in run.err) == (7, True)
