"""The Range header of a download (RFC 9110, section 14): one range of bytes, or all of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from craftsync.serve.refused import Refused

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class ByteRange(NamedTuple):
    """`length` bytes from `offset`, within the object."""

    offset: int
    length: int


def range_of(header: str | None, size: int) -> ByteRange | None:
    """Return the range a header asks for; `None` for the whole object.

    What is no single range of bytes is ignored, as the RFC allows. Raises
    `Refused` (416) for a range that lies behind the end.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise Refused(
            416,
            "InvalidRange",
            "The requested range is not satisfiable",
            {"content-range": f"bytes */{size}"},
        )
    return ByteRange(start, end - start)
