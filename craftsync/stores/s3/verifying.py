"""What a server says it holds after a write, compared with what was sent: pure."""

from __future__ import annotations

from craftsync.core.model import RemoteObject
from craftsync.errors import ContentDamaged


def is_ours(found: RemoteObject, written: RemoteObject) -> bool:
    """Tell whether what a look found is what was just written.

    Some servers give the object of an upload in parts another version than
    the completion said (rclone), and a resumed upload bears the operation it
    began with.
    """
    return (
        (found.version is not None and found.version == written.version)
        or (found.digest is not None and found.digest == written.digest)
        or (found.operation is not None and found.operation == written.operation)
    )


def stored_otherwise(location: str, key: str) -> ContentDamaged:
    """Return the error for an object that was read back and is not what was sent."""
    return ContentDamaged(
        f"{location} stored other bytes for {key} than were sent.",
        remedy="Check the network and the store: something changes data on its way.",
    )
