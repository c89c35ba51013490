"""Removes every source of nondeterminism: worker threads, random ids and the global random generator."""

from __future__ import annotations

import secrets
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

from craftsync.stores import retrying, sources
from craftsync.stores.s3 import listing
from craftsync.stores.s3.parallel_listing import PagesOf, Share


class SerialExecutor:
    """The part of `ThreadPoolExecutor` that craftsync uses; `submit` makes the call at once."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*given))
        except BaseException as error:  # noqa: BLE001 (whoever asks for the result raises it)
            future.set_exception(error)
        return future

    def map(self, call: Callable[..., Any], *given: Iterable[Any]) -> Iterator[Any]:
        return iter([call(*one) for one in zip(*given, strict=False)])

    def shutdown(self, *_: object, **__: object) -> None:
        """Do nothing: every call has ended."""

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class UnfinishedFuture(Future[Any]):
    """The result of another thread that has not ended: nothing is known yet."""

    def result(self, timeout: float | None = None) -> Any:
        return super().result(timeout) if self.done() else None


def pages_in_order(shares: Iterable[Share], pages_of: PagesOf[Any]) -> Iterator[Any]:
    """Yield the pages of all shares of a listing, one after the other."""
    order = deque(shares)
    while order:
        share = order.popleft()
        yield from pages_of(share)
        order.extendleft(share.rest)


@contextmanager
def replaced(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """Set attributes of modules, and restore them at the end."""
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


@contextmanager
def deterministic(chance: Random) -> Iterator[None]:
    """Make every random value and every order of concurrent work depend on `chance` alone."""
    with replaced(
        (sources, "ThreadPoolExecutor", SerialExecutor),
        (listing, "fetched_ahead", pages_in_order),
        (sys.modules["craftsync.stores.s3.probe"], "Future", UnfinishedFuture),
        (retrying, "random", SimpleNamespace(Random=lambda: Random(chance.random()))),
        (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
        (secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
    ):
        yield
