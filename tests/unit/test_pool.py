"""The pool that carries out steps: short tasks in turns, long ones beside them."""

from __future__ import annotations

import _thread
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from craftsync.clock import CancellableClock
from craftsync.errors import Interrupted
from craftsync.net.concurrency import Fixed
from craftsync.net.tasks import TaskPool, Weight, weight_of
from craftsync.net.waiting import blocking, blocking_together, both, is_ready, until_ready

TIMEOUT = 60.0


@pytest.fixture
def pool() -> Iterator[TaskPool[object]]:
    pool: TaskPool[object] = TaskPool(Fixed(2))
    yield pool
    pool.close()


def meeting(parties: int) -> Callable[[], object]:
    """Return a function that ends only once so many callers are in it."""
    return partial(threading.Barrier(parties, timeout=TIMEOUT).wait)


def test_short_tasks_share_the_calling_thread_but_wait_in_workers(
    pool: TaskPool[object],
) -> None:
    def task() -> tuple[int, int]:
        waited = blocking(threading.get_ident)
        return threading.get_ident(), waited

    pool.submit(task)
    result = pool.take(TIMEOUT)

    assert isinstance(result, tuple)
    assert result[0] == threading.get_ident()
    assert result[1] != threading.get_ident()


def test_waits_of_two_short_tasks_overlap(pool: TaskPool[object]) -> None:
    meet = meeting(2)
    for _ in range(2):
        pool.submit(lambda: blocking(meet))

    assert {pool.take(TIMEOUT), pool.take(TIMEOUT)} == {0, 1}


def test_long_task_runs_beside_the_calling_thread(pool: TaskPool[object]) -> None:
    meet = meeting(2)
    pool.submit(meet, weight=Weight.LONG)

    assert {meet(), pool.take(TIMEOUT)} == {0, 1}


def test_exception_of_a_wait_is_raised_in_its_task(pool: TaskPool[object]) -> None:
    def refused() -> None:
        raise ConnectionRefusedError

    def task() -> str:
        try:
            blocking(refused)
        except ConnectionRefusedError:
            return "told"
        return "not told"

    pool.submit(task)

    assert pool.take(TIMEOUT) == "told"


@pytest.mark.parametrize("weight", Weight)
@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_exception_of_a_task_is_raised_by_take(
    pool: TaskPool[object], weight: Weight, error: type[BaseException]
) -> None:
    def task() -> None:
        raise error

    pool.submit(task, weight=weight)

    with pytest.raises(error):
        pool.take(TIMEOUT)


def test_posted_results_come_before_the_returned_one(pool: TaskPool[object]) -> None:
    def task() -> str:
        blocking(lambda: pool.post("noted"))
        return "done"

    pool.submit(task)

    assert [pool.take(TIMEOUT), pool.take(TIMEOUT)] == ["noted", "done"]


def test_pool_completes_more_tasks_than_it_starts_at_once(pool: TaskPool[object]) -> None:
    for number in range(500):
        pool.submit(lambda number=number: blocking(lambda: number))  # type: ignore[misc]

    assert {pool.take(TIMEOUT) for _ in range(500)} == set(range(500))


def test_closing_the_pool_finishes_running_tasks_and_drops_queued_ones() -> None:
    pool: TaskPool[object] = TaskPool(Fixed(1))
    held, ended = threading.Event(), []

    def task(number: int) -> int:
        blocking(lambda: held.wait(TIMEOUT))
        blocking(lambda: ended.append(number))
        return number

    for number in range(100):
        pool.submit(partial(task, number))
    held.set()
    pool.close()

    results = list(iter(lambda: pool.take(0), None))
    assert results
    assert len(results) < 100
    assert sorted(results) == sorted(ended)


def test_closed_pool_leaves_waits_to_the_calling_thread() -> None:
    TaskPool[object](Fixed(1)).close()

    assert blocking(threading.get_ident) == threading.get_ident()


def test_started_task_overtakes_queued_ones(pool: TaskPool[object]) -> None:
    gate = threading.Event()
    for _ in range(50):
        pool.submit(lambda: blocking(partial(gate.wait, TIMEOUT)))
    pool.begin(lambda: "begun")

    assert pool.take(TIMEOUT) == "begun"
    gate.set()


def test_wait_of_a_short_task_does_not_queue_behind_long_tasks(
    pool: TaskPool[object],
) -> None:
    go_on = threading.Event()
    for _ in range(5):
        pool.submit(lambda: go_on.wait(TIMEOUT), weight=Weight.LONG)
    pool.begin(lambda: blocking(lambda: "recorded"))

    assert pool.take(TIMEOUT) == "recorded"
    go_on.set()
    assert [pool.take(TIMEOUT) for _ in range(5)] == [True] * 5


def test_signal_before_a_socket_wait_ends_the_pool_at_once() -> None:
    class SendsASignal:
        def __init__(self, descriptor: int) -> None:
            self.descriptor = descriptor

        def fileno(self) -> int:
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGINT)
            return self.descriptor

    ours, other = socket.socketpair()
    pool: TaskPool[object] = TaskPool(Fixed(2))
    with ours, other, pytest.raises(KeyboardInterrupt):
        # The socket stays open and silent: only the signal can end the task.
        pool.submit(partial(until_ready, SendsASignal(ours.fileno()), select.POLLIN, 10 * TIMEOUT))  # type: ignore[arg-type]
        pool.take(TIMEOUT)
    closing = threading.Thread(target=pool.close, daemon=True)
    closing.start()
    closing.join(TIMEOUT)
    assert not closing.is_alive()


def test_interrupted_start_of_a_thread_leaves_no_call_to_a_closed_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the call uses, such as the database, is closed afterwards."""
    taken, never, ended = threading.Event(), threading.Event(), list[str]()

    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            taken.wait(TIMEOUT)
            raise KeyboardInterrupt

    def call() -> None:
        taken.set()
        never.wait(0.2)
        ended.append("the call")

    pool: TaskPool[object] = TaskPool(Fixed(2))
    monkeypatch.setattr(threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(lambda: blocking(call))
    monkeypatch.undo()
    pool.close()
    assert ended == ["the call"]


def test_thread_that_begins_after_the_pool_has_closed_runs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, ran = list[threading.Thread](), list[int]()

    class Late(threading.Thread):
        def start(self) -> None:
            late.append(self)
            raise KeyboardInterrupt

    pool: TaskPool[object] = TaskPool(Fixed(2))
    monkeypatch.setattr(threading, "Thread", Late)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(lambda: blocking(lambda: ran.append(threading.get_ident())))
    monkeypatch.undo()
    pool.close()
    (thread,) = late
    threading.Thread.start(thread)
    thread.join(TIMEOUT)
    assert ran == [threading.get_ident()]


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_large_tasks_never_use_all_threads(workers: int) -> None:
    pool: TaskPool[object] = TaskPool(Fixed(workers))
    go_on = threading.Event()
    for _ in range(2 * workers):
        pool.submit(lambda: go_on.wait(TIMEOUT), weight=Weight.LARGE)
    pool.submit(lambda: "long", weight=Weight.LONG)

    assert pool.take(TIMEOUT) == "long"
    go_on.set()
    assert [pool.take(TIMEOUT) for _ in range(2 * workers)] == [True] * 2 * workers
    pool.close()


@pytest.mark.parametrize("weight", [Weight.SHORT, Weight.LARGE])
def test_task_submitted_first_starts_before_queued_ones(weight: Weight) -> None:
    pool: TaskPool[object] = TaskPool(Fixed(1))
    go_on, order = threading.Event(), list[str]()

    def task(name: str) -> None:
        blocking(partial(go_on.wait, TIMEOUT))
        order.append(name)

    for name in ("under way", "waiting", "waiting too"):
        pool.submit(partial(task, name), weight=weight)
    pool.submit(partial(task, "first"), weight=weight, first=True)
    go_on.set()
    for _ in range(4):
        pool.take(TIMEOUT)
    pool.close()

    assert order == ["under way", "first", "waiting", "waiting too"]


def test_pool_is_full_when_queued_large_tasks_equal_workers() -> None:
    pool: TaskPool[object] = TaskPool(Fixed(2))
    go_on = threading.Event()
    submitted = 0
    while not pool.is_full():
        pool.submit(lambda: go_on.wait(TIMEOUT), weight=Weight.LARGE)
        submitted += 1
    go_on.set()
    assert [pool.take(TIMEOUT) for _ in range(submitted)] == [True] * submitted
    assert not pool.is_full()
    pool.close()


def test_task_weight_is_the_bytes_it_moves() -> None:
    sizes = (0, 1 << 20, (1 << 20) + 1, 16 << 20, (16 << 20) + 1)
    weights = [weight_of(size, short=1 << 20) for size in sizes]
    assert weights == [Weight.SHORT] * 2 + [Weight.LONG] * 2 + [Weight.LARGE]


class Counted:
    """A function that counts its calls; the first one waits until it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = threading.Event()
        self.released = threading.Event()
        self.released.set()

    def call(self) -> int:
        self.calls += 1
        self.begun.set()
        assert self.released.wait(TIMEOUT)
        return self.calls


def test_tasks_waiting_for_the_same_call_share_it() -> None:
    counted = Counted()
    pool: TaskPool[object] = TaskPool(Fixed(8))
    for _ in range(8):
        pool.submit(lambda: blocking_together(counted.call))

    assert [pool.take(TIMEOUT) for _ in range(8)] == [1] * 8
    pool.close()


def test_caller_during_a_shared_call_waits_for_the_next() -> None:
    counted = Counted()
    counted.released.clear()
    pool: TaskPool[object] = TaskPool(Fixed(4))

    def late() -> int:
        assert blocking(
            partial(
                counted.begun.wait,
            )
        )
        counted.released.set()
        return blocking_together(counted.call)

    pool.submit(lambda: blocking_together(counted.call))
    pool.submit(late)

    assert {pool.take(TIMEOUT), pool.take(TIMEOUT)} == {1, 2}
    pool.close()


def test_exception_of_a_shared_call_is_raised_in_every_waiter() -> None:
    def refused() -> None:
        raise ConnectionRefusedError

    def task() -> str:
        try:
            blocking_together(refused)
        except ConnectionRefusedError:
            return "told"
        return "not told"

    pool: TaskPool[object] = TaskPool(Fixed(3))
    for _ in range(3):
        pool.submit(task)

    assert [pool.take(TIMEOUT) for _ in range(3)] == ["told"] * 3
    pool.close()


def test_closing_the_pool_releases_waiters_of_a_shared_call() -> None:
    counted = Counted()
    counted.released.clear()
    pool: TaskPool[object] = TaskPool(Fixed(2))

    def twice() -> int:
        blocking_together(counted.call)
        return blocking_together(counted.call)

    pool.submit(twice)
    pool.submit(twice)
    threading.Thread(target=lambda: counted.begun.wait(TIMEOUT) and counted.released.set()).start()
    pool.close()

    assert {pool.take(), pool.take()} <= {2, 3}
    assert pool.take() is None


class Signal(BaseException):
    """The exception of a signal handler."""


def test_signal_at_the_end_of_a_socket_wait_loses_no_task() -> None:
    """The kernel reports a socket only once for each wait."""
    ours, theirs = socket.socketpair()
    pool: TaskPool[object] = TaskPool(Fixed(2))

    def task() -> str:
        until_ready(ours.fileno(), select.POLLIN, 3.0)
        return "done"

    def signalled(_: object, event: str, call: object) -> None:
        if event == "c_return" and getattr(call, "__qualname__", "") == "epoll.poll":
            sys.setprofile(None)
            raise Signal

    pool.submit(task)
    theirs.send(b"x")
    sys.setprofile(signalled)
    with pytest.raises(Signal):
        pool.take(TIMEOUT)
    pool.close()

    assert pool.take() == "done"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("wait", ["for a socket", "for time to pass"])
def test_signal_during_a_wait_is_handled_before_the_wait_ends(wait: str) -> None:
    late = threading.Event()
    # This sets what a signal sets, without interrupting the call in which the thread waits.
    timers = [threading.Timer(0.2, _thread.interrupt_main), threading.Timer(TIMEOUT, late.set)]
    ours, other = socket.socketpair()
    with ours, other:
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            if wait == "for a socket":
                is_ready(ours.fileno(), select.POLLIN, 10 * TIMEOUT)
            else:
                CancellableClock().sleep(10 * TIMEOUT)
    for timer in timers:
        timer.cancel()
    assert not late.is_set()


def test_two_calls_of_a_short_task_overlap(pool: TaskPool[object]) -> None:
    meet = meeting(2)
    pool.submit(lambda: both(lambda: blocking(meet), lambda: blocking(meet)))

    assert sorted(pool.take(TIMEOUT)) == [0, 1]  # type: ignore[call-overload]


def test_first_of_two_errors_is_raised_once_both_calls_ended(pool: TaskPool[object]) -> None:
    meet, ended = meeting(2), []

    def fail(name: str) -> None:
        blocking(meet)
        ended.append(name)
        raise OSError(name)

    pool.submit(lambda: both(partial(fail, "first"), partial(fail, "second")))

    with pytest.raises(OSError, match="first"):
        pool.take(TIMEOUT)
    assert sorted(ended) == ["first", "second"]


def test_closing_the_pool_lets_two_calls_at_once_end() -> None:
    pool: TaskPool[object] = TaskPool(Fixed(2))
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        return may_end.wait(TIMEOUT)

    pool.submit(lambda: both(lambda: blocking(slow), lambda: blocking(slow)))
    assert pool.take(0) is None
    assert begun.wait(TIMEOUT)
    may_end.set()
    pool.close()

    assert pool.take(0) == (True, True)


def test_two_calls_outside_the_pool_are_made_in_turn() -> None:
    order: list[int] = []

    assert both(lambda: order.append(1), lambda: order.append(2)) == (None, None)
    assert order == [1, 2]
