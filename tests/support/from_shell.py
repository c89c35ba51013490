"""A shell's call of craftsync, handed over to the fork server: see `calls.for_shell`.

It starts in a tenth of craftsync's time, for it needs nothing but extension
modules: loading `socket` or `json` takes as long as everything else it does.
A signal that it gets does not reach the call.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys

LONGEST = 64
"""Bytes of a report."""


def main() -> int:
    """Return the exit code of a call, as a shell has it; the words are a socket's number and the call's."""
    requests = _socket.socket(fileno=int(sys.argv[1]))
    report, reporting = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    request = {"words": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
    files = b"".join(each.to_bytes(4, sys.byteorder) for each in (0, 1, 2, reporting.fileno()))
    requests.sendmsg([marshal.dumps(request)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    reporting.close()
    report.recv(LONGEST)  # The process id.
    code = int(report.recv(LONGEST))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
