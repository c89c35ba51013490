"""Clients, their disks, one store and one clock: where the steps of a history happen and are judged."""

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
from tests.simulator.commands import carried_out
from tests.simulator.daemon import Life
from tests.simulator.determinism import seeded
from tests.simulator.disasters import STORE_ID, cut_power, happens
from tests.simulator.disk import Disk, Kernel
from tests.simulator.judge import Judge, Wrong, original
from tests.simulator.objects import named
from tests.simulator.pages import PAGES
from tests.simulator.people import HIDDEN, act_in_folder, act_in_store
from tests.simulator.rest import COUNTED, come_to_rest
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
from tests.simulator.windows import TrashWatch, Windows
from tests.support.clock import FakeClock
from tests.support.serial_pool import SerialPool

Result = TypeVar("Result")
FOLDER = "folder"
"""The personality that is no object store."""
_OF_A_DAEMON = 3
"""Descriptors: its folder, that folder's lock, and a directory store."""
_CHANGING = ("write", "delete", "copy", "PUT", "POST", "DELETE")
_LISTING = "GET … "
_PAUSES = (0.0, 0.0, 0.002, 0.02)
_PAUSES_OF_A_DAEMON = (0.0, 0.002, 0.02, 0.7)
"""Long enough for a change to settle while a run is under way, which then takes it in."""
_WRITTEN_BACK = 600.0
"""Seconds after which a kernel has written to the disk what nobody flushed."""


class PowerCut(BaseException):
    """The process ends here: nothing handles it on the way."""


class ShuffledPool(SerialPool[Result]):
    """Runs tasks one at a time, in an order that chance decides."""

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
        """Drop what has not begun; what has ended can still be taken, as from the real pool."""
        self._tasks.clear()


class World:
    """Everything there is. `trace` gets a line for each effect, where somebody wants to read it."""

    ordered = False
    """What the run under way does to both sides is what a person asked for, whatever is there."""
    conflict = "both"
    """Which version the run under way chooses."""
    effects = 0
    forgets = False
    """A last synced state, or the memory of a write, has been lost."""
    crashed = False
    backup: Any = None
    _is_after = False
    """The effect that is met is done."""
    _stood: frozenset[tuple[str, bytes]] = frozenset()
    """What people replaced in the store in the run under way."""
    _jumped = False
    """The wall clock was set, and names in the trash may lie."""
    _looked_at: tuple[Any, ...] = (None, None)

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
        self.kernel = Kernel(self._on_disk)
        self.store = self._made_store(personality)
        self.chance = Random(seed)
        self._folder = folder
        self._trace = trace
        self._plan: dict[int, list[Any]] = {}
        self._fails: list[Fail] = []
        self._at = self._requests = 0
        self._running: Client | None = None
        self._dead = self._cut = self._has_listed = False
        self._contents: set[bytes] = set()
        self._moved_folders: list[tuple[str, str]] = []
        """In the run under way."""
        self._seen: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {}
        """What each side held when the judge saw it last, and what of that it saw."""
        self.damaged: dict[bytes, bytes] = {}
        """What went bad by itself, and what it was."""
        self._given_up: set[bytes] = set()
        """Contents whose last copy a person replaced or removed."""
        self.clients = [
            self._client(number, template, keep[min(number, len(keep) - 1)])
            for number in range(clients)
        ]
        self._trash = TrashWatch(self.clock)
        self.now = Run(0)
        """The run under way."""

    def _made_store(self, personality: str, name: str = "store") -> Any:
        """Return a `SimulatedStore`, or what stands in its place."""
        if personality == FOLDER:
            folder = SharedFolder(self.clock, name)
            self.kernel.disks[folder.location] = folder.disk
            return folder
        if personality in SERVERS:
            return SimulatedBucket(personality, self.clock, self._request)
        return SimulatedStore(PERSONALITIES[personality], name)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the place of the machine craftsync runs on."""
        with ExitStack() as places:
            places.enter_context(self.kernel.installed())
            places.enter_context(PAGES.installed())
            places.enter_context(seeded(Random(self.chance.random())))
            if isinstance(self.store, SimulatedBucket):
                places.enter_context(self.store.installed())
            yield

    @property
    def lags(self) -> bool:
        """Whether listings show what was there some seconds ago."""
        return isinstance(self.store, SimulatedBucket) and self.store.lags

    @property
    def hides_below(self) -> bool:
        """Whether the store lists nothing below an object, which the first run that writes finds out."""
        return isinstance(self.store, SimulatedBucket) and self.store.hides_below

    @property
    def throttles(self) -> bool:
        """Whether the store turns requests away."""
        return isinstance(self.store, SimulatedBucket) and self.store.throttles

    def _client(self, number: int, template: Path, keep: float | None) -> Client:
        disk = Disk(number + 1, self.clock.now_ns, is_shown)
        client = Client(number, disk, self._folder / str(number), template, keep)
        self.kernel.disks[client.path] = disk
        state = pair_folder(client.state_dir, client.path, self.store.location)
        state.mkdir(parents=True)
        shutil.copyfile(template, state / "state.db")
        return client

    # What people do.

    def step(self, step: Step) -> None:
        """Let one step of a history happen."""
        match step:
            case Act():
                self.act(step)
            case Wait():
                self._wait(step)
            case Run():
                client = self.clients[step.client % len(self.clients)]
                if step.beside and not step.what:
                    self._be_refused_beside(client)
                else:
                    self.run(client, step)
            case Change():
                self.say(f"{step}")
                client = self.clients[step.client % len(self.clients)]
                self.kernel.owner = client.name
                client.end_life()
                client.config = step
            case Disaster():
                self.say(f"{step}")
                for client in self.clients:
                    self.kernel.owner = client.name
                    client.end_life()
                happens(self, step.what, self.clients[step.client % len(self.clients)])
                self._contents = self.all_contents()

    def _wait(self, step: Wait) -> None:
        self._jumped = self._jumped or step.jump
        (self.clock.jump if step.jump else self.clock.advance)(step.seconds)
        if step.jump:
            self._trash.clock_set(step.seconds, (client.name for client in self.clients))
        if step.seconds >= _WRITTEN_BACK and not step.jump:
            for disk in self.kernel.disks.values():
                disk.flush()

    def act(self, act: Act) -> None:
        """Do what a person does to a path; nothing where it cannot be done."""
        self.say(f"  {act}")
        self.clock.advance(self.chance.choice((0.0, 0.001, 0.03)))
        if act.what == "move all" and act.side >= 0:
            self._moved_folders.append((act.path, act.target))
        before, there = self.all_contents(), self.store.contents()
        moved_to = there.get(self.now.target)
        if act.side < 0:
            act_in_store(self, act)
        else:
            act_in_folder(self, self.clients[act.side % len(self.clients)], act)
            self._let_hear(self.clients[act.side % len(self.clients)], act)
        self._contents = self.all_contents()
        self._stood |= there.items() - self.store.contents().items()
        if (
            self._running
            and self.now.what == "mv"
            and self.store.contents().get(self.now.target) != moved_to
        ):
            # It is there, as it was asked for; what becomes of it after that is the other program's.
            self._given_up |= {moved_to} - {None}
        self._given_up |= before - self._contents

    def _let_hear(self, client: Client, act: Act) -> None:
        if client.life is not None:
            client.life.hear(act.path, gone=act.what not in ("write", "put over"))
            if act.what.startswith("move"):
                client.life.hear(act.target, gone=False)

    def person(
        self, side: str, path: str, content: bytes | None, *, in_place: bool = False
    ) -> None:
        """Tell what somebody did at a path of a side."""
        self.windows.person(side, path, in_place=in_place)
        self.judge.person(side, path, content)

    # What craftsync does.

    def run(self, client: Client, plan: Run, *, force: bool = False) -> Report | None:
        """Let a client run once; `None` when the process died, or the run was broken off."""
        plan = client.configured(plan)
        self.say(f"{client.name} runs {plan}")
        self._begin(plan)
        self.windows.run_begins()
        self._running = client
        self.conflict = client.config.conflict
        jumps = self._jumped or any(isinstance(mod, Wait) and mod.jump for mod in plan.mods)
        hours = None if plan.what != "purge" else 0 if jumps else plan.number
        self._trash.begin(client.name, client.keep, client.files(), self.store.contents(), hours)
        self.kernel.owner = client.name
        try:
            report = self._carried_out(client, plan, force)
        except PowerCut:
            client.end_life()
            client.is_settled = False
            self._restart(client)
            if self._cut or plan.what not in OBJECTS:
                self.windows.run_ended(client.name, recorded=False, cut=self._cut)
            return None
        except CraftsyncError as error:
            self.say(f"  broken off: {error}")
            client.end_life()
            client.is_settled = False
            if not isinstance(error, StoreUnavailable):
                raise
            report = None
        finally:
            self._running = None
        self._ended(client, plan, report)
        return report

    def _carried_out(self, client: Client, plan: Run, force: bool) -> Report:
        if plan.what:
            report = carried_out(self, client, plan)
        elif plan.daemon:
            report = self.turn(client, plan)
        else:
            report = self._run(client, plan, force)
        self._must_be_alive()
        return report

    def _ended(self, client: Client, plan: Run, report: Report | None) -> None:
        """See that a run left nothing open, and did nothing without a rule."""
        if self.kernel.open_descriptors > (0 if client.life is None else _OF_A_DAEMON):
            raise Wrong(f"{self.kernel.open_descriptors} descriptors are left open")
        failed = report is None or report.problems > 0
        if plan.what in OBJECTS:
            return
        if client.life is not None and plan.what in ("", "approve", "reject"):
            failed = failed or bool(self._fails) or not client.life.looked_at_everything
        if plan.what.startswith(("restore", "undo", "keep")):
            # No last synced state knows of it: to a later run it is new.
            self.windows.run_ended(client.name, recorded=False, as_new=True)
        is_run = not plan.what or (plan.what == "dry run" and client.life is None)
        if failed or is_run:
            # No other command puts right what an earlier run left.
            left_out = partial(self._may_be_left_out, client)
            self.windows.run_ended(client.name, recorded=not failed, left_out=left_out)
            client.is_settled = not failed and not self._fails
            client.forgotten -= set() if failed else self.judge.in_sync(client.name)
        if self.forgets:
            self.judge.forget()
        for finding in self.judge.findings():
            if (original(finding.path) or finding.path) not in self.windows.open:
                raise Wrong(finding.words)
        if report is not None and is_run:
            self._note_knowledge(client, plan)

    def _note_knowledge(self, client: Client, plan: Run) -> None:
        """Note what a client knows once a run ended; a pull writes nothing into a store, and so tries nothing out."""
        client.has_pushed = client.has_pushed and plan.mode != "two-way" and not plan.delete
        if client.life is not None and not client.life.looked_at_everything:
            return
        client.has_run = True
        self._trash.clock_seen(client.name)
        has_identity = any(name.endswith(STORE_ID) for name in self.store.saved())
        client.knows_store = client.knows_store or has_identity
        client.has_tried_store = client.has_tried_store or plan.mode != "pull"

    def _begin(self, plan: Run) -> None:
        self._plan = {}
        for mod in plan.mods:
            if not isinstance(mod, Fail):
                self._plan.setdefault(mod.at, []).append(mod)
        self._fails = [mod for mod in plan.mods if isinstance(mod, Fail)]
        self._at = self._requests = 0
        self._has_listed = False
        self._contents, self.now = self.all_contents(), plan
        self._moved_folders.clear()
        self._stood = frozenset()
        self.ordered = plan.what.startswith(("restore", "undo", "keep"))

    def _run(self, client: Client, plan: Run, force: bool) -> Report:
        client.end_life()
        limit = DeleteLimit() if plan.limit is None else DeleteLimit(plan.limit, 0.0)
        more = {"force_delete": force, "filter": FILTERS[plan.filter], "delete_limit": limit}
        options = client.options(plan.mode, delete=plan.delete, **more)
        client.has_pushed = client.has_pushed or not options.policy.deletes
        session, ends = self.opened(client)
        with ends:
            return session.run("sync", options, self.listen)

    def _be_refused_beside(self, client: Client) -> None:
        """Try a run while the daemon lives: nothing may happen, and the daemon goes on."""
        if client.life is None:
            return
        before = client.files(), self.store.contents()
        self.kernel.owner = client.name
        try:
            _, ends = self.opened(client)
        except LockedError:
            if before != (client.files(), self.store.contents()):
                raise Wrong("a run that was refused changed something") from None
            return
        ends.close()
        raise Wrong("a run began beside a daemon")

    def turn(self, client: Client, plan: Run) -> Report:
        """Let a daemon do what is due; return what its runs came to."""
        options = client.options(plan.mode, delete=plan.delete)
        client.has_pushed = client.has_pushed or not options.policy.deletes
        if client.life is None:
            session, ends = self.opened(client)
            chance = Random(self.chance.random())
            client.life = Life(session, ends, options, self.listen, chance)
        reports = client.life.turn()
        whole = Report("watch")
        for report in reports:
            for name in COUNTED:
                setattr(whole, name, getattr(whole, name) + getattr(report, name))
            whole.problems, whole.skipped, whole.held = (
                report.problems,
                report.skipped,
                report.held,
            )
            whole.conflict_copies = report.conflict_copies
        return whole

    def _must_be_alive(self) -> None:
        if self._dead:
            raise Wrong("a run went on after the end of its process")

    def opened(
        self, client: Client, *, read_only: bool = False, reading: bool = False
    ) -> tuple[Session, ExitStack]:
        """Open a session; the stack closes it and its store."""
        chance = Random(self.chance.random())
        store = self.connected(chance)
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

    def connected(self, chance: Random) -> RetryingStore:
        """Return the store as a client uses it."""
        return self._connected(self.store, chance)

    def _connected(self, there: Any, chance: Random) -> RetryingStore:
        store = there.connect()
        if not isinstance(there, SimulatedBucket):
            store = Connection(store, self._request)
        return RetryingStore(store, clock=self.clock, rng=Random(chance.random()))

    def listen(self, event: Event) -> None:
        if isinstance(event, IssueEvent):
            self.say(f"  {event.issue} {event.path}: {event.reason}")

    def _on_disk(self, what: str, is_done: bool) -> None:
        self._effect(what, is_done)

    def _request(self, operation: str, path: str, is_done: bool) -> Fail | None:
        """Meet a request of the running client before and after it; return what is to go wrong with it."""
        if not is_done:
            self._requests += 1
        if self._dead or operation.split()[0] in _CHANGING or (is_done and not path):
            self._effect(f"{operation} {path}", is_done)
        for fail in () if is_done else self._fails:
            if fail.first <= self._requests < fail.first + fail.count:
                self.say(f"  {operation} {path} fails: {fail}")
                return fail
        return None

    def _effect(self, what: str, is_done: bool) -> None:
        """Meet an effect of the running client, before it and after it."""
        if self._running is None:
            return
        if self._dead:
            raise PowerCut
        if is_done:
            self.effects += not what.startswith(("GET", "list", "end of list"))
            self.say(f"    {what}")
            self._has_listed = self._has_listed or what == _LISTING
            self._hear_lies()
            self._look(what)
        pauses = _PAUSES if self._running.life is None else _PAUSES_OF_A_DAEMON
        self.clock.advance(self.chance.choice(pauses))
        self._at, self._is_after = self._at + 1, is_done
        for mod in self._plan.pop(self._at, ()):
            if isinstance(mod, Act) and self._is_in_a_window(mod, what):
                self._plan.setdefault(self._at + 1, []).append(mod)
            elif isinstance(mod, Act):
                self.act(mod)
            elif isinstance(mod, Wait):
                self._wait(mod)
            else:
                self._die(mod)

    def _is_in_a_window(self, act: Act, what: str) -> bool:
        """Tell whether what somebody does just now is known to go unseen; it is done at the next effect instead."""
        is_on_disk = " " not in what
        if act.side >= 0:
            # Some microseconds: a rename moves ctime, by which alone such an edit shows.
            return is_on_disk and act.how in HIDDEN
        if not isinstance(self.store, SimulatedBucket):
            return False
        if self.now.what in OBJECTS:
            assert self._running is not None
            learned = self._running.has_tried_store and self.store.checks_conditions
            unseen = self.now.what == "put" or not learned or self._copies_over(act.path, what)
            return act.path in named(self.now) and unseen
        return not self.store.checks_conditions and not self._is_noticed(act, what)

    def _copies_over(self, path: str, what: str) -> bool:
        """Tell whether a copy, which knows no condition, is about to replace what is at a path."""
        there = self.store.contents()
        if self.now.what not in ("cp", "mv") or path != self.now.target or path not in there:
            return False
        is_its_end = self._is_after and what.endswith(f" {path}")
        has_ended = is_its_end and there[path] == there.get(self.now.path)
        return what.startswith(("PUT", "POST")) and not has_ended

    def _is_noticed(self, act: Act, what: str) -> bool:
        """Tell whether a store that checks no conditions is looked at after this effect, at the path of an act."""
        if self._has_listed and act.path not in self.store.contents():
            return False  # A listing stands in for the look where nothing was.
        return " " not in what or what.startswith("GET")

    def _hear_lies(self) -> None:
        """A write that a server acknowledged and lost is as one that somebody took back at once."""
        if isinstance(self.store, SimulatedBucket):
            for path, content, held in self.store.lied:
                was = held and self.damaged.get(held, held)
                self.judge.craftsync("store", {**self.judge.shown["store"], path: content})
                self.judge.settled("store", path, was)  # Of a conflict a copy is there, too.
                self.person("store", path, was)
            self.store.lied.clear()

    def _look(self, what: str) -> None:
        assert self._running is not None
        files, there = self._running.files(), self.store.contents()
        if files is self._looked_at[0] and there is self._looked_at[1]:
            return
        self._looked_at = files, there
        contents = {*files.values(), *there.values()}
        lost = self._contents - contents - self._given_up
        if lost and (lost := lost - self.all_contents()):
            lost = {content for content in lost if not self._trash.has_ended(content)}
        if lost:
            raise Wrong(f"lost in {what}: {sorted(lost)}")
        self._trash.look(files, there)
        self._contents = contents
        self._judge_sides(self._running, files, there)

    def _judge_sides(
        self, client: Client, files: dict[str, bytes], there: dict[str, bytes]
    ) -> None:
        here, by, mode = client.name, client.name, self.now.mode
        shown = {here: self._shown(here, files), "store": self._shown("store", there)}
        source = {"push": here, "pull": "store"}.get(mode)
        for side, now in shown.items():
            changed = self.judge.changed(side, now)
            if changed and side == source:
                raise Wrong(f"a {mode} changed {changed} of {side}")
            if self.now.what in OBJECTS:
                self._judge_objects(side, changed, now)
                continue
            for path in changed:
                if side == here and (
                    before := self._before_its_folder_moved(here, path, now.get(path))
                ):
                    if path in now:
                        self.judge.settled(here, before, now[path])
                    self.person(here, path, now.get(path))
                    continue
                self.windows.craftsync(by, path)
                if self.now.what in ("", "dry run") and self._is_left_out(client, path):
                    raise Wrong(f"a {mode} changed {path} of {side}, which it leaves out")
                if source is not None and path not in now and not self.now.delete:
                    raise Wrong(f"a {mode} deleted {path} of {side} without --delete")
            self.judge.craftsync(
                side,
                now,
                by=by,
                ordered=source is not None or self.ordered,
                chooses=self.conflict != "both",
                forgotten=client.forgotten,
                settles=self.now.what.startswith("keep"),
            )

    def _is_left_out(self, client: Client, path: str) -> bool:
        """Tell whether the run under way must not touch a path: the configuration excludes it, or a list does."""
        if any(EXCLUDED[one](path) for one in client.config.exclude):
            return True
        return self.now.filter == "list" and LISTED.entry_of(path) is None

    def _may_be_left_out(self, client: Client, path: str) -> bool:
        """Tell whether the run under way may not have looked at a path: ignore files are not read here."""
        has_rules = any(name.endswith(IGNORE[0]) for name in client.files())
        return has_rules or self._is_left_out(client, path)

    def _before_its_folder_moved(self, here: str, path: str, content: bytes | None) -> str:
        """Return where a download or a delete would have been if it had ended right before its folder was moved."""
        there = self.judge.shown["store"]
        for old, new in self._moved_folders:
            before = old + path.removeprefix(new)
            if not path.startswith(f"{new}/"):
                continue
            if content is None:
                gone = self.judge.shown[here][path]
                if self.judge.was_deleted("store", before, gone):
                    return before
            elif there.get(before) == content or (before, content) in self._stood:
                return before
        return ""

    def _shown(self, side: str, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return what the judge sees of a side: what went bad by itself stands for what it was."""
        held, shown = self._seen.get(side, (None, {}))
        if held is not files or self.damaged:
            shown = {path: content for path, content in files.items() if not is_own(path)}
            self._seen[side] = files, shown
        if self.damaged:
            shown = {path: self.damaged.get(one, one) for path, one in shown.items()}
        return shown

    def _judge_objects(self, side: str, changed: list[str], now: dict[str, bytes]) -> None:
        """Take what a command did to single objects for what a person did to them."""
        for path in changed:
            if side != "store" or path not in named(self.now):
                raise Wrong(f"{self.now} changed {path} of {side}")
            if (content := now.get(path)) not in (None, *self.judge.written):
                raise Wrong(f"torn: {side} shows {content!r} at {path}")
            self.person(side, path, content)

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Let the judge ask the store: nothing fails meanwhile, and nobody does anything."""
        fails, self._fails, running, self._running = self._fails, [], self._running, None
        try:
            yield
        finally:
            self._fails, self._running = fails, running

    def refresh(self) -> None:
        """Take what there is now for what there was."""
        self._looked_at = (None, None)
        self._contents = self.all_contents()

    def all_there_is(self, client: Client) -> tuple[object, ...]:
        """Return what must be the same after a command that only looks."""
        return client.disk.changes, client.files(), dict(self.store.contents())

    def all_contents(self) -> set[bytes]:
        found = set(self.store.contents().values())
        for client in self.clients:
            found.update(client.files().values())
        return found

    def _die(self, crash: Crash) -> None:
        """End the process here: its memory, descriptors and locks are gone; a power cut loses more."""
        client = self._running
        assert client is not None
        self.say(f"  {'the power is cut' if crash.cut else 'the process is killed'}")
        self._cut = crash.cut
        self._dead = self.crashed = True
        state, saved = self.state_of(client), self._folder / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(state, saved)
        if crash.cut:
            PAGES.lose(state, saved, self.chance)
        raise PowerCut

    def state_of(self, client: Client) -> Path:
        return pair_folder(client.state_dir, client.path, self.store.location)

    def _restart(self, client: Client) -> None:
        state = self.state_of(client)
        shutil.rmtree(state)
        PAGES.forget(state)
        shutil.copytree(self._folder / "saved", state)
        with suppress(FileNotFoundError):
            (state / "state.db-shm").unlink()
        self.kernel.end_process()
        self._dead = False
        if self._cut:
            cut_power(self, client)
            self._trash.restarted(client.name)
            self._contents = self.all_contents()

    def settle(self) -> None:
        come_to_rest(self)

    def say(self, line: str) -> None:
        if self._trace is not None:
            self._trace(line)


def make_template(path: Path) -> Path:
    """Make an empty state database once, to be copied for each client."""
    Database.open(path).close()
    return path
