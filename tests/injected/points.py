"""The system calls of a run that write, as strace counts them: by kind, and by number within a thread."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

KILL = "SIGKILL"
HELD_SECONDS = 300

_NAMES = ("EIO", "ENOSPC", "EACCES", "EROFS", "EPERM", "EINTR", "ENOMEM")
_WRITING = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
ERRNOS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("openat", "openat2"), ("EMFILE", "ENFILE", *_NAMES)),
    **dict.fromkeys(("write", "pwrite64", "copy_file_range", "ftruncate"), _WRITING),
    **dict.fromkeys(("fsync", "fdatasync", "syncfs"), ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    **dict.fromkeys(("renameat2", "rename", "renameat", "linkat", "link"), ("EBUSY", *_NAMES)),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), ("EBUSY", *_NAMES)),
    **dict.fromkeys(("mkdir", "mkdirat", "utimensat", "fchmod"), _NAMES),
    "sendto": ("ECONNRESET", "EPIPE", "ETIMEDOUT"),
}
"""The kinds of calls, and the errors that each may fail with."""


class Point(NamedTuple):
    """The `at`-th call of a kind in any thread is not made: the process is killed, or the call fails."""

    kind: str
    at: int
    fault: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.at}:{self.fault}"

    @classmethod
    def parse(cls, text: str) -> Point:
        kind, at, fault = text.split(":")
        return cls(kind, int(at), fault)

    @property
    def kills(self) -> bool:
        return self.fault == KILL


def recording(log: Path) -> list[str]:
    """Return the start of a command line that logs the system calls of the rest."""
    kinds = ",".join(f"?{kind}" for kind in ERRNOS)
    return ["strace", "-f", "-yy", "-s", "0", "--seccomp-bpf", "-o", str(log), f"--trace={kinds}"]


def injecting(point: Point, log: Path) -> list[str]:
    """Return the start of a command line that injects a point into the rest.

    A failed call is marked INJECTED in the log. For a kill, strace only holds the
    thread before the call: with strace's own SIGKILL, the program would stop at
    every call of every kind, which takes five times as long.
    """
    fault = f"delay_enter={HELD_SECONDS}s" if point.kills else f"error={point.fault}"
    return [
        *("strace", "-f", "--seccomp-bpf", "-s", "0", "-o", str(log), f"--trace={point.kind}"),
        f"--inject={point.kind}:{fault}:when={point.at}",
    ]


def held(point: Point, log: Path) -> int | None:
    """Return the thread that has reached the point according to the log; `None` if none has.

    A signal to that thread reaches the process. The first thread of the log may have ended.
    """
    calls = Counter[str]()
    for thread, kind in _BEGUN.findall(log.read_text(errors="replace") if log.exists() else ""):
        calls[thread] += kind == point.kind
        if calls[thread] == point.at:
            return int(thread)
    return None


def has_failed(log: Path) -> bool:
    """Return whether a call was made to fail."""
    return "(INJECTED)" in log.read_text(errors="replace")


_BEGUN = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")


def writing_calls(log: str, folder: str) -> dict[str, list[int]]:
    """Return by kind the numbers of the calls that write below a folder or to a server."""
    seen: Counter[tuple[str, str]] = Counter()
    found: defaultdict[str, set[int]] = defaultdict(set)
    for line in log.splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        thread, kind, rest = call.groups()
        seen[thread, kind] += 1
        if _writes(kind, rest, folder):
            found[kind].add(seen[thread, kind])
    return {kind: sorted(numbers) for kind, numbers in sorted(found.items())}


def _writes(kind: str, rest: str, folder: str) -> bool:
    if kind == "sendto":
        return "<TCP" in rest
    if kind in ("openat", "openat2") and "O_CREAT" not in rest and "O_TMPFILE" not in rest:
        return False
    return folder in rest and not rest.startswith(("1<", "2<"))
