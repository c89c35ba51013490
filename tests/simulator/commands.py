"""What people do with commands besides runs: dry runs, plans, verdicts, restores and the end of conflicts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from craftsync.clock import stamp
from craftsync.core.model import Mode
from craftsync.engine import planfile
from craftsync.engine.report import ActionEvent, Event, Issue, IssueEvent, Report
from craftsync.engine.review.conflicts import Keep, Resolving, by_file, find_exactly
from craftsync.engine.review.deletes import Approval
from craftsync.engine.review.selection import Selection
from craftsync.engine.review.trash import Restored
from craftsync.engine.review.versions import Wanted
from craftsync.engine.session import Session
from craftsync.errors import UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.history import Outside
from tests.simulator import objects, upkeep
from tests.simulator.daemon import Life
from tests.simulator.judge import Wrong, original
from tests.simulator.steps import OBJECTS, Run, are_at_odds

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

_LAST = 60
"""Steps of the history among which a run is that is taken back."""


def carried_out(world: World, client: Client, run: Run) -> Report:
    """Carry out the command that a `Run` names; returns what it came to."""
    if run.what in OBJECTS:
        return objects.carried_out(world, client, run)
    beside = run.beside and client.life is not None
    if not beside:
        client.end_life()
    if run.what == "dry run":
        return _tried_first(world, client, beside=beside)
    if run.what.startswith("keep "):
        return _resolved(world, client, Keep(run.what.removeprefix("keep ")))
    if run.what in ("check", "plan"):
        return _only_looked(world, client, run.what)
    if beside and client.life is not None and run.what in ("approve", "reject"):
        return _judged_by_daemon(world, client, client.life, run)
    before = set(client.files())
    session, ends = world.opened(client, reading=beside)
    with ends:
        report = _in_session(world, client, session, run)
    if client.life is not None:
        for path in before ^ set(client.files()):
            client.life.hear(path, gone=path in before)
    return report


def _in_session(world: World, client: Client, session: Session, run: Run) -> Report:
    match run.what.split()[0]:
        case "apply":
            plan = planfile.read(io.StringIO(client.plan)) if client.plan else None
            options = replace(client.options(), policy=plan.policy) if plan else client.options()
            world.conflict = options.policy.conflict
            return session.apply_plan(plan.actions if plan else (), options, world.listen)
        case "approve" | "reject":
            return _judged(world, client, session, run)
        case "purge":
            return upkeep.purged(world, session, run)
        case "scrub" | "repair":
            return upkeep.scrubbed(world, client, session, run)
    return _restored(session, run)


def _only_looked(world: World, client: Client, what: str) -> Report:
    """Compare both sides, or plan; neither may change anything."""
    before = world.all_there_is(client)
    session, ends = world.opened(client, read_only=True)
    with ends:
        if what == "check":
            report = session.check(client.options(), lambda *_: None, world.listen)
        else:
            out = io.StringIO()
            report = session.write_plan(client.options(), out, world.listen)
            client.plan = out.getvalue()
    if world.all_there_is(client) != before:
        raise Wrong(f"a {what} changed something")
    return Report(report.command)


def _tried_first(world: World, client: Client, *, beside: bool) -> Report:
    """Run dry, and then really: what is done is what was said, and the dry run changes nothing."""
    said, done = _Heard(), _Heard()

    def note(into: _Heard, event: Event) -> None:
        into.hear(event)
        world.listen(event)

    before, options = world.all_there_is(client), client.options()
    # Of a file and a folder that are both new, chance decides which comes first.
    new = world.judge.shown["store"].keys() - world.judge.shown[client.name].keys()
    is_certain = not any(are_at_odds(one, other) for one in new for other in new)
    knows = client.has_tried_store or not world.hides_below
    unforeseen = set() if knows else _beside_folders(world, client)
    session, ends = world.opened(client, read_only=True)
    with ends:
        dry = session.run("sync", replace(options, dry_run=True), lambda one: note(said, one))
        with world.judging():
            said.unsure |= _same_by_contents_alone(world, client, session) | unforeseen
            said.unsure |= _above_conflict_copies(world, client)
    if world.all_there_is(client) != before:
        raise Wrong("a dry run changed something")
    if beside:
        return Report("sync", dry_run=True)
    session, ends = world.opened(client)
    with ends:
        report = session.run("sync", options, lambda one: note(done, one))
    # Of a listing that lags, only the real run finds out, by looking at each path.
    if (
        client.is_settled
        and is_certain
        and not world.lags
        and not (world.throttles and report.problems > dry.problems)
        and (said.sure_of(done), dry.held) != (done.sure_of(said), report.held)
    ):
        raise Wrong(f"a dry run said {said}, {dry.held} held: {done}, {report.held}")
    return report


def _same_by_contents_alone(world: World, client: Client, session: Session) -> set[str]:
    """Return the paths of which both sides hold the same, but the store does not say so: a dry run reads none."""
    store, here = session.store, world.judge.shown[client.name]
    there = world.judge.shown["store"]
    same = {path for path in here if here[path] == there.get(path)}
    if store.features.folders or store.features.md5_versions:
        return set()
    return {path for path in same if (found := store.stat(path)) and found.digest is None}


def _above_conflict_copies(world: World, client: Client) -> set[str]:
    """Return the folders with conflict copies: a run removes one once it finds that its conflict has ended."""
    copies = filter(original, world.judge.shown[client.name])
    return {str(folder) for copy in copies for folder in PurePosixPath(copy).parents}


def _beside_folders(world: World, client: Client) -> set[str]:
    """Return the paths that share a name with a folder: some servers list nothing below such an object.

    Only a run that writes finds out whether a server does.
    """
    paths = world.judge.shown["store"].keys() | world.judge.shown[client.name].keys()
    return {one for one in paths for other in paths if are_at_odds(one, other)}


class _Heard:
    """What a run said that it does."""

    def __init__(self) -> None:
        self.actions: list[tuple[str, str]] = []
        self.unsure: set[str] = set()
        """Paths in conflict, and those of which only the contents tell that they are in sync."""

    def __repr__(self) -> str:
        return f"{sorted(self.actions)}, unsure of {sorted(self.unsure)}"

    def hear(self, event: Event) -> None:
        if isinstance(event, ActionEvent):
            self.actions.append((str(event.action), event.path))
        elif isinstance(event, IssueEvent) and event.issue is Issue.CONFLICT:
            self.unsure.add(event.path)

    def sure_of(self, other: _Heard) -> list[tuple[str, str]]:
        """Return the actions but for what only reading contents tells: whether a conflict, or a move, is one."""
        unsure = self.unsure | other.unsure
        moved = set(self.actions) ^ set(other.actions)
        for action, path in moved:
            if action == "move-local" and ("download", path) in moved:
                unsure |= {path, *(gone for what, gone in moved if what == "delete-local")}
        return sorted(one for one in self.actions if (original(one[1]) or one[1]) not in unsure)


def _judged(world: World, client: Client, session: Session, run: Run) -> Report:
    paths = (run.path,) if run.path else None
    held = list(session.state.held.rows(paths))
    if not held:
        return Report(run.what)
    if run.what == "reject" or any(one.mode is not Mode.TWO_WAY for one in held):
        world.ordered = True
    approval = Approval(run.what == "approve", paths)
    return session.resolve_held(approval, client.options(), world.listen)


def _judged_by_daemon(world: World, client: Client, life: Life, run: Run) -> Report:
    """Have the daemon carry a verdict out, in its next turn."""
    paths = (run.path,) if run.path else None
    session, ends = world.opened(client, reading=True)
    with ends:
        held = list(session.state.held.rows(paths))
    if not held:
        return Report(run.what)
    world.ordered = run.what == "reject" or any(one.mode is not Mode.TWO_WAY for one in held)
    life.resolve_held(Approval(run.what == "approve", paths))
    return world.turn(client, client.configured(Run(run.client, daemon=True)))


def _restored(session: Session, run: Run) -> Report:
    report, wanted = Report(run.what), Wanted((run.path,) if run.path else ())
    over = run.what.endswith("over")
    try:
        if run.what.startswith("undo"):
            rows = session.state.history.rows(None, _LAST)
            numbers = list(dict.fromkeys(row.run for row in rows if row.run is not None))
            number = numbers[min(run.number, len(numbers) - 1)] if numbers else 0
            restored = list(session.trash.restore_run(number, wanted, overwrite=over))
        else:
            restored = list(session.trash.restore(wanted, overwrite=over))
    except UsageError:  # Nothing is kept.
        return report
    _must_be_well(restored, run)
    return report


def _must_be_well(restored: list[Restored], run: Run) -> None:
    bad = [
        one
        for one in restored
        if one.status == "problem"
        and "a folder" not in one.reason
        and "was removed since" not in one.reason  # By a purge, of which the history does not know.
        # A bucket that keeps versions keeps the bad one that a repair replaced.
        and not ("does not match its MD5" in one.reason and one.entry.version_id)
    ]
    if not run.mods and bad:
        raise Wrong(f"what nothing was in the way of was not restored: {bad}")


def _resolved(world: World, client: Client, keep: Keep) -> Report:
    """End the conflicts of a folder as `craftsync conflicts resolve --all` does: without its state or its lock."""
    kept = Outside(client.state_dir, client.path)

    def note(version: Any) -> None:
        kept.note([version], world.clock.now_ns())

    before = dict(world.judge.shown[client.name])
    with Folder.open(client.path) as root:
        found = find_exactly(
            root, IgnoreRules(root, include=(), exclude=client.config.exclude), Selection()
        )
        resolving = Resolving(root, keep, stamp(world.clock), note)
        try:
            ended = list(resolving.run(by_file(found).values()))
        finally:
            _tell_judge(world, client.name, before)
    shown = world.judge.shown[client.name]
    bad = [
        one
        for one in ended
        if one.status == "problem"
        # Whose place a folder has taken since can be settled by a person alone.
        and not any(path.startswith(f"{one.path}/") for path in shown)
    ]
    if not world.now.mods and bad:
        raise Wrong(f"a conflict was not resolved: {bad}")
    return Report("resolve")


def _tell_judge(world: World, side: str, before: dict[str, bytes]) -> None:
    """Whoever ended a conflict has seen all its versions."""
    for name in before.keys() - world.judge.shown[side].keys():
        path = original(name)
        if path is not None:
            world.judge.settled(side, path, before[name], name)
