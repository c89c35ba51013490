"""Threads that work on stores, and how a stop reaches them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeVar

from craftsync.errors import Interrupted
from craftsync.stores.base import cancel, renew

_GRACE_SECONDS = 1.0
"""A stop is to be through within two seconds."""

Result = TypeVar("Result")


@contextmanager
def workers(count: int, name: str, *stores: object) -> Iterator[ThreadPoolExecutor]:
    """Lend `count` threads that work on `stores`, all of them ended afterwards.

    A stop that passes through cancels what they wait for in these stores;
    without that it would wait for a store that is silent.
    """
    with ThreadPoolExecutor(count, name) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            with _cancelled(stores):
                pool.shutdown(cancel_futures=True)
            raise


def gathered(futures: Sequence[Future[Result]], *stores: object) -> list[Result]:
    """Return what the futures return; when one fails or a stop comes, none is under way any more once this raises."""
    try:
        return [future.result() for future in futures]
    except BaseException as error:
        for future in futures:
            future.cancel()
        # Whoever raised Interrupted has cancelled the stores, and renews them.
        stopped = isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted)
        with _cancelled(stores if stopped else ()):
            wait(futures)
        raise


@contextmanager
def briefly(*stores: object) -> Iterator[None]:
    """Give what is tidied up after a stop a second; then the stores are cancelled, and it ends there."""
    timers = [threading.Timer(_GRACE_SECONDS, cancel, [store]) for store in stores]
    for timer in timers:
        timer.start()
    try:
        with suppress(Interrupted):
            yield
    finally:
        for timer in timers:
            timer.cancel()


@contextmanager
def tidied(tidy: Callable[[], object], *stores: object) -> Iterator[None]:
    """Call `tidy` at the end of the block, and after a stop as `briefly` says."""
    pace: AbstractContextManager[None] = nullcontext()
    try:
        yield
    except KeyboardInterrupt:
        pace = briefly(*stores)
        raise
    finally:
        with pace:
            tidy()


@contextmanager
def _cancelled(stores: Sequence[object]) -> Iterator[None]:
    for store in stores:
        cancel(store)
    try:
        yield
    finally:
        for store in stores:
            renew(store)
