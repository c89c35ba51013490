"""Parses a form with a file as it arrives (S3's browser-based upload).

The fields come first and are few; the file is written straight to its scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from craftsync.serve.content import Content, Extent, SmallScratch
from craftsync.serve.errors import Refused

_FILE = "file"
_FIELDS_LIMIT = 64 * 1024
"""Most bytes of all fields together, including their headers."""


class Form:
    """Parses a multipart/form-data body in pieces; used by one thread at a time.

    `permit` is called once with the fields, before the first byte of the file is
    written, and raises if they do not permit it. Fields after the file are
    ignored, as in S3.
    """

    def __init__(
        self,
        content_type: str,
        scratch: SmallScratch,
        permit: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Raises `Refused` (400) when the Content-Type is not that of a form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise _malformed("the body is not multipart/form-data")
        self.fields: dict[str, str] = {}
        self._permit = permit
        self._scratch = scratch
        self._size = 0
        self._room = _FIELDS_LIMIT
        self._name, self._value, self._header = "", bytearray(), bytearray()
        self._disposition = b""
        self._file_complete = self._complete = False
        self._parser = _parser(boundary, self)

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Parse the next pieces of the body; raises `Refused` (400) when they are malformed."""
        try:
            for piece in pieces:
                self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def content(self) -> Content:
        """Return the file; raises `Refused` (400) if the form is incomplete or has no file."""
        if not self._complete:
            raise _malformed("it ends early")
        if not self._file_complete:
            raise _malformed("it has no file")
        return Content(self._scratch, [Extent(0, self._size)])

    def on_part_begin(self) -> None:
        self._name, self._disposition = "", b""
        self._value.clear()

    def on_header_begin(self) -> None:
        self._header.clear()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        self._header += data[start:end].lower()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        if self._header == b"content-disposition":
            self._disposition += data[start:end]

    def on_headers_finished(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name", b"")
        self._name = name.decode(errors="replace")
        if self._name == _FILE:
            if self._file_complete:
                raise _malformed("it has two files")
            self._permit(self.fields)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == _FILE:
            with memoryview(data)[start:end] as piece:
                self._scratch.write_at(self._size, piece)
            self._size += end - start
            return
        self._spend(end - start)
        self._value += data[start:end]

    def on_part_end(self) -> None:
        if self._name == _FILE:
            self._file_complete = True
        elif not self._file_complete:
            self.fields[self._name] = self._value.decode(errors="replace")

    def on_end(self) -> None:
        self._complete = True

    def _spend(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            raise _malformed(f"its fields are longer than {_FIELDS_LIMIT} bytes")


def _parser(boundary: bytes, form: Form) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_begin": form.on_header_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
    except FormParserError as error:
        raise _malformed(str(error)) from error


def _malformed(reason: str) -> Refused:
    return Refused(400, "MalformedPOSTRequest", f"The form cannot be used: {reason}.")
