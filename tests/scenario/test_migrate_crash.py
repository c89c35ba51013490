"""A migration dies at every change it makes, in turn; the next run must bring everything over all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Policy
from craftsync.engine.report import Options
from craftsync.local.ignore import CallRules
from craftsync.migrate.migration import Migration
from craftsync.migrate.options import MigrationOptions
from craftsync.state.migration import MigrationState
from craftsync.stores.directory import DirectoryStore
from tests.scenario.test_crash import DIED, Fuse, Fused, Points
from tests.scenario.test_crash import points as points
from tests.support.dying import LIMITS
from tests.support.moving import Moving, held, kept
from tests.support.s3 import PERSONALITIES, fake_s3
from tests.support.serial_pool import SerialPool
from tests.support.world import leftovers

PROJECT = Path(__file__).parent.parent.parent


def die_in_a_run(moving: Moving, at: int, *, after: bool) -> bool:
    """Run in a child that dies at a change of the target; tell whether it came that far."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            folder = moving.folder / "state"
            fused = Fused(moving.target, Fuse(at, after=after))
            state = MigrationState.open(folder)
            migration = Migration(
                moving.source, fused, state, folder, make_pool=lambda _: SerialPool()
            )
            options = MigrationOptions(Options(Policy(delete=True)))
            migration.run(options, lambda event: None)
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED), "the run itself failed in the child"
    return code == DIED


def prepared(folder: Path) -> Moving:
    source = DirectoryStore.create(folder / "source")
    moving = Moving(folder, source, DirectoryStore.create(folder / "target"))
    for path in ("a", "edited", "fresh", "z"):
        moving.put(source, path, f"{path} of the source")
    for path in ("edited", "gone"):
        moving.put(moving.target, path, f"{path} of the target")
    return moving


def test_crash_at_any_change_loses_nothing_and_is_recovered(tmp_path: Path, points: Points) -> None:
    survived = 0
    for at, after in points:
        moving = prepared(tmp_path / f"{at}-{after}")
        if not die_in_a_run(moving, at, after=after):
            break
        moving.run(delete=True)
        assert held(moving.target) == held(moving.source), (at, after)
        assert kept(moving.target) == {b"edited of the target", b"gone of the target"}
        assert moving.run(delete=True).copied == 0
        assert not list(leftovers(moving.folder / "target")), (at, after)
        survived += 1
    assert survived > 7


@pytest.mark.parametrize("is_recorded", [True, False], ids=["copied before", "only in the target"])
def test_deletes_of_killed_runs_count_with_the_next(tmp_path: Path, is_recorded: bool) -> None:
    batch, names = 18, [f"f/{number:02}" for number in range(54)]
    source = DirectoryStore.create(tmp_path / "source")
    moving = Moving(tmp_path, source, DirectoryStore.create(tmp_path / "target"))
    moving.put(source, "kept", "kept")
    for name in names if is_recorded else ():
        moving.put(source, name, name)
    assert moving.run(delete=True).exit_code == 0
    for first in range(0, len(names), batch):
        for name in names[first : first + batch]:
            if is_recorded:
                source.delete(name, expect=None)
            else:
                moving.put(moving.target, name, name)
        die_in_a_run(moving, batch, after=True)
    report = moving.run(delete=True, delete_limit=DeleteLimit())
    assert report.held >= 2 * batch
    assert len(held(moving.target)) == 1 + report.held


def test_deletes_of_a_killed_run_that_are_excluded_now_do_not_count(tmp_path: Path) -> None:
    planned, more = ([f"{letter}/{number:02}" for number in range(18)] for letter in "fg")
    source = DirectoryStore.create(tmp_path / "source")
    moving = Moving(tmp_path, source, DirectoryStore.create(tmp_path / "target"))
    for name in (*planned, *more, "kept"):
        moving.put(source, name, name)
    assert moving.run().exit_code == 0
    for name in planned:
        source.delete(name, expect=None)
    assert die_in_a_run(moving, 1, after=False)
    for name in more:
        source.delete(name, expect=None)
    rules = CallRules(exclude=["f/*"])
    report = moving.run(delete=True, delete_limit=DeleteLimit(), rules=rules)
    assert (report.held, set(held(moving.target))) == (0, {*planned, "kept"})


@pytest.mark.parametrize(("way", "changes"), [("stream", 10), ("server", 8)])
def test_migration_killed_after_any_request_recovers(way: str, changes: int) -> None:
    small_parts = replace(PERSONALITIES["plain"], smallest_part=LIMITS.smallest_part)
    with fake_s3(small_parts, "craftsync-source", "craftsync-target") as (server, _):
        run = subprocess.run(
            [sys.executable, "-m", "tests.support.dying", server.endpoint, way],
            cwd=PROJECT,
            env={**os.environ, **server.variables, "AWS_EC2_METADATA_DISABLED": "true"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= changes
