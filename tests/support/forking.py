"""A program that uses a store, forks while it does, and sees parent and children each get their own answers.

A process of its own, because a child of one with threads inherits them only by
name. Run with the address of a store that takes some small objects; whatever
goes wrong is a traceback and a status other than 0.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

from craftsync import DataStore
from craftsync.datastore import ObjectInformation

CHILDREN = 3
OBJECTS = 20
GUARD_SECONDS = 60


def main() -> None:
    store = DataStore(sys.argv[1])
    for number in range(OBJECTS):
        store.upload_data_store_object(io.BytesIO(_content(number)), _name(number))
    _use_once(store, 0)
    # Its connection waits for more work: all of them are given the same one.
    together = [_forked(partial(_work, store, child)) for child in range(CHILDREN)]
    _use_once(store, 0)
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in together]

    stop, busy = threading.Event(), threading.Event()
    worker = threading.Thread(target=_use, args=(store, stop, busy))
    worker.start()
    busy.wait()
    for child in range(CHILDREN):
        listing = store.iter_data_store_objects("forking")
        begun = next(listing)["path"]
        pid = _forked(partial(_continue, store, child, begun, listing))
        ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    worker.join()
    assert not any(ends), ends
    _use_once(store, 0)


def _forked(act: Callable[[], None]) -> int:
    """Return the process id of a child that acts and ends, by an alarm if need be."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(GUARD_SECONDS)
            act()
            status = 0
        finally:
            if status:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
            os._exit(status)
    return child


def _continue(
    store: DataStore, child: int, begun: str, listing: Iterator[ObjectInformation]
) -> None:
    """Work in the middle of a listing, while another thread of the parent is in the middle of a request."""
    names = [begun, *(entry["path"] for entry in listing)]
    assert names == sorted(map(_name, range(OBJECTS))), names
    _work(store, child)


def _work(store: DataStore, child: int) -> None:
    _use_once(store, child + 1)
    store.upload_data_store_object(io.BytesIO(b"child"), f"from-child-{child}")
    store.delete_data_store_object(f"from-child-{child}")
    store.close()


def _use(store: DataStore, stop: threading.Event, busy: threading.Event) -> None:
    while not stop.is_set():
        _use_once(store, 0)
        busy.set()


def _use_once(store: DataStore, shift: int) -> None:
    for number in range(OBJECTS):
        other = (number * 7 + shift) % OBJECTS
        got = io.BytesIO()
        store.download_data_store_object(_name(other), got)
        assert got.getvalue() == _content(other), f"{_name(other)} is another's"


def _name(number: int) -> str:
    return f"forking/object-{number:02}"


def _content(number: int) -> bytes:
    return b"%d" % number * 2000


if __name__ == "__main__":
    main()
