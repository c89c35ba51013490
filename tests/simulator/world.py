"""Clients, their disks, one store and one clock: where the steps of a history happen and are judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from craftsync.clock import iso
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import OWN_FOLDER, Mode, Policy
from craftsync.core.retention import Retention, StoreTrash
from craftsync.engine.report import Event, IssueEvent, Options, Report
from craftsync.engine.review import inspect
from craftsync.engine.session import Session
from craftsync.errors import CraftsyncError, LockedError, StoreUnavailable
from craftsync.state.database import Database
from craftsync.state.pair import pair_folder
from craftsync.stores.retrying import RetryingStore
from tests.simulator.bucket import SERVERS, SimulatedBucket
from tests.simulator.commands import carried_out
from tests.simulator.daemon import RESCAN_SECONDS, Life
from tests.simulator.determinism import seeded
from tests.simulator.disasters import cut_power, happens
from tests.simulator.disk import Disk, Inode, Kernel
from tests.simulator.judge import Judge, Wrong, original
from tests.simulator.pages import PAGES
from tests.simulator.steps import (
    FILTERS,
    LISTED,
    STORE,
    Act,
    Crash,
    Disaster,
    Fail,
    Run,
    Step,
    Wait,
    are_at_odds,
)
from tests.simulator.store import PERSONALITIES, Connection, SharedFolder, SimulatedStore, is_own
from tests.simulator.windows import TrashWatch, Windows
from tests.support.clock import FakeClock
from tests.support.serial_pool import SerialPool
from tests.support.world import Bytes

Result = TypeVar("Result")
FOLDER = "folder"
"""The personality that is no object store."""
OLD_TIME = 1_600_000_000_000_000_000
_HIDDEN = ("old time", "same time")
_TRASH = f"{OWN_FOLDER}/trash/"
_TICK_NS = 10_000_000
_OF_A_DAEMON = 3
"""Descriptors: its folder, that folder's lock, and a directory store."""
_CHANGING = ("write", "delete", "copy", "PUT", "POST", "DELETE")
_LISTING = "GET … "
_PAUSES = (0.0, 0.0, 0.002, 0.02)
_PAUSES_OF_A_DAEMON = (0.0, 0.002, 0.02, 0.7)
"""Long enough for a change to settle while a run is under way, which then takes it in."""
_WRITTEN_BACK = 600.0
"""Seconds after which a kernel has written to the disk what nobody flushed."""
_OF_AN_IDLE_RUN = 4
"""Effects of a run without anything to do: it takes its locks."""
_COUNTED = (
    *("uploaded", "downloaded", "moved", "copied", "conflicts"),
    *("deleted_remote", "deleted_local"),
)
"""Figures of a report that say that something changed."""
_CYCLES = 4
"""Runs of each client within which everything must be at rest."""


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


class Client:
    """One folder with its disk and its state."""

    def __init__(
        self, number: int, disk: Disk, state_dir: Path, template: Path, keep: float | None
    ) -> None:
        self.name = f"client {number}"
        self.path = f"/simulated/{number}"
        self.disk = disk
        self.state_dir = state_dir
        self.template = template
        self.keep = keep
        """Seconds for which it keeps what it displaced."""
        self.has_run = False
        self.has_pushed = False
        """It has recorded uploads without waiting for the disk, as runs do that delete nothing."""
        self.life: Life | None = None
        self.plan = ""
        """The last one it wrote."""
        self.is_settled = False
        """Its last run came to its end, and nothing was in its way."""
        self._shown: tuple[int, dict[str, bytes]] = (-1, {})

    def end_life(self) -> None:
        """Stop its daemon, if it has one."""
        if self.life is not None:
            self.life.close()
            self.life = None

    def files(self) -> dict[str, bytes]:
        """Return all that can be had from the folder, files and the trash: the same dictionary while nothing changes."""
        if self._shown[0] != self.disk.changes:
            shown = {
                path: inode.data
                for path, inode in self.disk.files()
                if path.startswith(_TRASH) or not is_own(path)
            }
            self._shown = self.disk.changes, shown
        return self._shown[1]


class World:
    """Everything there is. `trace` gets a line for each effect, where somebody wants to read it."""

    ordered = False
    """What the run under way does to both sides is what a person asked for, whatever is there."""
    backup: Any = None
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
        self.effects = 0
        self.forgets = False
        """A last synced state, or the memory of a write, has been lost."""
        self.crashed = False
        self.chance = Random(seed)
        self._folder = folder
        self._trace = trace
        self._plan: dict[int, list[Any]] = {}
        self._fails: list[Fail] = []
        self._at = self._requests = 0
        self._running: Client | None = None
        self._dead = self._cut = self._has_listed = False
        self._contents: set[bytes] = set()
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
            folder = SharedFolder(Disk(99 + len(name), self.clock.now_ns), name)
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

    def _client(self, number: int, template: Path, keep: float | None) -> Client:
        disk = Disk(number + 1, self.clock.now_ns)
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
                if step.beside:
                    self._be_refused_beside(client)
                else:
                    self.run(client, step)
            case Disaster():
                self.say(f"{step}")
                for client in self.clients:
                    self.kernel.owner = client.name
                    client.end_life()
                happens(self, step.what, self.clients[step.client % len(self.clients)])
                self._contents = self.all_contents()

    def _wait(self, step: Wait) -> None:
        (self.clock.jump if step.jump else self.clock.advance)(step.seconds)
        if step.seconds >= _WRITTEN_BACK and not step.jump:
            for disk in self.kernel.disks.values():
                disk.flush()

    def act(self, act: Act) -> None:
        """Do what a person does to a path; nothing where it cannot be done."""
        self.say(f"  {act}")
        self.clock.advance(self.chance.choice((0.0, 0.001, 0.03)))
        before = self.all_contents()
        if act.side < 0:
            self._act_in_store(act)
        else:
            self._act_in_folder(self.clients[act.side % len(self.clients)], act)
            self._let_hear(self.clients[act.side % len(self.clients)], act)
        self._contents = self.all_contents()
        self._given_up |= before - self._contents

    def _let_hear(self, client: Client, act: Act) -> None:
        if client.life is not None:
            client.life.hear(act.path, gone=act.what != "write")
            if act.what.startswith("move"):
                client.life.hear(act.target, gone=False)

    def person(
        self, side: str, path: str, content: bytes | None, *, in_place: bool = False
    ) -> None:
        """Tell what somebody did at a path of a side."""
        self.windows.person(side, path, in_place=in_place)
        self.judge.person(side, path, content)

    def _act_in_store(self, act: Act) -> None:
        there = self.store.contents()
        if act.what.endswith(" all"):
            for path, target in _moves(act, there):
                self._take_in_store(path, target)
        elif act.what == "write":
            if any(are_at_odds(act.path, path) for path in there):
                return
            mtime = OLD_TIME if act.how == "old time" else self.clock.now_ns()
            self.store.put(act.path, Bytes(act.content, mtime))
            self.person("store", act.path, act.content)
        elif act.path in there:
            self._take_in_store(act.path)

    def _take_in_store(self, path: str, target: str = "") -> None:
        content = self.store.contents()[path]
        if target:
            self.store.put(target, Bytes(content, self.clock.now_ns()))
            self.person("store", target, content)
        self.store.take(path)
        self.person("store", path, None)

    def _act_in_folder(self, client: Client, act: Act) -> None:
        disk, now = client.disk, self.judge.shown[client.name]
        folder, name = self._parent(disk, act.path)
        if folder is None:
            return
        there = folder.entries.get(name)  # type: ignore[union-attr]
        if there is not None and (there.entries is None) is act.what.endswith(" all"):
            return
        if there is not None and there.entries is not None:
            self._act_on_folder(client, act, folder, name)
            return
        if act.what == "write":
            in_place = there is not None and act.how != "new file"
            self._write(disk, folder, name, there, act)
            self.person(client.name, act.path, act.content, in_place=in_place)
        elif there is None:
            return
        elif act.what == "remove":
            disk.put(folder, name, None)
            self.person(client.name, act.path, None)
        else:
            content = now.get(act.path, there.data)
            target, last = self._parent(disk, act.target)
            if target is None or target.entries.get(last) is not None:  # type: ignore[union-attr]
                return
            there.ctime = disk.now()
            disk.put(target, last, there)
            disk.put(folder, name, None)
            disk.as_one(2)
            self.person(client.name, act.target, content)
            self.person(client.name, act.path, None)

    def _act_on_folder(self, client: Client, act: Act, above: Inode, name: str) -> None:
        """Remove a folder with all that is in it, or move it."""
        assert above.entries is not None
        disk, there = client.disk, above.entries[name]
        moved = _moves(act, dict(self.judge.shown[client.name]))
        if act.what == "move all":
            if f"{act.target}/".startswith(f"{act.path}/"):
                return
            target, last = self._parent(disk, act.target)
            if target is None or target.entries.get(last) is not None:  # type: ignore[union-attr]
                return
            disk.put(target, last, there)
            disk.put(above, name, None)
            disk.as_one(2)
        else:
            disk.put(above, name, None)
        for path, new in moved:
            content = self.judge.shown[client.name][path]
            if new:
                self.person(client.name, new, content)
            self.person(client.name, path, None)

    def _write(self, disk: Disk, folder: Inode, name: str, there: Inode | None, act: Act) -> None:
        before = there.mtime if there is not None else OLD_TIME
        if there is None or act.how == "new file":
            there = Inode(disk, 0o100644)
            disk.put(folder, name, there)
        if act.how in _HIDDEN and disk.now() - there.named < _TICK_NS:
            # Known window: an edit that keeps size and mtime moves ctime alone, which the name itself
            # has just moved in the same tick.
            self.clock.advance(_TICK_NS / 1e9)
        disk.write(there, act.content)
        if act.how == "old time":
            there.mtime = OLD_TIME
        elif act.how == "same time":
            there.mtime = before

    def _parent(self, disk: Disk, path: str) -> tuple[Inode | None, str]:
        *above, last = path.split("/")
        at = disk.root
        for name in above:
            assert at.entries is not None
            if name not in at.entries:
                disk.put(at, name, Inode(disk, 0o040755))
            at = at.entries[name]
            if at.entries is None:
                return None, last
        return at, last

    # What craftsync does.

    def run(self, client: Client, plan: Run, *, force: bool = False) -> Report | None:
        """Let a client run once; `None` when the process died, or the run was broken off."""
        self.say(f"{client.name} runs")
        self._begin(plan)
        self.windows.run_begins()
        self._running = client
        self._trash.begin(client.name, client.keep, client.files(), self.store.contents())
        self.kernel.owner = client.name
        try:
            report = self._carried_out(client, plan, force)
        except PowerCut:
            client.end_life()
            client.is_settled = False
            self._restart(client)
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
            report = self._turn(client)
        else:
            report = self._run(client, plan, force)
        self._must_be_alive()
        return report

    def _ended(self, client: Client, plan: Run, report: Report | None) -> None:
        """See that a run left nothing open, and did nothing without a rule."""
        if self.kernel.open_descriptors > (0 if client.life is None else _OF_A_DAEMON):
            raise Wrong(f"{self.kernel.open_descriptors} descriptors are left open")
        failed = report is None or report.problems > 0
        if client.life is not None:
            failed = failed or bool(self._fails) or not client.life.looked_at_everything
        if failed or not plan.what or plan.what == "dry run":
            # No other command puts right what an earlier run left.
            self.windows.run_ended(client.name, recorded=not failed)
            client.is_settled = not failed and not self._fails
        if self.forgets:
            self.judge.forget()
        for finding in self.judge.findings():
            if (original(finding.path) or finding.path) not in self.windows.open:
                raise Wrong(finding.words)
        if report is not None and plan.what in ("", "dry run"):
            client.has_pushed = client.has_pushed and plan.mode != "two-way" and not plan.delete
            client.has_run = True

    def _begin(self, plan: Run) -> None:
        self._plan = {}
        for mod in plan.mods:
            if not isinstance(mod, Fail):
                self._plan.setdefault(mod.at, []).append(mod)
        self._fails = [mod for mod in plan.mods if isinstance(mod, Fail)]
        self._at = self._requests = 0
        self._has_listed = False
        self._contents, self.now = self.all_contents(), plan
        self.ordered = plan.what.startswith(("restore", "undo", "keep"))

    def _run(self, client: Client, plan: Run, force: bool) -> Report:
        client.end_life()
        policy = Policy(mode=Mode(plan.mode), delete=plan.delete)
        filter = FILTERS[plan.filter]
        limit = DeleteLimit() if plan.limit is None else DeleteLimit(plan.limit, 0.0)
        options = Options(
            policy, force_delete=force, transfers=4, filter=filter, delete_limit=limit
        )
        client.has_pushed = client.has_pushed or not policy.deletes
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

    def _turn(self, client: Client) -> Report:
        """Let a daemon do what is due; return what its runs came to."""
        if client.life is None:
            session, ends = self.opened(client)
            client.life = Life(session, ends, self.listen, Random(self.chance.random()))
        reports = client.life.turn()
        whole = Report("watch")
        for report in reports:
            for name in _COUNTED:
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

    def opened(self, client: Client, *, read_only: bool = False) -> tuple[Session, ExitStack]:
        """Open a session; the stack closes it and its store."""
        chance = Random(self.chance.random())
        store = self._connected(self.store, chance)
        ends = ExitStack()
        with ExitStack() as opening:
            opening.callback(store.close)
            session = opening.enter_context(
                Session.open(
                    client.path,
                    store,
                    state_dir=client.state_dir,
                    read_only=read_only,
                    clock=self.clock,
                    make_pool=lambda _: ShuffledPool(chance),
                )
            )
            keep = None if client.keep is None else round(client.keep * 1e9)
            session.retention = Retention(keep, store=StoreTrash.ALL)
            ends = opening.pop_all()
        return session, ends

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
        self._at += 1
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
            return is_on_disk and act.how in _HIDDEN
        looks = isinstance(self.store, SimulatedBucket) and not self.store.checks_conditions
        return looks and not self._is_noticed(act, what)

    def _is_noticed(self, act: Act, what: str) -> bool:
        """Tell whether a store that checks no conditions is looked at after this effect, at the path of an act."""
        if self._has_listed and act.path not in self.store.contents():
            return False  # A listing stands in for the look where nothing was.
        return " " not in what or what.startswith("GET")

    def _hear_lies(self) -> None:
        """A write that a server acknowledged and lost is as one that somebody took back at once."""
        if isinstance(self.store, SimulatedBucket):
            for path, content, was in self.store.lied:
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
        shown = {
            here: {path: content for path, content in files.items() if not is_own(path)},
            "store": {path: content for path, content in there.items() if not is_own(path)},
        }
        source = {"push": here, "pull": "store"}.get(mode)
        for side, now in shown.items():
            changed = self.judge.changed(side, now)
            if changed and side == source:
                raise Wrong(f"a {mode} changed {changed} of {side}")
            for path in changed:
                self.windows.craftsync(by, path)
                if self.now.filter == "list" and LISTED.entry_of(path) is None:
                    raise Wrong(f"a {mode} changed {path} of {side}, which its list leaves out")
                if source is not None and path not in now and not self.now.delete:
                    raise Wrong(f"a {mode} deleted {path} of {side} without --delete")
            self.judge.craftsync(side, now, ordered=source is not None or self.ordered)

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
            self._contents = self.all_contents()

    # At rest.

    def settle(self) -> None:
        """Let every client run without trouble until nothing changes; then everything must be right."""
        self.say("at rest")
        self._put_in_order()
        if isinstance(self.store, SimulatedBucket):
            self.store.calm()
        for _ in range(_CYCLES + 1):
            changed = 0
            for client in self.clients:
                daemon = client.life is not None
                self.clock.advance(RESCAN_SECONDS + 60.0)
                report = self.run(client, Run(0, daemon=daemon))
                assert report is not None
                if report.held:
                    report = self.run(client, Run(0), force=True)
                    assert report is not None
                changed += _changes(report)
                if report.problems or report.skipped or report.held:
                    raise Wrong(f"a run without trouble reports {report}")
            if not changed:
                break
        else:
            raise Wrong("it does not come to rest")
        there = self.judge.shown["store"]
        for client in self.clients:
            if self.judge.shown[client.name] != there:
                raise Wrong(
                    f"at rest {client.name} shows {self.judge.shown[client.name]}, the store {there}"
                )
        for client in self.clients:
            self._judge_words(client)
        self._judge_heads(there)

    def _put_in_order(self) -> None:
        """Have people remove each file that is where another side has a folder: craftsync has told them to."""
        sides = ("store", *(client.name for client in self.clients))
        paths = {path for side in sides for path in self.judge.shown[side]}
        for path in sorted(paths):
            if any(other.startswith(f"{path}/") for other in paths):
                self.act(Act("remove", STORE, path))
                for number in range(len(self.clients)):
                    self.act(Act("remove", number, path))

    def _judge_words(self, client: Client) -> None:
        """Run once more: nothing may change, and exit code, summary and status must say how things stand."""
        before, effects, began = self.all_contents(), self.effects, iso(self.clock.now_ns())
        report = self.run(client, Run(0))
        assert report is not None
        has_changed = self.all_contents() != before or self.effects > effects + _OF_AN_IDLE_RUN
        if has_changed and client.keep is None:  # Retention may end in any run.
            raise Wrong(f"a run with nothing to do made {self.effects - effects} effects")
        copies = sum(original(name) is not None for name in self.judge.shown[client.name])
        summary = report.as_json()
        if (report.exit_code, summary["exit_code"]) != (4 if copies else 0,) * 2:
            raise Wrong(f"exit code {report.exit_code} at rest with {copies} conflict copies")
        said = {"conflicts": copies, "unchanged": len(self.judge.shown[client.name])}
        told = {name: summary[name] for name in (*said, "uploaded", "downloaded", "problems")}
        if told != {**said, "uploaded": 0, "downloaded": 0, "problems": 0}:
            raise Wrong(f"the summary at rest is {told}, not {said}")
        status = inspect.of_pair(client.path, self.store.location, client.state_dir)
        named = {name: status[name] for name in ("conflicts", "held", "problems", "reason")}
        if named != {"conflicts": copies, "held": 0, "problems": 0, "reason": None}:
            raise Wrong(f"the status at rest is {named}, with {copies} conflict copies")
        if not began <= status["last_success"] <= iso(self.clock.now_ns()):
            raise Wrong(f"the status names {status['last_success']} as the last success")

    def _judge_heads(self, there: dict[str, bytes]) -> None:
        visible = set(there.values())
        for path, heads in self.judge.heads().items():
            versions = [head for head in heads if head is not None]
            for version in versions:
                # Of an edit within a swap in which the process died, the trash alone may know.
                is_known = version in visible or self.judge.was_put_back(path, version)
                if not is_known and path not in self.windows.open:
                    raise Wrong(f"{version!r}, the last of {path}, is not to be seen at rest")
            if len(heads) == 1 and not self.forgets and path not in self.windows.open:
                expected = heads[0]
                if expected is None and self.crashed:
                    continue  # A delete may be undone by a crash, but no more than that.
                if there.get(path) != expected:
                    raise Wrong(f"{path} is {there.get(path)!r} at rest, not {expected!r}")

    def say(self, line: str) -> None:
        if self._trace is not None:
            self._trace(line)


def _moves(act: Act, shown: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return the files of a folder, and what each is called once it has been moved, where that is free."""
    below = sorted(path for path in shown if path.startswith(f"{act.path}/"))
    if act.what == "remove all":
        return [(path, "") for path in below]
    moves = [(path, act.target + path.removeprefix(act.path)) for path in below]
    if any(new == path or are_at_odds(new, path) for _, new in moves for path in shown):
        return []
    return moves


def _changes(report: Report) -> int:
    """Count what a run moved, deleted or found in conflict."""
    return sum(getattr(report, name) for name in _COUNTED)


def make_template(path: Path) -> Path:
    """Make an empty state database once, to be copied for each client."""
    Database.open(path).close()
    return path
