"""Tells systemd how the daemon is, over the socket it names (sd_notify(3)). Without systemd it tells nobody."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_LONGEST = 2_000
"""Characters of an assignment."""


class ServiceManager:
    """What started this process, if it is one that wants to know how it goes (`is_there`).

    `watchdog_seconds` is how often it wants to be told that all is well before
    it takes the process for hung; `None` when it does not watch.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET")
        self.watchdog_seconds: float | None = None
        # WATCHDOG_PID is there so that a child with the same variables stays silent (sd_watchdog_enabled(3)).
        if self._address and environment.get("WATCHDOG_PID", "") in {"", str(os.getpid())}:
            self.watchdog_seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 or None

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def tell(self, *assignments: str) -> None:
        """Send assignments such as `READY=1`; nobody waits for whether they arrive.

        An assignment is one line: what a reason contains must not be taken for another.
        """
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(b"\n".join(map(_as_line, assignments)), address)


def _as_line(assignment: str) -> bytes:
    plain = "".join(char if char.isprintable() else "?" for char in assignment)
    return plain[:_LONGEST].encode(errors="replace")
