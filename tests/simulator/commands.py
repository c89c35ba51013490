"""Commands besides runs: dry runs, plans, held deletes, restores, and conflicts that a user resolves."""

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
from tests.simulator.daemon import Daemon
from tests.simulator.judge import Violation, original
from tests.simulator.steps import OBJECTS, Run, are_at_odds

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.world import World

_HISTORY_ROWS = 60
"""How many rows of the history are searched for the run to undo."""


def carry_out(world: World, client: Client, run: Run) -> Report:
    """Carry out the command that a `Run` names, and return its report."""
    if run.what in OBJECTS:
        return objects.carry_out(world, client, run)
    beside = run.beside and client.daemon is not None
    if not beside:
        client.stop_daemon()
    if run.what == "dry run":
        return _dry_run_then_run(world, client, beside=beside)
    if run.what.startswith("keep "):
        return _resolve_conflicts(world, client, Keep(run.what.removeprefix("keep ")))
    if run.what in ("check", "plan"):
        return _compare_or_plan(world, client, run.what)
    if beside and client.daemon is not None and run.what in ("approve", "reject"):
        return _review_by_daemon(world, client, client.daemon, run)
    before = set(client.files())
    session, ends = world.open_session(client, reading=beside)
    with ends:
        report = _in_session(world, client, session, run)
    if client.daemon is not None:
        for path in before ^ set(client.files()):
            client.daemon.notify(path, gone=path in before)
    return report


def _in_session(world: World, client: Client, session: Session, run: Run) -> Report:
    match run.what.split()[0]:
        case "apply":
            plan = planfile.read(io.StringIO(client.plan)) if client.plan else None
            options = replace(client.options(), policy=plan.policy) if plan else client.options()
            world.conflict = options.policy.conflict
            return session.apply_plan(plan.actions if plan else (), options, world.on_event)
        case "approve" | "reject":
            return _review(world, client, session, run)
        case "purge":
            return upkeep.purge(world, session, run)
        case "scrub" | "repair":
            return upkeep.scrub(world, client, session, run)
    return _restore(session, run)


def _compare_or_plan(world: World, client: Client, what: str) -> Report:
    """Compare both sides, or write a plan; neither may change anything."""
    before = world.snapshot(client)
    session, ends = world.open_session(client, read_only=True)
    with ends:
        if what == "check":
            report = session.check(client.options(), lambda *_: None, world.on_event)
        else:
            out = io.StringIO()
            report = session.write_plan(client.options(), out, world.on_event)
            client.plan = out.getvalue()
    if world.snapshot(client) != before:
        raise Violation(f"a {what} changed something")
    return Report(report.command)


def _dry_run_then_run(world: World, client: Client, *, beside: bool) -> Report:
    """Make a dry run, then a run: the dry run must change nothing, and must list what the run does."""
    foreseen, done = _RunLog(), _RunLog()

    def note(into: _RunLog, event: Event) -> None:
        into.record(event)
        world.on_event(event)

    before, options = world.snapshot(client), client.options()
    # If a new file and a new folder have one name, chance decides which comes first.
    new = world.judge.shown["store"].keys() - world.judge.shown[client.name].keys()
    is_certain = not any(are_at_odds(one, other) for one in new for other in new)
    is_known = client.has_probed_store or not world.hides_below
    unforeseen = set() if is_known else _at_odds_with_folders(world, client)
    session, ends = world.open_session(client, read_only=True)
    with ends:
        dry = session.run("sync", replace(options, dry_run=True), lambda one: note(foreseen, one))
        with world.undisturbed():
            foreseen.uncertain |= _equal_only_by_content(world, client, session) | unforeseen
            foreseen.uncertain |= _folders_of_conflict_copies(world, client)
    if world.snapshot(client) != before:
        raise Violation("a dry run changed something")
    if beside:
        return Report("sync", dry_run=True)
    session, ends = world.open_session(client)
    with ends:
        report = session.run("sync", options, lambda one: note(done, one))
    # Only the real run, which stats each path, notices that a listing lags.
    if (
        client.last_run_was_clean
        and is_certain
        and not world.lags
        and not (world.throttles and report.problems > dry.problems)
        and (foreseen.certain_actions(done), dry.held)
        != (done.certain_actions(foreseen), report.held)
    ):
        raise Violation(
            f"a dry run listed {foreseen}, {dry.held} held; the run did {done}, {report.held} held"
        )
    return report


def _equal_only_by_content(world: World, client: Client, session: Session) -> set[str]:
    """Return the paths at which only the content shows that both sides are equal: a dry run reads none."""
    store, local = session.store, world.judge.shown[client.name]
    remote = world.judge.shown["store"]
    same = {path for path in local if local[path] == remote.get(path)}
    if store.features.folders or store.features.md5_versions:
        return set()
    return {path for path in same if (found := store.stat(path)) and found.digest is None}


def _folders_of_conflict_copies(world: World, client: Client) -> set[str]:
    """Return the folders of conflict copies: a run removes a copy once its conflict has ended."""
    copies = filter(original, world.judge.shown[client.name])
    return {str(folder) for copy in copies for folder in PurePosixPath(copy).parents}


def _at_odds_with_folders(world: World, client: Client) -> set[str]:
    """Return the paths where one side has a file and another a folder.

    Some servers list nothing below such an object. Only a run that writes finds that out.
    """
    paths = world.judge.shown["store"].keys() | world.judge.shown[client.name].keys()
    return {one for one in paths for other in paths if are_at_odds(one, other)}


class _RunLog:
    """The actions that a run, or a dry run, reported."""

    def __init__(self) -> None:
        self.actions: list[tuple[str, str]] = []
        self.uncertain: set[str] = set()
        """Paths in conflict, and paths where only the content shows what to do."""

    def __repr__(self) -> str:
        return f"{sorted(self.actions)}, uncertain at {sorted(self.uncertain)}"

    def record(self, event: Event) -> None:
        if isinstance(event, ActionEvent):
            self.actions.append((str(event.action), event.path))
        elif isinstance(event, IssueEvent) and event.issue is Issue.CONFLICT:
            self.uncertain.add(event.path)

    def certain_actions(self, other: _RunLog) -> list[tuple[str, str]]:
        """Return the actions except those that depend on content: conflicts, and moves that may be none."""
        uncertain = self.uncertain | other.uncertain
        moved = set(self.actions) ^ set(other.actions)
        for action, path in moved:
            if action == "move-local" and ("download", path) in moved:
                uncertain |= {path, *(gone for what, gone in moved if what == "delete-local")}
        return sorted(one for one in self.actions if (original(one[1]) or one[1]) not in uncertain)


def _review(world: World, client: Client, session: Session, run: Run) -> Report:
    """Approve or reject held deletes in a session of their own."""
    paths = (run.path,) if run.path else None
    held = list(session.state.held.rows(paths))
    if not held:
        return Report(run.what)
    if run.what == "reject" or any(one.mode is not Mode.TWO_WAY for one in held):
        world.ordered = True
    approval = Approval(run.what == "approve", paths)
    return session.resolve_held(approval, client.options(), world.on_event)


def _review_by_daemon(world: World, client: Client, daemon: Daemon, run: Run) -> Report:
    """Let the daemon approve or reject held deletes in its next turn."""
    paths = (run.path,) if run.path else None
    session, ends = world.open_session(client, reading=True)
    with ends:
        held = list(session.state.held.rows(paths))
    if not held:
        return Report(run.what)
    world.ordered = run.what == "reject" or any(one.mode is not Mode.TWO_WAY for one in held)
    daemon.resolve_held(Approval(run.what == "approve", paths))
    return world.turn_daemon(client, client.configured(Run(run.client, daemon=True)))


def _restore(session: Session, run: Run) -> Report:
    report, wanted = Report(run.what), Wanted((run.path,) if run.path else ())
    over = run.what.endswith("over")
    try:
        if run.what.startswith("undo"):
            rows = session.state.history.rows(None, _HISTORY_ROWS)
            numbers = list(dict.fromkeys(row.run for row in rows if row.run is not None))
            number = numbers[min(run.number, len(numbers) - 1)] if numbers else 0
            restored = list(session.trash.restore_run(number, wanted))
        else:
            restored = list(session.trash.restore(wanted, overwrite=over))
    except UsageError:  # Nothing is kept.
        return report
    _must_have_restored(restored, run)
    return report


def _must_have_restored(restored: list[Restored], run: Run) -> None:
    """Raise `Violation` if a version was not restored although nothing was in its way."""
    bad = [
        one
        for one in restored
        if one.status == "problem"
        and "a folder" not in one.reason
        and "was removed since" not in one.reason  # By a purge, which the history does not record.
        # A bucket with versioning keeps the damaged version that a repair replaced.
        and not ("does not match its MD5" in one.reason and one.entry.version_id)
    ]
    if not run.mods and bad:
        raise Violation(f"not restored although nothing was in the way: {bad}")


def _resolve_conflicts(world: World, client: Client, keep: Keep) -> Report:
    """Resolve conflicts as `craftsync conflicts resolve --all` does: without the state database or its lock."""
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
            _record_choice(world, client.name, before)
    shown = world.judge.shown[client.name]
    bad = [
        one
        for one in ended
        if one.status == "problem"
        # If a folder has taken a file's place, only the user can resolve its conflict.
        and not any(path.startswith(f"{one.path}/") for path in shown)
    ]
    if not world.current_run.mods and bad:
        raise Violation(f"a conflict was not resolved: {bad}")
    return Report("resolve")


def _record_choice(world: World, side: str, before: dict[str, bytes]) -> None:
    """Record that the user who resolved a conflict had seen each conflict copy that is gone."""
    for name in before.keys() - world.judge.shown[side].keys():
        path = original(name)
        if path is not None:
            world.judge.user_had_seen(side, path, before[name], name)
