"""Threads that work on stores for the length of a `with`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from craftsync.stores.base import cancel, renew


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
            for store in stores:
                cancel(store)
            pool.shutdown(cancel_futures=True)
            for store in stores:
                renew(store)
            raise
