"""Clients, their disks, one store and one clock: the steps of a history happen here and are judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from craftsync.core.guard import DeleteLimit
from craftsync.core.retention import Retention, StoreTrash
from craftsync.engine.report import Event, IssueEvent, Report
from craftsync.engine.session import Session
from craftsync.errors import CraftsyncError, LockedError, StoreUnavailable
from craftsync.state.database import Database
from craftsync.state.pair import pair_folder
from craftsync.stores.retrying import RetryingStore
from tests.simulator.bucket import SERVERS, SimulatedBucket
from tests.simulator.client import Client, is_shown
from tests.simulator.commands import carry_out
from tests.simulator.daemon import Daemon
from tests.simulator.determinism import deterministic
from tests.simulator.disasters import STORE_ID, cut_power, strike
from tests.simulator.disk import Disk, Kernel
from tests.simulator.judge import Judge, Violation, original
from tests.simulator.objects import may_change
from tests.simulator.pages import PAGES
from tests.simulator.people import HIDDEN, act_in_folder, act_in_store
from tests.simulator.rest import CHANGES, come_to_rest
from tests.simulator.steps import (
    EXCLUDED,
    FILTERS,
    IGNORE,
    LISTED,
    OBJECTS,
    Act,
    Change,
    Crash,
    Disaster,
    Fail,
    Run,
    Step,
    Wait,
)
from tests.simulator.store import PERSONALITIES, Connection, SharedFolder, SimulatedStore, is_own
from tests.simulator.windows import TrashRetention, Windows
from tests.support.clock import FakeClock
from tests.support.serial_pool import SerialPool

Result = TypeVar("Result")
FOLDER = "folder"
"""The personality of a directory store."""
_DAEMON_DESCRIPTORS = 3
"""Its folder, that folder's lock, and a directory store."""
_CHANGING_REQUESTS = ("write", "delete", "copy", "PUT", "POST", "DELETE")
_LISTING_REQUEST = "GET … "
_PAUSES = (0.0, 0.0, 0.002, 0.02)
_PAUSES_OF_A_DAEMON = (0.0, 0.002, 0.02, 0.7)
"""The longest lets a change settle during a run, which then includes it."""
_WRITE_BACK_SECONDS = 600.0
"""Seconds after which the kernel flushes a write by itself."""


class PowerCut(BaseException):
    """Ends the process: derived from `BaseException`, so that no handler of craftsync stops it."""


class ShuffledPool(SerialPool[Result]):
    """Runs tasks one at a time, in random order."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance
        self._tasks: list[Callable[[], Result]] = []

    def submit(self, task: Callable[[], Result], **how: Any) -> None:
        self._tasks.append(task)

    def take(self, timeout: float | None = None) -> Result | None:
        result = super().take(timeout) if self._chance.random() < 0.5 else None
        if result is not None or not self._tasks:
            return super().take(timeout) if result is None else result
        super().submit(self._tasks.pop(self._chance.randrange(len(self._tasks))))
        return super().take(timeout)

    def close(self) -> None:
        """Drop tasks that have not begun; results can still be taken, as from the real pool."""
        self._tasks.clear()


class World:
    """All clients, the store and the clock. `trace` is called with a line for each effect."""

    ordered = False
    """Whether the user ordered all that the current run does, whatever either side holds."""
    conflict = "both"
    """The conflict policy of the current run."""
    effects = 0
    """How many effects craftsync had so far."""
    lost_a_state = False
    """Whether a client ever lost its state database, or a part of it."""
    has_crashed = False
    backup: Any = None
    """A backup of the store."""
    _effect_is_done = False
    """Whether the current effect has happened already."""
    _replaced_in_store: frozenset[tuple[str, bytes]] = frozenset()
    """Paths and contents that users replaced in the store during the current run."""
    _clock_was_set = False
    """Whether the wall clock was ever set, so that names in the trash may have the wrong time."""
    _checked: tuple[Any, ...] = (None, None)
    """What the folder and the store held at the last check."""

    def __init__(
        self,
        folder: Path,
        *,
        clients: int,
        personality: str,
        seed: int,
        template: Path,
        keep: Sequence[float | None] = (None,),
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.judge = Judge()
        self.windows = Windows()
        self.kernel = Kernel(self._on_disk_effect)
        self.store = self._make_store(personality)
        self.chance = Random(seed)
        self._folder = folder
        self._print_trace = trace
        self._scheduled: dict[int, list[Any]] = {}
        self._failures: list[Fail] = []
        self._effect_number = self._request_number = self._cut_pages = 0
        self._running: Client | None = None
        self._is_dead = self._power_is_cut = self._has_listed = False
        self._known_contents: set[bytes] = set()
        self._moved_folders: list[tuple[str, str]] = []
        """Folders that users moved during the current run: old and new path."""
        self._judged_files: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {}
        """By side: what it held at the last check, and the part of it that the judge saw."""
        self.damaged: dict[bytes, bytes] = {}
        """Content that went bad by itself, and what it was before."""
        self._discarded_by_users: set[bytes] = set()
        """Contents whose last copy a user replaced or removed."""
        self.clients = [
            self._make_client(number, template, keep[min(number, len(keep) - 1)])
            for number in range(clients)
        ]
        self._retention = TrashRetention(self.clock)
        self.current_run = Run(0)

    def _make_store(self, personality: str, name: str = "store") -> Any:
        """Return a simulated object store, shared folder or bucket."""
        if personality == FOLDER:
            folder = SharedFolder(self.clock, name)
            self.kernel.disks[folder.location] = folder.disk
            return folder
        if personality in SERVERS:
            return SimulatedBucket(personality, self.clock, self._on_request)
        return SimulatedStore(PERSONALITIES[personality], name)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace system calls, SQLite's writes, randomness and requests by simulated ones."""
        with ExitStack() as places:
            places.enter_context(self.kernel.installed())
            places.enter_context(PAGES.installed())
            places.enter_context(deterministic(Random(self.chance.random())))
            if isinstance(self.store, SimulatedBucket):
                places.enter_context(self.store.installed())
            yield

    @property
    def lags(self) -> bool:
        """Whether listings show the store as it was some seconds ago."""
        return isinstance(self.store, SimulatedBucket) and self.store.lags

    @property
    def hides_below(self) -> bool:
        """Whether the store lists nothing below an object; the first run that writes finds out."""
        return isinstance(self.store, SimulatedBucket) and self.store.hides_below

    @property
    def throttles(self) -> bool:
        """Whether the store rejects requests at random."""
        return isinstance(self.store, SimulatedBucket) and self.store.throttles

    def _make_client(self, number: int, template: Path, keep: float | None) -> Client:
        disk = Disk(number + 1, self.clock.now_ns, is_shown)
        client = Client(number, disk, self._folder / str(number), template, keep)
        self.kernel.disks[client.path] = disk
        state = pair_folder(client.state_dir, client.path, self.store.location)
        state.mkdir(parents=True)
        shutil.copyfile(template, state / "state.db")
        return client

    # Steps of users.

    def step(self, step: Step) -> None:
        """Carry out one step of a history."""
        match step:
            case Act():
                self.act(step)
            case Wait():
                self._wait(step)
            case Run():
                client = self.clients[step.client % len(self.clients)]
                if step.beside and not step.what:
                    self._must_be_refused_beside_daemon(client)
                else:
                    self.run(client, step)
            case Change():
                self.trace(f"{step}")
                client = self.clients[step.client % len(self.clients)]
                self.kernel.owner = client.name
                client.stop_daemon()
                client.config = step
            case Disaster():
                self.trace(f"{step}")
                for client in self.clients:
                    self.kernel.owner = client.name
                    client.stop_daemon()
                strike(self, step.what, self.clients[step.client % len(self.clients)])
                self._known_contents = self.all_contents()

    def _wait(self, step: Wait) -> None:
        self._clock_was_set = self._clock_was_set or step.jump
        (self.clock.jump if step.jump else self.clock.advance)(step.seconds)
        if step.jump:
            self._retention.clock_was_set(step.seconds, (client.name for client in self.clients))
        if step.seconds >= _WRITE_BACK_SECONDS and not step.jump:
            for disk in self.kernel.disks.values():
                disk.flush()

    def act(self, act: Act) -> None:
        """Carry out a user's change of a path, if it is possible."""
        self.trace(f"  {act}")
        self.clock.advance(self.chance.choice((0.0, 0.001, 0.03)))
        if act.what == "move all" and act.side >= 0:
            self._moved_folders.append((act.path, act.target))
        before, objects = self.all_contents(), self.store.contents()
        moved_to = objects.get(self.current_run.target)
        if act.side < 0:
            act_in_store(self, act)
        else:
            act_in_folder(self, self.clients[act.side % len(self.clients)], act)
            self._notify_daemon(self.clients[act.side % len(self.clients)], act)
        self._known_contents = self.all_contents()
        self._replaced_in_store |= objects.items() - self.store.contents().items()
        if (
            self._running
            and self.current_run.what == "mv"
            and self.store.contents().get(self.current_run.target) != moved_to
        ):
            # The move had put it there as ordered; then the user replaced it.
            self._discarded_by_users |= {moved_to} - {None}
        self._discarded_by_users |= before - self._known_contents

    def _notify_daemon(self, client: Client, act: Act) -> None:
        if client.daemon is not None:
            client.daemon.notify(act.path, gone=act.what not in ("write", "put over"))
            if act.what.startswith("move"):
                client.daemon.notify(act.target, gone=False)

    def user_changed(
        self, side: str, path: str, content: bytes | None, *, in_place: bool = False
    ) -> None:
        """Record a user's change of a path of a side."""
        self.windows.user_changed(side, path, in_place=in_place)
        self.judge.user_changed(side, path, content)

    # Runs of craftsync.

    def run(self, client: Client, plan: Run, *, force: bool = False) -> Report | None:
        """Let a client run once; return `None` if its process died or the run was aborted."""
        plan = client.configured(plan)
        self.clock.advance(1e-6)  # No two runs begin in the same microsecond.
        self.trace(f"{client.name} runs {plan}")
        self._prepare_run(plan)
        self.windows.begin_run()
        self._running = client
        self.conflict = client.config.conflict
        jumps = self._clock_was_set or any(isinstance(mod, Wait) and mod.jump for mod in plan.mods)
        hours = None if plan.what != "purge" else 0 if jumps else plan.number
        self._retention.begin_run(
            client.name, client.keep, client.files(), self.store.contents(), hours
        )
        self.kernel.owner = client.name
        try:
            report = self._carry_out(client, plan, force)
        except PowerCut:
            client.stop_daemon()
            client.last_run_was_clean = False
            self._restart(client)
            if self._power_is_cut or plan.what not in OBJECTS:
                self.windows.end_run(client.name, recorded=False, cut=self._power_is_cut)
            return None
        except CraftsyncError as error:
            self.trace(f"  broken off: {error}")
            client.stop_daemon()
            client.last_run_was_clean = False
            if not isinstance(error, StoreUnavailable):
                raise
            report = None
        finally:
            self._running = None
        self._check_end_of_run(client, plan, report)
        return report

    def _carry_out(self, client: Client, plan: Run, force: bool) -> Report:
        if plan.what:
            report = carry_out(self, client, plan)
        elif plan.daemon:
            report = self.turn_daemon(client, plan)
        else:
            report = self._run(client, plan, force)
        self._must_be_alive()
        return report

    def _check_end_of_run(self, client: Client, plan: Run, report: Report | None) -> None:
        """Check that a run left no descriptor open and broke no rule, and record what it recorded."""
        if self.kernel.open_descriptors > (0 if client.daemon is None else _DAEMON_DESCRIPTORS):
            raise Violation(f"{self.kernel.open_descriptors} descriptors are left open")
        failed = report is None or report.problems > 0
        if plan.what in OBJECTS:
            return
        if client.daemon is not None and plan.what in ("", "approve", "reject"):
            failed = failed or bool(self._failures) or not client.daemon.made_full_scan
        if plan.what.startswith(("restore", "undo", "keep")):
            # Recorded in no last synced state: to a later run it is new.
            self.windows.end_run(client.name, recorded=False, as_new=True)
        is_run = not plan.what or (plan.what == "dry run" and client.daemon is None)
        if failed or is_run:
            # No other command records what an earlier run left unrecorded.
            excluded = partial(self._may_be_excluded, client)
            self.windows.end_run(client.name, recorded=not failed, excluded=excluded)
            client.last_run_was_clean = not failed and not self._failures
            if not failed:
                synced = self.judge.paths_in_sync(client.name)
                client.without_baseline -= {path for path in synced if not excluded(path)}
        self._check_findings()
        if report is not None and is_run:
            self._note_complete_run(client, plan)

    def _check_findings(self) -> None:
        """Raise `Violation` for a broken rule, unless a window is open or a state was lost."""
        if self.lost_a_state:
            self.judge.accept_all()
        for finding in self.judge.findings():
            if (original(finding.path) or finding.path) not in self.windows.open:
                raise Violation(finding.message)

    def _note_complete_run(self, client: Client, plan: Run) -> None:
        """Record what a complete run learned. A pull writes nothing to the store, so it does not probe it."""
        client.has_pushed = client.has_pushed and plan.mode != "two-way" and not plan.delete
        if client.daemon is not None and not client.daemon.made_full_scan:
            return
        client.has_run = True
        self._retention.clock_was_seen(client.name)
        has_identity = any(name.endswith(STORE_ID) for name in self.store.backup())
        client.knows_store_identity = client.knows_store_identity or has_identity
        client.has_probed_store = client.has_probed_store or plan.mode != "pull"

    def _prepare_run(self, plan: Run) -> None:
        self._scheduled = {}
        for mod in plan.mods:
            if not isinstance(mod, Fail):
                self._scheduled.setdefault(mod.at, []).append(mod)
        self._failures = [mod for mod in plan.mods if isinstance(mod, Fail)]
        self._effect_number = self._request_number = self._cut_pages = 0
        self._has_listed = False
        self._known_contents, self.current_run = self.all_contents(), plan
        self._moved_folders.clear()
        self._replaced_in_store = frozenset()
        self.ordered = plan.what.startswith(("restore", "undo", "keep"))

    def _run(self, client: Client, plan: Run, force: bool) -> Report:
        client.stop_daemon()
        limit = DeleteLimit() if plan.limit is None else DeleteLimit(plan.limit, 0.0)
        more = {"force_delete": force, "filter": FILTERS[plan.filter], "delete_limit": limit}
        options = client.options(plan.mode, delete=plan.delete, **more)
        client.has_pushed = client.has_pushed or not options.policy.deletes
        session, ends = self.open_session(client)
        with ends:
            return session.run("sync", options, self.on_event)

    def _must_be_refused_beside_daemon(self, client: Client) -> None:
        """Try a run while a daemon runs: it must be refused and change nothing."""
        if client.daemon is None:
            return
        before = client.files(), self.store.contents()
        self.kernel.owner = client.name
        try:
            _, ends = self.open_session(client)
        except LockedError:
            if before != (client.files(), self.store.contents()):
                raise Violation("a run that was refused changed something") from None
            return
        ends.close()
        raise Violation("a run began beside a daemon")

    def turn_daemon(self, client: Client, plan: Run) -> Report:
        """Let a daemon do what is due, and start it if necessary; return the sum of its reports."""
        options = client.options(plan.mode, delete=plan.delete)
        client.has_pushed = client.has_pushed or not options.policy.deletes
        if client.daemon is None:
            session, ends = self.open_session(client)
            chance = Random(self.chance.random())
            client.daemon = Daemon(session, ends, options, self.on_event, chance)
        reports = client.daemon.turn()
        whole = Report("watch")
        for report in reports:
            for name in CHANGES:
                setattr(whole, name, getattr(whole, name) + getattr(report, name))
            whole.problems, whole.skipped, whole.held = (
                report.problems,
                report.skipped,
                report.held,
            )
            whole.conflict_copies = report.conflict_copies
        return whole

    def _must_be_alive(self) -> None:
        if self._is_dead:
            raise Violation("a run continued after the end of its process")

    def open_session(
        self, client: Client, *, read_only: bool = False, reading: bool = False
    ) -> tuple[Session, ExitStack]:
        """Open a session; return it with the stack that closes it and its store."""
        chance = Random(self.chance.random())
        store = self.connect(chance)
        ends = ExitStack()
        with ExitStack() as opening:
            opening.callback(store.close)
            session = opening.enter_context(
                Session.open(
                    client.path,
                    store,
                    state_dir=client.state_dir,
                    read_only=read_only or reading,
                    reading=reading,
                    clock=self.clock,
                    make_pool=lambda _: ShuffledPool(chance),
                )
            )
            keep = None if client.keep is None else round(client.keep * 1e9)
            session.retention = Retention(keep, store=StoreTrash.ALL)
            ends = opening.pop_all()
        return session, ends

    def connect(self, chance: Random) -> RetryingStore:
        """Return the store as a client uses it, with retries."""
        return self._connect(self.store, chance)

    def _connect(self, simulated: Any, chance: Random) -> RetryingStore:
        store = simulated.connect()
        if not isinstance(simulated, SimulatedBucket):
            store = Connection(store, self._on_request)
        return RetryingStore(store, clock=self.clock, rng=Random(chance.random()))

    def on_event(self, event: Event) -> None:
        if isinstance(event, IssueEvent):
            self.trace(f"  {event.issue} {event.path}: {event.reason}")

    def _on_disk_effect(self, what: str, is_done: bool) -> None:
        self._on_effect(what, is_done)

    def _on_request(self, operation: str, path: str, is_done: bool) -> Fail | None:
        """Handle a request of the running client, before and after it; return the failure to simulate."""
        if not is_done:
            self._request_number += 1
        if self._is_dead or operation.split()[0] in _CHANGING_REQUESTS or (is_done and not path):
            self._on_effect(f"{operation} {path}", is_done)
        for fail in () if is_done else self._failures:
            if fail.first <= self._request_number < fail.first + fail.count:
                self.trace(f"  {operation} {path} fails: {fail}")
                if fail.kind == "truncated" and f"{operation} {path}" == _LISTING_REQUEST:
                    self._cut_pages += 1
                    if self._cut_pages > 1:
                        self._hide_objects()
                return fail
        return None

    def _hide_objects(self) -> None:
        """Record that a second page in a run claims to be the last, and hides what comes after it.

        It may be the one that confirms the end of the listing. Without conditions, files of the
        running client may then overwrite what both hide: a named window.
        """
        assert self._running is not None
        if isinstance(self.store, SimulatedBucket) and not self.store.checks_conditions:
            objects, files = self.store.contents(), self._running.files()
            hidden = {
                path for path in objects.keys() & files.keys() if not path.startswith(".craftsync/")
            }
            self.windows.open |= hidden
            self._discarded_by_users |= {objects[path] for path in hidden}

    def _on_effect(self, what: str, is_done: bool) -> None:
        """Handle an effect of the running client: called before and after it.

        Checks the contents after it. Then come the user's changes, waits and crashes that the history
        schedules for this moment.
        """
        if self._running is None:
            return
        if self._is_dead:
            raise PowerCut
        if is_done:
            self.effects += not what.startswith(("GET", "list", "end of list"))
            self.trace(f"    {what}")
            self._has_listed = self._has_listed or what == _LISTING_REQUEST
            self._take_in_lost_writes()
            self._check_contents(what)
        pauses = _PAUSES if self._running.daemon is None else _PAUSES_OF_A_DAEMON
        self.clock.advance(self.chance.choice(pauses))
        self._effect_number, self._effect_is_done = self._effect_number + 1, is_done
        for mod in self._scheduled.pop(self._effect_number, ()):
            if isinstance(mod, Act) and self._is_in_a_window(mod, what):
                self._scheduled.setdefault(self._effect_number + 1, []).append(mod)
            elif isinstance(mod, Act):
                self.act(mod)
            elif isinstance(mod, Wait):
                self._wait(mod)
            else:
                self._die(mod)

    def _is_in_a_window(self, act: Act, what: str) -> bool:
        """Return whether craftsync is documented to miss a user's change at this moment.

        The change then waits for the next effect.
        """
        is_on_disk = " " not in what
        if act.side >= 0:
            # A window of microseconds: only ctime shows such an edit, and a rename moves ctime.
            return is_on_disk and act.how in HIDDEN
        if not isinstance(self.store, SimulatedBucket):
            return False
        if self.current_run.what in OBJECTS:
            assert self._running is not None
            is_conditional = self._running.has_probed_store and self.store.checks_conditions
            is_missed = (
                self.current_run.what == "put"
                or not is_conditional
                or self._is_being_copied_over(act.path, what)
            )
            return act.path in may_change(self.current_run) and is_missed
        return not self.store.checks_conditions and not self._will_be_noticed(act, what)

    def _is_being_copied_over(self, path: str, what: str) -> bool:
        """Return whether a copy, which is unconditional, is about to replace the object at a path."""
        objects, run = self.store.contents(), self.current_run
        if run.what not in ("cp", "mv") or path != run.target or path not in objects:
            return False
        is_its_end = self._effect_is_done and what.endswith(f" {path}")
        has_ended = is_its_end and objects[path] == objects.get(run.path)
        return what.startswith(("PUT", "POST")) and not has_ended

    def _will_be_noticed(self, act: Act, what: str) -> bool:
        """Return whether a run stats the path of an act after this effect, in a store without conditions."""
        if self._has_listed and act.path not in self.store.contents():
            return False  # The listing showed nothing there, so it is not checked again.
        return " " not in what or what.startswith("GET")

    def _take_in_lost_writes(self) -> None:
        """Record each write that a server acknowledged and lost as one that a user took back at once."""
        if isinstance(self.store, SimulatedBucket):
            for path, content, held in self.store.lost_writes:
                before = held and self.damaged.get(held, held)
                self.judge.craftsync_changed("store", {**self.judge.shown["store"], path: content})
                self.judge.user_had_seen(
                    "store", path, before
                )  # It may be in a conflict copy, too.
                self.user_changed("store", path, before)
            self.store.lost_writes.clear()

    def _check_contents(self, what: str) -> None:
        """Check after an effect that no content is lost, then let the judge see both sides."""
        assert self._running is not None
        files, objects = self._running.files(), self.store.contents()
        if files is self._checked[0] and objects is self._checked[1]:
            return
        self._checked = files, objects
        contents = {*files.values(), *objects.values()}
        lost = self._known_contents - contents - self._discarded_by_users
        if lost and (lost := lost - self.all_contents()):
            lost = {content for content in lost if not self._retention.has_ended(content)}
        if lost:
            raise Violation(f"lost in {what}: {sorted(lost)}")
        self._retention.update(files, objects)
        self._known_contents = contents
        self._judge_sides(self._running, files, objects)

    def _judge_sides(
        self, client: Client, files: dict[str, bytes], objects: dict[str, bytes]
    ) -> None:
        folder, mode = client.name, self.current_run.mode
        shown = {folder: self._as_judged(folder, files), "store": self._as_judged("store", objects)}
        source = {"push": folder, "pull": "store"}.get(mode)
        for side, now in shown.items():
            changed = self.judge.changed_paths(side, now)
            if changed and side == source:
                raise Violation(f"a {mode} changed {changed} of {side}")
            if self.current_run.what in OBJECTS:
                self._judge_objects(side, changed, now)
                continue
            for path in changed:
                is_local = side == folder
                if is_local and (before := self._path_before_move(folder, path, now.get(path))):
                    if path in now:
                        self.judge.user_had_seen(folder, before, now[path])
                    self.user_changed(folder, path, now.get(path))
                    continue
                self.windows.craftsync_changed(client.name, path)
                if self.current_run.what in ("", "dry run") and self._is_excluded(client, path):
                    raise Violation(f"a {mode} changed {path} of {side}, which is excluded")
                if source is not None and path not in now and not self.current_run.delete:
                    raise Violation(f"a {mode} deleted {path} of {side} without --delete")
            self.judge.craftsync_changed(
                side,
                now,
                by=client.name,
                ordered=source is not None or self.ordered,
                chooses=self.conflict != "both",
                without_baseline=client.without_baseline,
                settles=self.current_run.what.startswith("keep"),
            )

    def _is_excluded(self, client: Client, path: str) -> bool:
        """Return whether the configuration or the list of the current run excludes a path."""
        if any(EXCLUDED[one](path) for one in client.config.exclude):
            return True
        return self.current_run.filter == "list" and LISTED.entry_of(path) is None

    def _may_be_excluded(self, client: Client, path: str) -> bool:
        """Return whether the current run may have excluded a path; any ignore file counts, unread."""
        has_rules = any(name.endswith(IGNORE[0]) for name in client.files())
        return has_rules or self._is_excluded(client, path)

    def _path_before_move(self, side: str, path: str, content: bytes | None) -> str:
        """Return the path of a download or a delete before a user moved its folder; "" if none moved.

        The step counts as if it had ended just before the move.
        """
        stored = self.judge.shown["store"]
        for old, new in self._moved_folders:
            before = old + path.removeprefix(new)
            if not path.startswith(f"{new}/"):
                continue
            if content is None:
                gone = self.judge.shown[side][path]
                if self.judge.was_deleted("store", before, gone):
                    return before
            elif stored.get(before) == content or (before, content) in self._replaced_in_store:
                return before
        return ""

    def _as_judged(self, side: str, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return what the judge sees of a side: user files only, and damaged ones as they were before."""
        held, shown = self._judged_files.get(side, (None, {}))
        if held is not files or self.damaged:
            shown = {path: content for path, content in files.items() if not is_own(path)}
            self._judged_files[side] = files, shown
        if self.damaged:
            shown = {path: self.damaged.get(one, one) for path, one in shown.items()}
        return shown

    def _judge_objects(self, side: str, changed: list[str], now: dict[str, bytes]) -> None:
        """Record what a command did to single objects as the user's own change."""
        for path in changed:
            if side != "store" or path not in may_change(self.current_run):
                raise Violation(f"{self.current_run} changed {path} of {side}")
            if (content := now.get(path)) not in (None, *self.judge.written):
                raise Violation(f"torn: {side} shows {content!r} at {path}")
            self.user_changed(side, path, content)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Suspend failures and scheduled changes, so that the judge can query the store."""
        failures, self._failures, running, self._running = self._failures, [], self._running, None
        try:
            yield
        finally:
            self._failures, self._running = failures, running

    def accept_contents(self) -> None:
        """Accept the current contents as the ones to keep."""
        self._checked = (None, None)
        self._known_contents = self.all_contents()

    def snapshot(self, client: Client) -> tuple[object, ...]:
        """Return what a read-only command must leave unchanged."""
        return client.disk.changes, client.files(), dict(self.store.contents())

    def all_contents(self) -> set[bytes]:
        found = set(self.store.contents().values())
        for client in self.clients:
            found.update(client.files().values())
        return found

    def _die(self, crash: Crash) -> None:
        """End the current process with its descriptors and locks; a power cut takes unflushed writes too."""
        client = self._running
        assert client is not None
        self.trace(f"  {'the power is cut' if crash.cut else 'the process is killed'}")
        self._power_is_cut = crash.cut
        self._is_dead = self.has_crashed = True
        state, saved = self.state_folder(client), self._folder / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(state, saved)
        if crash.cut:
            PAGES.lose_unflushed(state, saved, self.chance)
        raise PowerCut

    def state_folder(self, client: Client) -> Path:
        return pair_folder(client.state_dir, client.path, self.store.location)

    def _restart(self, client: Client) -> None:
        state = self.state_folder(client)
        shutil.rmtree(state)
        PAGES.forget(state)
        shutil.copytree(self._folder / "saved", state)
        with suppress(FileNotFoundError):
            (state / "state.db-shm").unlink()
        self.kernel.end_process()
        self._is_dead = False
        if self._power_is_cut:
            cut_power(self, client)
            self._retention.machine_restarted(client.name)
            self._known_contents = self.all_contents()

    def settle(self) -> None:
        come_to_rest(self)

    def trace(self, line: str) -> None:
        if self._print_trace is not None:
            self._print_trace(line)


def make_template(path: Path) -> Path:
    """Make an empty state database, which is copied for each client."""
    Database.open(path).close()
    return path
