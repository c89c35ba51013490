"""An object that has to be read to find out whether it is another than the file is read once."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from typing import Protocol

import pytest

from tests.support.cli import Craftsync
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.s3 import FakeS3, fake_s3

MIB = 1 << 20
SMALL, LARGE = 5000, 32 * MIB + 1
"""The second is compared in three parts."""
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class Bucket(Protocol):
    """A store that another program writes to as well."""

    word: str

    def put(self, content: bytes) -> None:
        """Replace the object `data.bin` as another program does."""
        ...

    def bytes_read(self) -> int:
        """Return how many bytes of `data.bin` were asked for since the last `put`."""
        ...


class S3:
    word = "s3://bucket"

    def __init__(self, fake: FakeS3) -> None:
        self._fake = fake

    def put(self, content: bytes) -> None:
        bucket = self._fake.bucket("bucket")
        described = bucket.described(self._fake.personality, content)
        bucket.put(self._fake.personality, "data.bin", described)
        self._size = len(content)
        self._fake.requests.clear()

    def bytes_read(self) -> int:
        return sum(
            asked(request.headers.get("range", ""), self._size)
            for request in self._fake.requests
            if request.method == "GET" and request.target.partition("?")[0] == "/bucket/data.bin"
        )


class CraftAi:
    word = "craft-ai://"

    def __init__(self, platform: FaultyPlatform) -> None:
        self._platform = platform

    def put(self, content: bytes) -> None:
        self._platform.bucket.put("data.bin", content, etag="0" * 31 + "-3")
        self._size = len(content)
        self._platform.requests.clear()

    def bytes_read(self) -> int:
        return sum(
            asked(request.headers.get("range", ""), self._size)
            for request in self._platform.requests
            if request.endpoint == "get" and request.path.endswith("/data.bin")
        )


def asked(span: str, size: int) -> int:
    """Return how many bytes a range asks for of an object."""
    match = _RANGE.match(span)
    if match is None:
        return size
    return min(int(match[2]) + 1 if match[2] else size, size) - int(match[1])


@pytest.fixture(params=["plain", "kms", "craft-ai"])
def bucket(request: pytest.FixtureRequest, craftsync: Craftsync) -> Iterator[Bucket]:
    with ExitStack() as stack:
        if request.param == "craft-ai":
            platform = stack.enter_context(faulty_platform())
            # What is replaced would be read once more, to be kept: the platform copies nothing by itself.
            craftsync.config.write_text("trash: {store: off}\n")
            craftsync.environment |= {
                "CRAFT_AI_SDK_TOKEN": platform.token,
                "CRAFT_AI_ENVIRONMENT_URL": platform.url,
                "CRAFT_AI_CONTROL_URL": platform.url,
            }
            yield CraftAi(platform)
        else:
            server, fake = stack.enter_context(fake_s3(request.param, "bucket"))
            craftsync.environment |= server.variables
            yield S3(fake)


@cache
def two_versions(size: int) -> tuple[bytes, bytes]:
    """Return two contents of one size that begin and end alike."""
    content = bytearray(random.Random(size).randbytes(size))
    one = bytes(content)
    content[size * 3 // 4] ^= 0xFF
    return one, bytes(content)


SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "in parts"])
A_LITTLE = 16
"""Bytes that finding out what a Craft AI object is asks for."""


@SIZES
def test_a_conflict_of_two_contents_of_one_size_reads_the_object_once(
    size: int, bucket: Bucket, craftsync: Craftsync
) -> None:
    mine, theirs = two_versions(size)
    root = craftsync.folder / "root"
    root.mkdir()
    (root / "data.bin").write_bytes(mine)
    bucket.put(theirs)
    run = craftsync("sync", "root", bucket.word, "--json")
    assert (run.code, run.summary["conflicts"]) == (4, 1), run.err
    assert size <= bucket.bytes_read() <= size + A_LITTLE
    found = {file.name: file.read_bytes() for file in root.iterdir() if file.is_file()}
    assert found.pop("data.bin") == mine
    assert list(found.values()) == [theirs]
    assert craftsync("sync", "root", bucket.word, "--json").summary["uploaded"] == 0


@SIZES
def test_an_edit_in_the_store_that_keeps_the_size_is_read_once(
    size: int, bucket: Bucket, craftsync: Craftsync
) -> None:
    mine, theirs = two_versions(size)
    file = craftsync.folder / "root" / "data.bin"
    file.parent.mkdir()
    file.write_bytes(mine)
    assert craftsync("sync", "root", bucket.word).code == 0
    bucket.put(theirs)
    run = craftsync("sync", "root", bucket.word, "--json")
    assert (run.code, run.summary["downloaded"]) == (0, 1), run.err
    assert size <= bucket.bytes_read() <= size + A_LITTLE
    assert file.read_bytes() == theirs


@SIZES
def test_equal_contents_are_read_once_and_nothing_is_written(
    size: int, bucket: Bucket, craftsync: Craftsync
) -> None:
    mine, _ = two_versions(size)
    root = craftsync.folder / "root"
    root.mkdir()
    (root / "data.bin").write_bytes(mine)
    bucket.put(mine)
    run = craftsync("sync", "root", bucket.word, "--json")
    assert (run.code, run.summary["adopted"], run.summary["conflicts"]) == (0, 1, 0), run.err
    assert bucket.bytes_read() <= size + A_LITTLE
    assert [path.name for path in root.iterdir() if path.is_file()] == ["data.bin"]
