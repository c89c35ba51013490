"""A real Ceph object gateway on loopback, all of it in memory, where Debian's packages are installed.

    python -m tests.support.ceph COMMAND…

runs a command while a gateway is up, which CRAFTSYNC_TEST_S3_ENDPOINT and the
AWS_* keys name for it. One monitor, one OSD and one gateway of the packages
radosgw, ceph-mon and ceph-osd make it; about fifteen seconds pass until it
answers. Without authentication between them, so it listens on 127.0.0.1 only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.servers import ACCESS_KEY, SECRET_KEY, S3Server, free_port, running

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_SECONDS = 120.0
UNAVAILABLE = 75
"""The exit code of this module when no gateway could be started (EX_TEMPFAIL)."""

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{port}]
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
"""


def missing() -> list[str]:
    """Return the programs that a gateway needs and that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class _Cluster:
    """The parts of a gateway, each started with one configuration and ended with the stack."""

    def __init__(self, folder: Path, monitor: int, stack: ExitStack) -> None:
        self._config, self._stack = folder / "ceph.conf", stack
        self._end = time.monotonic() + START_SECONDS
        self.fsid = str(uuid.uuid4())
        for name in ("mon", "osd"):
            (folder / name).mkdir()
        (folder / "keyring").touch()
        settings = {"fsid": self.fsid, "port": monitor, "folder": folder}
        self._config.write_text(_CONFIGURATION.format(**settings))

    def call(self, program: str, *words: str) -> None:
        command = [program, "-c", str(self._config), *words]
        left = max(self._end - time.monotonic(), 1.0)
        subprocess.run(command, check=True, capture_output=True, timeout=left)

    def start(self, program: str, *words: str, listens_on: int) -> None:
        command = [program, "-c", str(self._config), "-f", *words]
        self._stack.enter_context(running(command, listens_on))


@contextmanager
def gateway(folder: Path) -> Iterator[S3Server]:
    """Run a gateway that keeps its files in an empty folder.

    Raises `OSError`, `RuntimeError` or `subprocess.SubprocessError` when one
    of its parts does not start within its time.
    """
    monitor, port, osd = free_port(), free_port(), str(uuid.uuid4())
    with ExitStack() as stack:
        cluster = _Cluster(folder, monitor, stack)
        place = "--addv", "a", f"[v1:127.0.0.1:{monitor}]", "--fsid", cluster.fsid
        cluster.call("monmaptool", "--create", *place, str(folder / "map"))
        cluster.call("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "map"))
        cluster.start("ceph-mon", "-i", "a", listens_on=monitor)
        cluster.call("ceph", "osd", "new", osd)
        cluster.call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        # An OSD listens on ports of its own choice; whoever needs it waits for it.
        cluster.start("ceph-osd", "-i", "0", listens_on=monitor)
        keys = f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"
        cluster.call("radosgw-admin", "user", "create", "--uid=t", "--display-name=t", *keys)
        frontend = f"beast endpoint=127.0.0.1:{port}"
        cluster.start("radosgw", "-n", "client.rgw", "--rgw-frontends", frontend, listens_on=port)
        yield S3Server("ceph", f"http://127.0.0.1:{port}", checks_keys=True)


def main(command: list[str]) -> int:
    """Run a command with a gateway; return its exit code, or `UNAVAILABLE`."""
    if lacking := missing():
        print(f"No Ceph gateway: {', '.join(lacking)} not installed.", file=sys.stderr)  # noqa: T201
        return UNAVAILABLE
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            server = stack.enter_context(gateway(Path(folder)))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"No Ceph gateway: {error}.", file=sys.stderr)  # noqa: T201
            return UNAVAILABLE
        named = {
            "CRAFTSYNC_TEST_S3_ENDPOINT": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        return subprocess.run(command, env={**os.environ, **named}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
