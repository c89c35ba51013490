"""What the responses of S3 prove and hold: ETags, encryption, and the rows of XML documents.

A success may come from a login page or a broken proxy, and some servers answer 200 to a request that
failed. So a response counts only if it holds what the store alone can know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote_plus, urlencode

from craftsync.errors import StoreError
from craftsync.stores.s3.errors import answer_of, not_encrypted, refused, unconfirmed
from craftsync.stores.s3.objects import (
    ENCRYPTION,
    NO_HEADERS,
    ListedVersion,
    Opened,
    found_in,
    text_of,
    version_of,
)

_COMPLETED_UNNAMED = r"(?s)<CompleteMultipartUploadResult\b.*<ETag>\s*</ETag>"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_VERSION = r"(?s)<(Version|DeleteMarker)>(.*?)</\1>"


class Responses:
    """Checks the responses of one bucket; `location` names it in messages.

    `md5_etags`: ETags are MD5s. `names_versions`: a write whose response has no ETag has failed; if
    false, its version is empty and the caller must prove it. `encryption` holds the headers that
    encrypt every new object, copies included.
    """

    encryption: Mapping[str, str] = NO_HEADERS
    md5_etags = False
    names_versions = True

    def __init__(self, location: str) -> None:
        self._location = location

    def _confirmed(self, etag: str | None, key: str) -> str:
        """Return the version in a response. Raises `Unconfirmed` without one: it may not come from the store."""
        version = version_of(etag)
        if version is None and self.names_versions:
            raise unconfirmed(self._location, key, "an ETag")
        return version or ""

    def _confirm_encrypted(self, headers: Mapping[str, str]) -> None:
        """Raise unless the response names the requested encryption: some servers ignore the headers."""
        asked = self.encryption.get(ENCRYPTION)
        if asked not in (None, headers.get(ENCRYPTION)):
            raise not_encrypted(self._location, asked)

    def _refuse_foreign(self, headers: Mapping[str, str], key: str) -> None:
        """Raise for an object with neither an ETag nor a date: it may be a login page."""
        if "etag" not in headers and "last-modified" not in headers:
            raise unconfirmed(self._location, key, "an ETag or a date")

    def _checked(self, body: bytes, key: str) -> str:
        """Return the body as text. Raises if it is an error: S3 reports some failures after a status of 200."""
        text = body.decode(errors="replace")
        if "<Error>" in text:
            raise refused(answer_of(500, text), self._location, key)
        return text

    def _opened(
        self, headers: Mapping[str, str], key: str, chunks: Iterator[bytes], *, ranged: bool
    ) -> Opened:
        """Return the object that a GET opened. Raises if the server ignored the requested range."""
        self._refuse_foreign(headers, key)
        length = int(headers.get("content-length", 0))
        span = _RANGE.match(headers.get("content-range", ""))
        if span is None and ranged:
            raise StoreError(
                f"{self._location} ignored the requested range of {key}.",
                remedy="Run craftsync doctor.",
            )
        start, size = (int(span[1]), int(span[3])) if span else (0, length)
        found = found_in(headers, size, md5_etags=self.md5_etags, whole=span is None)
        return Opened(found, start, length, chunks)


def names_no_version(text: str) -> bool:
    """Return whether this is Ceph 16's response to a completion, whose ETag is empty.

    The object exists, and a stat must find its version.
    """
    return re.search(_COMPLETED_UNNAMED, text) is not None


def tags_in(text: str) -> str:
    """Return a set of tags in the form of the header of a new object: `name=value&…`."""
    tags = re.findall(r"<Tag>(.*?)</Tag>", text, re.DOTALL)
    return urlencode([(text_of(tag, "Key"), text_of(tag, "Value")) for tag in tags])


def parts_in(text: str) -> dict[int, tuple[str, int]]:
    """Return version and size of each part in a page of a list of parts, by number."""
    return {
        int(text_of(part, "PartNumber")): (
            version_of(text_of(part, "ETag")) or "",
            int(text_of(part, "Size")),
        )
        for part in re.findall(r"<Part>(.*?)</Part>", text, re.DOTALL)
    }


def uploads_in(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, id and start time, as the server writes it, of each upload in a page of a list of uploads."""
    plain = _plain(text)
    for row in re.findall(r"<Upload>(.*?)</Upload>", text, re.DOTALL):
        yield plain(text_of(row, "Key")), text_of(row, "UploadId"), text_of(row, "Initiated")


def versions_in(text: str) -> list[ListedVersion]:
    """Return the versions in a page of a list of versions, in the server's order."""
    plain = _plain(text)
    names = ("VersionId", "IsLatest", "ETag", "Size", "LastModified")
    return [
        ListedVersion(
            plain(text_of(row, "Key")),
            kind == "DeleteMarker",
            *(text_of(row, name) for name in names),
        )
        for kind, row in re.findall(_VERSION, text)
    ]


def next_key_in(text: str) -> str:
    """Return the key after which the next page of a list begins, empty on the last page."""
    return _plain(text)(text_of(text, "NextKeyMarker"))


def _plain(text: str) -> Callable[[str], str]:
    """Return the function that decodes the keys of a document."""
    return unquote_plus if text_of(text, "EncodingType") == "url" else str
