"""The HTTP server over a fake S3: real sockets on loopback, and nothing of S3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.fake_s3 import serving
from tests.support.s3.fake import FakeS3
from tests.support.s3.personality import FAULTY, PERSONALITIES, Personality
from tests.support.servers import ACCESS_KEY, SECRET_KEY, S3Server


@contextmanager
def served(fake: FakeS3) -> Iterator[S3Server]:
    """Serve a fake over HTTP until the end of the block."""
    with serving(fake) as endpoint:
        yield S3Server(f"fake-{fake.personality.name}", endpoint, checks_keys=fake.keys is not None)


@contextmanager
def fake_s3(
    personality: Personality | str = "plain",
    *buckets: str,
    clock: Callable[[], int] = time.time_ns,
) -> Iterator[tuple[S3Server, FakeS3]]:
    """Serve a fake S3 with this personality, or the one of this name, and these buckets."""
    if isinstance(personality, str):
        personality = (PERSONALITIES | FAULTY)[personality]
    fake = FakeS3(personality, (ACCESS_KEY, SECRET_KEY), clock)
    for name in buckets:
        fake.bucket(name)
    with served(fake) as server:
        yield server, fake
