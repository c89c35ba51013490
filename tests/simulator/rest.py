"""The end of a history: all clients run without disturbance until nothing changes; then all must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from craftsync.clock import iso
from craftsync.engine.report import Report
from craftsync.engine.review import inspect
from tests.simulator.bucket import SimulatedBucket
from tests.simulator.daemon import RESCAN_SECONDS
from tests.simulator.judge import Violation, original
from tests.simulator.steps import IGNORE, STORE, Act, Change, Run

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

CHANGES = (
    *("uploaded", "downloaded", "moved", "copied", "conflicts"),
    *("deleted_remote", "deleted_local"),
)
"""Counters of a report that count changes."""
_EFFECTS_OF_AN_IDLE_RUN = 4
"""Effects of a run with nothing to do: it takes its locks."""
_MOST_ROUNDS = 4
"""Runs of each client after which nothing may change any more."""


def come_to_rest(world: World) -> None:
    """Let every client run undisturbed until nothing changes, then check both sides and every report."""
    world.trace("at rest")
    if isinstance(world.store, SimulatedBucket):
        world.store.calm()
    _remove_rules(world)
    _remove_files_in_the_way(world)
    for _ in range(_MOST_ROUNDS + 1):
        if not sum([_count_changes(_run(world, client)) for client in world.clients]):
            break
    else:
        raise Violation("it does not come to rest")
    stored = world.judge.shown["store"]
    for client in world.clients:
        if world.judge.shown[client.name] != stored:
            raise Violation(
                f"at rest {client.name} shows {world.judge.shown[client.name]}, the store {stored}"
            )
    for client in world.clients:
        _judge_report_and_status(world, client)
    _judge_last_versions(world, stored)


def _run(world: World, client: Client) -> Report:
    """Run a client, and approve what it holds; raise `Violation` unless its report is clean."""
    world.clock.advance(RESCAN_SECONDS + 60.0)
    report = world.run(client, Run(0, daemon=client.daemon is not None))
    if report is not None and report.held:
        report = world.run(client, Run(0), force=True)
    assert report is not None
    if report.problems or report.skipped or report.held:
        raise Violation(f"an undisturbed run reports {report}")
    return report


def _remove_rules(world: World) -> None:
    """Let users remove every rule that excludes paths."""
    for number, client in enumerate(world.clients):
        config = Change(number, client.keep)
        if config != client.config:
            world.kernel.owner = client.name
            client.stop_daemon()
            client.config = config
    for path in sorted(_shown_anywhere(world)):
        if path.rpartition("/")[2] == IGNORE[0]:  # Moved folders take their ignore files along.
            _remove_everywhere(world, path)


def _remove_files_in_the_way(world: World) -> None:
    """Let users remove each file where another side has a folder, as craftsync's report advises."""
    paths = _shown_anywhere(world)
    for path in sorted(paths):
        if any(other.startswith(f"{path}/") for other in paths):
            _remove_everywhere(world, path)


def _shown_anywhere(world: World) -> set[str]:
    sides = ("store", *(client.name for client in world.clients))
    return {path for side in sides for path in world.judge.shown[side]}


def _remove_everywhere(world: World, path: str) -> None:
    world.act(Act("remove", STORE, path))
    for number in range(len(world.clients)):
        world.act(Act("remove", number, path))


def _judge_report_and_status(world: World, client: Client) -> None:
    """Run once more: nothing may change, and exit code, summary and status must be true."""
    before, effects, began = world.all_contents(), world.effects, iso(world.clock.now_ns())
    report = world.run(client, Run(0))
    assert report is not None
    has_changed = (
        world.all_contents() != before or world.effects > effects + _EFFECTS_OF_AN_IDLE_RUN
    )
    if has_changed and client.keep is None:  # Retention may end in any run.
        raise Violation(f"a run with nothing to do made {world.effects - effects} effects")
    shown = world.judge.shown[client.name]
    copies = sum(original(name) is not None for name in shown)
    summary = report.as_json()
    if (report.exit_code, summary["exit_code"]) != (4 if copies else 0,) * 2:
        raise Violation(f"exit code {report.exit_code} at rest with {copies} conflict copies")
    none = {"uploaded": 0, "downloaded": 0, "problems": 0}
    expected = {"conflicts": copies, "unchanged": len(shown), **none}
    if (counted := {name: summary[name] for name in expected}) != expected:
        raise Violation(f"the summary at rest is {counted}, not {expected}")
    status = inspect.of_pair(client.path, world.store.location, client.state_dir)
    expected = {"conflicts": copies, "held": 0, "problems": 0, "reason": None}
    if (reported := {name: status[name] for name in expected}) != expected:
        raise Violation(f"the status at rest is {reported}, with {copies} conflict copies")
    if not began <= status["last_success"] <= iso(world.clock.now_ns()):
        raise Violation(f"the status reports {status['last_success']} as the last success")


def _judge_last_versions(world: World, stored: dict[str, bytes]) -> None:
    """Check that every last version is visible, and is at its path if it is the only one."""
    visible = set(stored.values())
    for path, heads in world.judge.heads().items():
        for version in (head for head in heads if head is not None):
            # If a process died within a swap, an edit within that swap may be in the trash only.
            is_known = version in visible or world.judge.has_recurred(path, version)
            if not is_known and path not in world.windows.open:
                raise Violation(f"{version!r}, a last version of {path}, is not visible at rest")
        if len(heads) == 1 and not world.lost_a_state and path not in world.windows.open:
            expected = heads[0]
            if expected is None and world.has_crashed:
                continue  # A crash may undo a delete, but no other change.
            found = stored.get(path)
            if found is not None and world.judge.has_recurred(path, found):
                continue  # A client that wrote the same content may not have seen `expected`.
            if found != expected:
                raise Violation(f"{path} is {found!r} at rest, not {expected!r}")


def _count_changes(report: Report) -> int:
    """Return how many changes and conflicts a run reported."""
    return sum(getattr(report, name) for name in CHANGES)
