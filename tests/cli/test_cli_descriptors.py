"""Few descriptors: everything arrives, and nothing fails for too many open files."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.cli import SCRIPT, Craftsync, Run, until
from tests.support.s3 import FakeS3, fake_s3

FILES = 400
"""Three times what the lower of the limits allows to be open at once."""


@pytest.fixture
def fake(craftsync: Craftsync) -> Iterator[FakeS3]:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= server.variables
        yield fake


def limited(craftsync: Craftsync, soft: int, hard: int, *words: str) -> Run:
    """Run craftsync in a process that may open so many files."""
    done = subprocess.run(
        ["sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" "$@"', SCRIPT, *words],
        cwd=craftsync.folder,
        env=craftsync.environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr.decode())


def contents(files: int) -> dict[str, str]:
    return {f"{number % 20}/{number}": f"content {number}" for number in range(files)}


def arrived(craftsync: Craftsync, folder: str) -> int:
    return sum(1 for path in (craftsync.folder / folder).glob("[0-9]*/*"))


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("limit", [128, pytest.param(256, marks=pytest.mark.exhaustive)])
def test_a_first_pull_of_many_files_works_with_few_descriptors(
    craftsync: Craftsync, limit: int
) -> None:
    for path, content in contents(FILES).items():
        craftsync.write(f"first/{path}", content)
    assert limited(craftsync, limit, limit, "push", "first", "s3://bucket").code == 0
    run = limited(craftsync, limit, limit, "pull", "--json", "second", "s3://bucket")
    assert "Too many open files" not in run.err + run.text
    assert (run.code, run.summary["downloaded"]) == (0, FILES)


def test_the_soft_limit_is_raised_at_the_start(craftsync: Craftsync) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 4096:
        pytest.skip("the hard limit is low here")
    low = limited(craftsync, 256, 256, "doctor")
    assert "LimitNOFILE" in low.text
    assert "LimitNOFILE" not in limited(craftsync, 256, 4096, "doctor").text


EACH = 150
"""Files of a folder: more than the 64 it might have under way if it were alone."""


def test_one_service_of_several_folders_shares_its_descriptors(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    folders, bucket = {}, fake.bucket("bucket")
    for name in ("a", "b", "c", "d"):
        for path, content in contents(EACH).items():
            stored = bucket.described(fake.personality, content.encode())
            bucket.put(fake.personality, f"{name}/{path}", stored)
        (craftsync.folder / name).mkdir()
        folders[name] = {"root": str(craftsync.folder / name), "environment": f"s3:{name}"}
    environments = {"s3": {"store": "s3", "bucket": "bucket"}}
    craftsync.config.write_text(json.dumps({"environments": environments, "folders": folders}))
    shell = 'ulimit -n 256 && exec "$0" "$@"'
    log = craftsync.folder / "log"
    with log.open("wb") as err:
        running = subprocess.Popen(
            ["sh", "-c", shell, SCRIPT, "watch"],
            cwd=craftsync.folder,
            env=craftsync.environment,
            stderr=err,
        )
    try:
        until(
            lambda: all(arrived(craftsync, name) == EACH for name in folders),
            "all files in all folders",
        )
    finally:
        running.terminate()
        running.wait()
    assert "Too many open files" not in log.read_text()
