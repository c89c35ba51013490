"""How `serve` receives content in forms and parts, and how it sends ranges."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import md5, sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craftsync.serve.content import BLOCK, Content, Extent, Form, Scratch, SmallScratch
from craftsync.serve.errors import Refused
from craftsync.serve.multipart import (
    ABANDONED_SECONDS,
    LIFETIME_SECONDS,
    MOST_UPLOADS,
    ListedPart,
    Upload,
    Uploads,
)
from craftsync.serve.objects import range_of
from tests.support.clock import FakeClock

BOUNDARY = "----limit"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, *, file: bool = False) -> bytes:
    filename = '; filename="f"' if file else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def whole(content: Content) -> bytes:
    return content.read_at(0, content.size)


def permit_all(fields: Mapping[str, str]) -> None:
    """Permit every upload."""


def taken(*pieces: bytes) -> tuple[dict[str, str], bytes]:
    """Return the fields and the file of a form that arrives in these pieces."""
    form = Form(TYPE, SmallScratch(), permit_all)
    for piece in pieces:
        form.feed([piece])
    return form.fields, whole(form.content())


@given(
    st.binary(max_size=300).filter(lambda content: b"\r\n--" + BOUNDARY.encode() not in content),
    st.sets(st.integers(0, 600), max_size=8),
)
def test_form_parses_equally_for_any_chunking(content: bytes, cuts: set[int]) -> None:
    sent = body(part("key", "é/f".encode()), part("file", content, file=True))
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(edges)]
    assert taken(*pieces) == ({"key": "é/f"}, content)


@pytest.mark.parametrize("near", [b"\r\n--", b"\r\n------limi", b"--" + BOUNDARY.encode()])
def test_boundary_like_bytes_in_the_file_are_content(near: bytes) -> None:
    content = near * 3 + b"x" + near
    assert taken(body(part("file", content, file=True)))[1] == content


def test_truncated_form_is_rejected() -> None:
    sent = body(part("key", b"k"), part("file", b"content", file=True))
    for end in range(len(sent) - 2):
        with pytest.raises(Refused):
            taken(sent[:end])


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense",
        body(),
        body(part("key", b"k")),
        body(part("file", b"1", file=True), part("file", b"2", file=True)),
        body(part("key", bytes(70_000)), part("file", b"1", file=True)),
        body(*(part(f"k{number}", b"") for number in range(3000)), part("file", b"1")),
    ],
)
def test_form_without_exactly_one_file_is_rejected(sent: bytes) -> None:
    with pytest.raises(Refused) as refused:
        taken(sent)
    assert refused.value.status == 400


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", f"{TYPE}{'x' * 500}"])
def test_body_of_another_content_type_is_rejected(kind: str) -> None:
    with pytest.raises(Refused) as refused:
        Form(kind, SmallScratch(), permit_all)
    assert refused.value.status == 400


def test_form_file_is_not_stored_before_its_fields_are_checked() -> None:
    def refuse(fields: Mapping[str, str]) -> None:
        assert fields == {"key": "k"}
        raise Refused(403, "No", "No.")

    scratch = SmallScratch()
    form = Form(TYPE, scratch, refuse)
    with pytest.raises(Refused):
        form.feed([body(part("key", b"k"), part("file", b"content", file=True))])
    assert scratch.read_at(0, 100) == b""


def test_form_fields_after_the_file_are_ignored() -> None:
    sent = body(part("key", b"k"), part("file", b"1", file=True), part("key", b"other"))
    assert taken(sent) == ({"key": "k"}, b"1")


def put(upload: Upload, number: int, content: bytes) -> ListedPart:
    with upload.receiving(number, len(content)) as arrival:
        arrival.feed([content[:3], content[3:]])
    return ListedPart(number, f'"{arrival.etag()}"')


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.randoms())
def test_parts_sent_in_any_order_or_twice_are_assembled_in_order(
    contents: list[bytes], random: st.DataObject
) -> None:
    upload = Upload("p")
    order = [*range(len(contents)), *range(len(contents))]
    random.shuffle(order)  # type: ignore[attr-defined]
    listed = {number: put(upload, number + 1, contents[number]) for number in order}
    content = upload.content([listed[number] for number in sorted(listed)])
    assert whole(content) == b"".join(contents)
    assert content.digest == sha256(b"".join(contents)).digest()


@pytest.mark.parametrize("kind", [Scratch, SmallScratch])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 50), st.integers(0, 50))
def test_assembled_content_can_be_read_from_any_offset(
    kind: type[Scratch | SmallScratch], lengths: list[int], offset: int, length: int
) -> None:
    scratch, expected, extents = kind(), b"", []
    for index, size in enumerate(lengths):
        piece = bytes([65 + index]) * size
        scratch.write_at(100 * index, piece)
        extents.append(Extent(100 * index, size))
        expected += piece
    length = max(0, min(length, len(expected) - offset))
    assert Content(scratch, extents).read_at(offset, length) == expected[offset : offset + length]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_uploaded_file_of_any_size_is_received_completely(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sent = body(part("key", b"k"), part("file", content, file=True))
    pieces = [sent[start : start + 300_000] for start in range(0, len(sent), 300_000)]
    assert taken(*pieces) == ({"key": "k"}, content)


def test_part_upload_returns_its_md5() -> None:
    assert put(Upload("p"), 1, b"content").etag == f'"{md5(b"content").hexdigest()}"'


@pytest.mark.parametrize("sent", [b"12345", b"1234567"])
def test_part_of_unexpected_length_is_discarded(sent: bytes) -> None:
    upload = Upload("p")
    with pytest.raises(Refused), upload.receiving(1, 6) as arrival:
        arrival.feed([sent])
    with pytest.raises(Refused):
        upload.content([ListedPart(1, arrival.etag())])


def test_broken_off_part_keeps_the_previous_one() -> None:
    upload = Upload("p")
    first = put(upload, 1, b"first!")
    with pytest.raises(ConnectionError), upload.receiving(1, 6) as arrival:
        arrival.feed([b"sec"])
        raise ConnectionError
    assert whole(upload.content([first])) == b"first!"


def test_resent_parts_use_no_more_disk_space() -> None:
    upload = Upload("p")
    for _ in range(50):
        put(upload, 1, b"0123456789")
    assert os.fstat(upload.scratch.descriptor).st_size <= 20


def test_part_sent_during_assembly_is_ignored() -> None:
    upload = Upload("p")
    put(upload, 1, b"older")
    listed = put(upload, 1, b"newer")
    with upload.ending:
        content = upload.content([listed])
        for late in (b"late1", b"late2"):
            put(upload, 1, late)
        assert whole(content) == b"newer"


def test_completion_must_list_the_parts_that_arrived() -> None:
    upload = Upload("p")
    one, two = put(upload, 1, b"one"), put(upload, 2, b"two")
    for listed in (
        [],
        [two, one],
        [one, one],
        [one, ListedPart(3, two.etag)],
        [one._replace(etag="None")],
    ):
        with pytest.raises(Refused) as refused:
            upload.content(listed)
        assert refused.value.status == 400
    assert whole(upload.content([two])) == b"two"


def test_parts_smaller_than_the_announced_total_are_rejected() -> None:
    upload = Upload("p")
    one = put(upload, 1, b"one")
    upload.total = 4
    with pytest.raises(Refused, match="3 bytes of the 4"):
        upload.content([one])


def test_upload_idle_for_a_day_is_dropped() -> None:
    clock = FakeClock()
    uploads = Uploads(clock)
    resting, busy = uploads.begin("a"), uploads.begin("b")
    clock.advance(LIFETIME_SECONDS - 1)
    uploads.find(busy, "b")
    clock.advance(2)
    uploads.drop_stale()
    with pytest.raises(Refused):
        uploads.find(resting, "a")
    assert uploads.find(busy, "b").path == "b"


def test_upload_id_is_valid_only_for_its_path() -> None:
    uploads = Uploads(FakeClock())
    upload_id = uploads.begin("a")
    for wrong in ((upload_id, "b"), ("", "a"), (None, "a"), (7, "a")):
        with pytest.raises(Refused) as refused:
            uploads.find(*wrong)
        assert refused.value.status == 404


def test_unfinished_uploads_are_limited_in_number() -> None:
    uploads = Uploads(FakeClock())
    first, *_ = [uploads.begin("a") for _ in range(MOST_UPLOADS)]
    with pytest.raises(Refused) as refused:
        uploads.begin("a")
    assert refused.value.status == 503
    uploads.drop(first)
    uploads.begin("a")


def test_full_server_drops_an_abandoned_upload_for_a_new_one() -> None:
    clock = FakeClock()
    uploads = Uploads(clock)
    first, second, *_ = [uploads.begin("a") for _ in range(MOST_UPLOADS)]
    clock.advance(ABANDONED_SECONDS + 1)
    uploads.find(first, "a")
    uploads.begin("b")
    assert uploads.find(first, "a")
    with pytest.raises(Refused):
        uploads.find(second, "a")


def test_late_part_never_writes_into_another_upload() -> None:
    uploads = Uploads(FakeClock())
    upload_id = uploads.begin("a")
    with uploads.find(upload_id, "a").receiving(1, 4) as arrival:
        uploads.drop(upload_id)
        other = Scratch()
        arrival.feed([b"late"])
    assert os.fstat(other.descriptor).st_size == 0


RANGES = """
bytes=0-0     10  0 1
bytes=0-      10  0 10
bytes=3-5     10  3 3
bytes=3-99    10  3 7
bytes=9-9     10  9 1
bytes=-4      10  6 4
bytes=-99     10  0 10
bytes=5-3     10  all
bytes=-       10  all
bytes=0-1,3-4 10  all
items=0-1     10  all
bytes=a-b     10  all
bytes=10-     10  416
bytes=0-0     0   416
bytes=-0      10  416
"""


@pytest.mark.parametrize("row", [line.split() for line in RANGES.strip().splitlines()])
def test_range_header_parsing(row: list[str]) -> None:
    header, size, *expected = row
    try:
        found = range_of(header, int(size))
    except Refused as refused:
        assert [str(refused.status)] == expected
        assert refused.headers == {"content-range": f"bytes */{size}"}
    else:
        assert (list(map(str, found)) if found else ["all"]) == expected
