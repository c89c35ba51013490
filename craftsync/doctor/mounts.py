"""Which filesystem a folder lies on, as the kernel tells it (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "lustre", "ncpfs", "nfs"),
    *("nfs4", "smb3", "smbfs"),
    *("fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}


def kind_of(folder: Path) -> str:
    """Return the type of the filesystem a folder lies on, such as "ext4" or "nfs4"."""
    place = os.path.realpath(folder)
    kind, depth = "unknown", -1
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split(" ")[4])
        # A later mount over the same point hides the earlier one.
        if _contains(point, place) and len(point) >= depth:
            kind, depth = after.split(" ")[0], len(point)
    return kind


def is_network(kind: str) -> bool:
    """Tell whether other machines can change what lies on a filesystem of this type."""
    return kind in _NETWORK


def _contains(point: str, place: str) -> bool:
    return place == point or place.startswith(point.rstrip("/") + "/")


def _unescaped(field: str) -> str:
    """Return a field with its octal escapes (for blanks and the backslash) resolved."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
