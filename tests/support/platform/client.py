"""Ways for a test to use a Craft AI store as a caller would."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from craftsync.stores.base import Store
from tests.support.platform.server import FaultyPlatform

PART = 256 * 1024
"""Bytes of the smallest part that Google Cloud Storage takes."""
SMALL = b"small content"
LARGE = random.Random(1).randbytes(4 * PART + 5)
"""The content of five such parts."""


def content_of(store: Store, path: str, **options: object) -> bytes:
    with store.read(path, **options) as reader:  # type: ignore[arg-type]
        return b"".join(reader)


IN_A_PROCESS = """
import hashlib, sys
from pathlib import Path
from craftsync.core.model import ABSENT
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from craftsync.stores.sources import FileSource

url, token, path, single_post, do = sys.argv[1:]
store = CraftAiStore(Access(url, lambda: token, url), limits=Limits(single_post=int(single_post)))
if do == "up":
    with open(path, "rb") as opened:
        source = FileSource(opened.fileno(), path)
        found = store.write("a", source, expect=ABSENT, operation="one")
        print(found.size, source.digest.hex())
else:
    digest, size = hashlib.sha256(), 0
    with store.read("a") as reader:
        for chunk in reader:
            digest.update(chunk)
            size += len(chunk)
    print(size, digest.hexdigest())
store.close()
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def carried(platform: FaultyPlatform, path: Path, single_post: int, do: str) -> tuple[str, int]:
    """Move an object in a process of its own; return its size and digest, and the megabytes that took."""
    arguments = [platform.url, platform.token, str(path), str(single_post), do]
    run = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    described, megabytes = run.stdout.splitlines()
    return described, int(megabytes)
