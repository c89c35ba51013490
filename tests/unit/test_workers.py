"""Threads that use a store, and how a stop ends them."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from craftsync.clock import CancellableClock
from craftsync.errors import Interrupted
from craftsync.stores.sources import gathered, workers


@pytest.mark.parametrize("nested", ["workers", "gathered"])
def test_stop_of_nested_threads_leaves_the_store_cancelled_for_the_others(nested: str) -> None:
    store, begun = CancellableClock(), threading.Barrier(3)

    def outer() -> None:
        with workers(1, "inner", store) as pool:
            asked = pool.submit(store.sleep, 60.0)
            begun.wait()
            if nested == "gathered":
                gathered([asked], store)
            else:
                asked.result()

    def beside() -> None:
        begun.wait()
        wait([stopped])
        store.sleep(60.0)

    with pytest.raises(KeyboardInterrupt), workers(2, "outer", store) as pool:
        stopped = pool.submit(outer)
        late = pool.submit(beside)
        begun.wait()
        raise KeyboardInterrupt
    assert isinstance(stopped.exception(), Interrupted)
    assert isinstance(late.exception(), Interrupted)
