"""One page of a listing, from the bytes the server sent to objects: pure.

A page is believed only when it is a whole `ListBucketResult`: what was cut
short, is a web page or an error with status 200 raises `BrokenPage`. Pages of
the plain shape that servers send are cut up by one regular expression, at a
tenth of the cost of an XML parser; all others take the parser, and a test
holds the two to each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from operator import lt
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from craftsync.core.model import LIMIT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.core.paths import malformed
from craftsync.stores.s3.objects import modified_ns_of, version_of

_PLAIN_ENTRY = re.compile(
    r"<Contents>\s*+<Key>([^<&]*+)</Key>\s*+"
    r"<LastModified>([^<&]*+)</LastModified>\s*+"
    r"<ETag>(?:&quot;|&#34;|\")?+([^<&\"]*+)(?:&quot;|&#34;|\")?+</ETag>\s*+"
    r"(?:<ChecksumAlgorithm>[^<&]*+</ChecksumAlgorithm>\s*+)*+"
    r"(?:<ChecksumType>[^<&]*+</ChecksumType>\s*+)?+"
    r"<Size>(\d++)</Size>\s*+"
    r"(?:<StorageClass>[^<&]*+</StorageClass>\s*+)?+</Contents>\s*+"
)
_FIELDS = 5
"""What splitting by `_PLAIN_ENTRY` leaves per entry: the text before it, and its four groups."""

Columns = list[list[str]]
"""Keys, times, versions and sizes of all entries, as they stand in the page."""

_SUSPICIOUS = ("\0", "//", "/./", "/../", "\n/", "/\n", "\n./", "\n../", "/.\n", "/..\n")


class BrokenPage(ValueError):
    """The bytes are no complete page of a listing; the message says why, as a clause."""


class Page(NamedTuple):
    """The entries of a page in the server's order, by columns; `token` leads on and is `None` at the end."""

    keys: list[str]
    modified: list[str]
    versions: list[str]
    sizes: list[str]
    token: str | None

    def first(self, count: int) -> Page:
        """Return the page without the entries after the first `count`."""
        keys, modified, versions, sizes = (column[:count] for column in self[:4])
        return Page(keys, modified, versions, sizes, self.token)


def parse(body: bytes) -> Page:
    """Read a page; raises `BrokenPage` unless it is whole."""
    try:
        columns, rest = _split(body.decode())
        root = ElementTree.fromstring(rest)
    except (ValueError, ElementTree.ParseError) as error:
        raise BrokenPage("a page is no complete XML") from error
    name = _name(root)
    if name != "ListBucketResult":
        raise BrokenPage(f"a page holds <{name}> instead of a listing")
    keys, modified, versions, sizes = columns or _columns(root)
    if _child(root, "EncodingType") == "url":
        keys = _decoded(keys)
    return Page(keys, modified, versions, sizes, _token(root))


def _split(text: str) -> tuple[Columns | None, str]:
    """Return the entries of a plain page and the XML around them, or nothing and all of it."""
    pieces = _PLAIN_ENTRY.split(text)
    around = pieces[0] + pieces[-1]
    if len(pieces) == 1 or any(pieces[_FIELDS:-1:_FIELDS]) or "<Contents" in around:
        return None, text
    return [pieces[group::_FIELDS] for group in range(1, _FIELDS)], around


def _columns(root: ElementTree.Element) -> Columns:
    columns: Columns = [[], [], [], []]
    for contents in root:
        if _name(contents) == "Contents":
            for column, value in zip(columns, _entry(contents), strict=True):
                column.append(value)
    return columns


def _entry(contents: ElementTree.Element) -> tuple[str, str, str, str]:
    key, modified, etag, size = (
        _child(contents, name) for name in ("Key", "LastModified", "ETag", "Size")
    )
    if key is None or modified is None or size is None:
        raise BrokenPage("an entry has no key, time or size")
    return key, modified.strip(), version_of(etag) or "", size.strip()


def _decoded(keys: list[str]) -> list[str]:
    if not any("%" in key or "+" in key for key in keys):
        return keys
    return [unquote_plus(key, errors="surrogateescape") for key in keys]


def _token(root: ElementTree.Element) -> str | None:
    truncated = _child(root, "IsTruncated")
    if truncated not in ("true", "false"):
        raise BrokenPage("a page does not say whether more follow")
    token = _child(root, "NextContinuationToken") if truncated == "true" else None
    if truncated == "true" and not token:
        raise BrokenPage("more pages follow, but there is no token for them")
    return token


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(parent: ElementTree.Element, name: str) -> str | None:
    for element in parent:
        if _name(element) == name:
            return element.text or ""
    return None


def ascending(keys: Sequence[str]) -> bool:
    """Tell whether keys are strictly ascending in the byte order of their UTF-8."""
    if all(map(lt, keys, islice(keys, 1, None))):
        return True
    raw = [key.encode(errors="surrogateescape") for key in keys]
    return all(map(lt, raw, islice(raw, 1, None)))


def entries(
    page: Page, root: str, hidden: Callable[[str], bool], *, raw: bool = False
) -> Iterator[RemoteObject | Skipped]:
    """Yield what a page means under the prefix `root`, but for the `hidden` paths.

    With `raw`, names that no folder can hold are as good as any.

    Raises `BrokenPage` for an entry whose time or size cannot be read.
    """
    paths = [key[len(root) :] for key in page.keys] if root else page.keys
    try:
        fields = zip(
            paths,
            map(int, page.sizes),
            map(modified_ns_of, page.modified),
            (version or None for version in page.versions),
            *repeat(repeat(None), 4),
            strict=False,  # The last four never end.
        )
        found = list(map(RemoteObject._make, fields))
    except ValueError as error:
        raise BrokenPage("an entry has a time or size that is none") from error
    if _all_ordinary(paths) and max((item.size for item in found), default=0) < LIMIT:
        return iter(found)
    return (entry for item in found if (entry := _judged(item, hidden, raw)) is not None)


def _all_ordinary(paths: list[str]) -> bool:
    """Tell, in a few passes over the whole page, whether every path may take part as it is."""
    text = "\n".join(["", *paths, ""])
    longest = 255 if text.isascii() else 63
    return (
        text.count("\n") == len(paths) + 1
        and (longest == 255 or _is_utf8(text))
        and OWN_FOLDER not in text
        and not any(mark in text for mark in _SUSPICIOUS)
        and max(map(len, paths), default=0) <= longest
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _judged(
    item: RemoteObject, hidden: Callable[[str], bool], raw: bool
) -> RemoteObject | Skipped | None:
    """Return what an entry counts as; the marker of a folder counts as nothing."""
    if hidden(item.path):
        return None
    if raw and item.path and _is_utf8(item.path) and item.size < LIMIT:
        return item
    if item.size == 0 and (not item.path or item.path.endswith("/")):
        return None
    if item.size >= LIMIT:
        return Skipped(item.path, f"the server reports a size of {item.size} bytes", failed=True)
    reason = malformed(item.path)
    return item if reason is None else Skipped(item.path, reason)
