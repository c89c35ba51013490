"""Lists a bucket in shares of its keys, several of which are fetched at once.

If nothing is known about the keys, each share estimates from its own keys which key lies some pages
ahead, and splits off all from there as another share. A wrong estimate makes a share long, short or
empty, but loses and repeats no key.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from queue import SimpleQueue
from string import ascii_lowercase, ascii_uppercase, digits, printable
from typing import Generic, TypeVar

from craftsync.errors import Interrupted, StoreUnavailable
from craftsync.net.waiting import after_fork

T = TypeVar("T")

LAST = "\U0010ffff"
"""Sorts after every other character."""

PAGES_AHEAD = 8
"""The most pages of a share fetched before they are read; also the length at which a share is split."""
SHARES_AT_ONCE = 8
_PAGES_TO_A_CUT = PAGES_AHEAD + 4
"""A share with more pages was split too far ahead, and is split again."""

_ALPHABETS = (
    digits,
    digits + "abcdef",
    digits + ascii_lowercase,
    digits + ascii_uppercase + ascii_lowercase,
    "".join(sorted(set(printable) - set("\t\n\r\x0b\x0c"))),
)
"""Likely sets of characters of keys, each in sort order, the smallest first."""
_DIGIT = re.compile("[0-9]")
_CHARACTERS = 8
"""How many characters are compared, from the first in which the keys of a page differ."""


class Share:
    """The keys after `after`, up to and including `last`. "" and `None` are no bound.

    `rest` holds the shares that were split off its end, the last one first.
    """

    def __init__(self, after: str = "", last: str | None = None) -> None:
        self.after = after
        self.last = last
        self.rest = deque[Share]()
        self._pages = 0

    def cut_ahead(self, keys: Sequence[str]) -> None:
        """Split off the keys that lie some pages after a page with these keys, if the share may be so long."""
        if not keys:
            return
        self._pages += 1
        if self._pages % _PAGES_TO_A_CUT != 1:
            return
        # Estimate from the second half of the page, which is more like the keys that follow.
        cut = key_ahead(keys[len(keys) // 2], keys[-1], 2 * PAGES_AHEAD)
        if cut is not None and (self.last is None or cut < self.last):
            self.rest.append(Share(cut, self.last))
            self.last = cut


def key_ahead(first: str, last: str, times: int) -> str | None:
    """Estimate the key that lies `times` as far after `last` as `last` lies after `first`.

    Keys that differ only in digits are counted on, across folders: after `d07/f999` comes
    `d08/f000`. Others are read as numbers in the smallest of `_ALPHABETS` that fits. Returns
    `None` if no alphabet fits, or `first` does not sort before `last`.
    """
    if first < last and (counted := _counted_up(first, last, times)) is not None:
        return counted
    start = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    seen = set(first[start : start + _CHARACTERS] + last[start : start + _CHARACTERS])
    alphabet = next((each for each in _ALPHABETS if seen <= set(each)), None)
    if alphabet is None or first >= last:
        return None
    begin = start
    while begin and last[begin - 1] in alphabet:
        begin -= 1
    width, base = start - begin + _CHARACTERS, len(alphabet)
    low, high = (_number(key[begin : begin + width], alphabet, width) for key in (first, last))
    ahead = high + (high - low) * times
    if ahead >= base**width:
        return last[:begin] + alphabet[-1] + LAST
    text = "".join(alphabet[ahead // base**place % base] for place in reversed(range(width)))
    return last[:begin] + text if last < last[:begin] + text else None


def _counted_up(first: str, last: str, times: int) -> str | None:
    """Return `key_ahead` for keys with the same text around their digits; `None` for others, or on overflow."""
    if _DIGIT.sub("0", first) != _DIGIT.sub("0", last):
        return None
    low, high = ("".join(_DIGIT.findall(key)) for key in (first, last))
    ahead = str(int(high) + (int(high) - int(low)) * times).zfill(len(high))
    if len(ahead) > len(high):
        return None
    following = iter(ahead)
    return _DIGIT.sub(lambda _: next(following), last)


def _number(text: str, alphabet: str, width: int) -> int:
    """Return a text as a number whose digits are the characters of `alphabet`."""
    number = 0
    for place in range(width):
        digit = alphabet.index(text[place]) if place < len(text) else 0
        number = number * len(alphabet) + digit
    return number


PagesOf = Callable[[Share], Iterator[T]]


def fetched_ahead(shares: Sequence[Share], pages_of: PagesOf[T]) -> Iterator[T]:
    """Yield the pages of all shares in order, while the next few shares are fetched."""
    order = [_Ahead(share, pages_of) for share in shares]
    try:
        while order:
            for ahead in order[:SHARES_AT_ONCE]:
                _take_in_rest(order, ahead)
            for ahead in order[:SHARES_AT_ONCE]:
                ahead.begin()
            page = order[0].next()
            if page is None:
                _take_in_rest(order, order[0])
                del order[0]
            else:
                yield page
    finally:
        for ahead in order:
            ahead.stop()


def _take_in_rest(order: list[_Ahead[T]], ahead: _Ahead[T]) -> None:
    while ahead.share.rest:
        order.insert(order.index(ahead) + 1, _Ahead(ahead.share.rest.popleft(), ahead.pages_of))


class _Ahead(Generic[T]):
    """Fetches the pages of one share in a thread of its own, up to `PAGES_AHEAD` ahead of the reader."""

    def __init__(self, share: Share, pages_of: PagesOf[T]) -> None:
        self.share = share
        self.pages_of = pages_of
        self._ready: SimpleQueue[T | Exception | Interrupted | None] = SimpleQueue()
        self._room = threading.Semaphore(PAGES_AHEAD)
        self._has_begun = False
        self._stopped = False
        self._has_given = False
        after_fork(self, _Ahead._lose)

    def begin(self) -> None:
        """Start to fetch, unless already started."""
        if not self._has_begun:
            self._has_begun = True
            threading.Thread(target=self._run, name="listing", daemon=True).start()

    def next(self) -> T | None:
        """Wait for the next page and return it, `None` at the end. Raises the error that prevented it."""
        if self._has_given:
            self._room.release()
        page = self._ready.get()
        if isinstance(page, Exception | Interrupted):
            raise page
        self._has_given = page is not None
        return page

    def _lose(self) -> None:
        """After a fork: make the reader raise, because the thread exists only in the parent process."""
        self._ready = SimpleQueue()
        self._room = threading.Semaphore(PAGES_AHEAD)
        self._has_begun = True
        self._ready.put(StoreUnavailable("The listing was begun by a parent process."))

    def stop(self) -> None:
        """Make the thread end after its current request, if any."""
        self._stopped = True
        self._room.release()

    def _run(self) -> None:
        try:
            for page in self.pages_of(self.share):
                self._ready.put(page)
                self._room.acquire()
                if self._stopped:
                    return
            self._ready.put(None)
        except (Exception, Interrupted) as error:  # noqa: BLE001 (the reader raises it)
            self._ready.put(error)
