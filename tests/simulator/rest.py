"""How a history ends: everybody runs without trouble until nothing changes, and then everything must be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from craftsync.clock import iso
from craftsync.engine.report import Report
from craftsync.engine.review import inspect
from tests.simulator.bucket import SimulatedBucket
from tests.simulator.daemon import RESCAN_SECONDS
from tests.simulator.judge import Wrong, original
from tests.simulator.steps import IGNORE, STORE, Act, Change, Run

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

COUNTED = (
    *("uploaded", "downloaded", "moved", "copied", "conflicts"),
    *("deleted_remote", "deleted_local"),
)
"""Figures of a report that say that something changed."""
_OF_AN_IDLE_RUN = 4
"""Effects of a run without anything to do: it takes its locks."""
_CYCLES = 4
"""Runs of each client within which everything must be at rest."""


def come_to_rest(world: World) -> None:
    """Let every client run without trouble until nothing changes; then everything must be right."""
    world.say("at rest")
    if isinstance(world.store, SimulatedBucket):
        world.store.calm()
    _drop_rules(world)
    _put_in_order(world)
    for _ in range(_CYCLES + 1):
        if not sum([_changes(_run(world, client)) for client in world.clients]):
            break
    else:
        raise Wrong("it does not come to rest")
    there = world.judge.shown["store"]
    for client in world.clients:
        if world.judge.shown[client.name] != there:
            raise Wrong(
                f"at rest {client.name} shows {world.judge.shown[client.name]}, the store {there}"
            )
    for client in world.clients:
        _judge_words(world, client)
    _judge_heads(world, there)


def _run(world: World, client: Client) -> Report:
    world.clock.advance(RESCAN_SECONDS + 60.0)
    report = world.run(client, Run(0, daemon=client.life is not None))
    if report is not None and report.held:
        report = world.run(client, Run(0), force=True)
    assert report is not None
    if report.problems or report.skipped or report.held:
        raise Wrong(f"a run without trouble reports {report}")
    return report


def _drop_rules(world: World) -> None:
    """Have people end what keeps paths from taking part."""
    for number, client in enumerate(world.clients):
        config = Change(number, client.keep)
        if config != client.config:
            world.kernel.owner = client.name
            client.end_life()
            client.config = config
    for path in sorted(_shown_anywhere(world)):
        if path.rpartition("/")[2] == IGNORE[0]:  # Folders move, and their rules with them.
            _remove_everywhere(world, path)


def _put_in_order(world: World) -> None:
    """Have people remove each file that is where another side has a folder: craftsync has told them to."""
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


def _judge_words(world: World, client: Client) -> None:
    """Run once more: nothing may change, and exit code, summary and status must say how things stand."""
    before, effects, began = world.all_contents(), world.effects, iso(world.clock.now_ns())
    report = world.run(client, Run(0))
    assert report is not None
    has_changed = world.all_contents() != before or world.effects > effects + _OF_AN_IDLE_RUN
    if has_changed and client.keep is None:  # Retention may end in any run.
        raise Wrong(f"a run with nothing to do made {world.effects - effects} effects")
    shown = world.judge.shown[client.name]
    copies = sum(original(name) is not None for name in shown)
    summary = report.as_json()
    if (report.exit_code, summary["exit_code"]) != (4 if copies else 0,) * 2:
        raise Wrong(f"exit code {report.exit_code} at rest with {copies} conflict copies")
    said = {"conflicts": copies, "unchanged": len(shown)}
    told = {name: summary[name] for name in (*said, "uploaded", "downloaded", "problems")}
    if told != {**said, "uploaded": 0, "downloaded": 0, "problems": 0}:
        raise Wrong(f"the summary at rest is {told}, not {said}")
    status = inspect.of_pair(client.path, world.store.location, client.state_dir)
    named = {name: status[name] for name in ("conflicts", "held", "problems", "reason")}
    if named != {"conflicts": copies, "held": 0, "problems": 0, "reason": None}:
        raise Wrong(f"the status at rest is {named}, with {copies} conflict copies")
    if not began <= status["last_success"] <= iso(world.clock.now_ns()):
        raise Wrong(f"the status names {status['last_success']} as the last success")


def _judge_heads(world: World, there: dict[str, bytes]) -> None:
    visible = set(there.values())
    for path, heads in world.judge.heads().items():
        for version in (head for head in heads if head is not None):
            # Of an edit within a swap in which the process died, the trash alone may know.
            is_known = version in visible or world.judge.was_put_back(path, version)
            if not is_known and path not in world.windows.open:
                raise Wrong(f"{version!r}, the last of {path}, is not to be seen at rest")
        if len(heads) == 1 and not world.forgets and path not in world.windows.open:
            expected = heads[0]
            if expected is None and world.crashed:
                continue  # A delete may be undone by a crash, but no more than that.
            if there.get(path) != expected:
                raise Wrong(f"{path} is {there.get(path)!r} at rest, not {expected!r}")


def _changes(report: Report) -> int:
    """Count what a run moved, deleted or found in conflict."""
    return sum(getattr(report, name) for name in COUNTED)
