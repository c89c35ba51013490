"""Few descriptors: everything arrives, and nothing fails for too many open files."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.cli import SCRIPT, Craftsync, Run, until
from tests.support.s3 import fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

FILES = 1500


@pytest.fixture
def bucket(craftsync: Craftsync) -> Iterator[str]:
    with fake_s3("plain", "bucket") as (server, _):
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.endpoint,
        }
        yield "s3://bucket"


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


def filled(craftsync: Craftsync, folder: str, files: int = FILES) -> None:
    for number in range(files):
        craftsync.write(f"{folder}/{number % 20}/{number}", f"content {number}")


def arrived(craftsync: Craftsync, folder: str) -> int:
    return sum(1 for path in (craftsync.folder / folder).glob("[0-9]*/*"))


@pytest.mark.parametrize("limit", [128, pytest.param(256, marks=pytest.mark.exhaustive)])
def test_a_first_pull_of_many_files_works_with_few_descriptors(
    craftsync: Craftsync, bucket: str, limit: int
) -> None:
    filled(craftsync, "first")
    assert limited(craftsync, limit, limit, "push", "first", bucket).code == 0
    run = limited(craftsync, limit, limit, "pull", "--json", "second", bucket)
    assert "Too many open files" not in run.err + run.text
    assert (run.code, run.summary["downloaded"]) == (0, FILES)


def test_the_soft_limit_is_raised_at_the_start(craftsync: Craftsync) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 4096:
        pytest.skip("the hard limit is low here")
    low = limited(craftsync, 256, 256, "doctor")
    assert "LimitNOFILE" in low.text
    assert "LimitNOFILE" not in limited(craftsync, 256, 4096, "doctor").text


def test_one_service_of_several_folders_shares_its_descriptors(
    craftsync: Craftsync, bucket: str
) -> None:
    folders = {}
    for name in ("a", "b", "c", "d"):
        filled(craftsync, f"first-{name}", 400)
        assert craftsync("push", f"first-{name}", f"{bucket}/{name}").code == 0
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
            lambda: all(arrived(craftsync, name) == 400 for name in folders),
            "all files in all folders",
        )
    finally:
        running.terminate()
        running.wait()
    assert "Too many open files" not in log.read_text()
