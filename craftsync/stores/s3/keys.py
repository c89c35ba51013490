"""From paths to keys, which are paths behind the prefix of a store: pure."""

from __future__ import annotations

from craftsync.core.paths import MAX_PATH_BYTES
from craftsync.errors import PathRefused


def key_of(root: str, path: str) -> str:
    """Return the key of a path below the prefix `root`; raises `PathRefused` for what S3 takes as no key."""
    key = root + path
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise PathRefused(f"The name {path!r} is not valid UTF-8.") from None
    if length > MAX_PATH_BYTES or not path:
        raise PathRefused(f"{path} cannot be a key: {length} bytes, S3 takes 1 to 1024.")
    return key
