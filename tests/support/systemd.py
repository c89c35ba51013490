"""A service manager of the test's own: a real `systemd --user`, in folders of the test."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

import pytest

from tests.support.cli import SCRIPT, Craftsync, until

SYSTEMD = Path("/lib/systemd/systemd")
_ONE_AT_A_TIME = Path(gettempdir()) / "craftsync-tests-service-manager.lock"
_BOOTED = Path("/run/systemd/system")
"""systemctl talks to nobody while this folder is missing (sd_booted(3))."""


class UserManager:
    """Runs services for a user whose home is the folder of the test."""

    def __init__(self, craftsync: Craftsync, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._craftsync = craftsync

    def systemctl(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["systemctl", "--user", *words],
            env=self._craftsync.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def shows(self, fact: str) -> str:
        """Return one property of the service."""
        return self.systemctl("show", f"--property={fact}", "--value", "craftsync")

    def until_shows(self, fact: str, *values: str) -> None:
        until(lambda: self.shows(fact) in values, f"{fact}={' or '.join(values)}")

    @property
    def pid(self) -> int:
        return int(self.shows("MainPID"))

    def set_up(self, *lines: str) -> None:
        """Give the service other settings, by a drop-in; they count from its next start."""
        file = self._craftsync.folder / ".config/systemd/user/craftsync.service.d/test.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["[Service]", *lines, ""]))
        self.systemctl("daemon-reload")

    def hands_over(self, credential: str, name: str) -> bool:
        """Tell whether a service of this manager gets the credential of that name."""
        look = f'test -s "$CREDENTIALS_DIRECTORY/{name}"'
        run = subprocess.run(
            [
                "systemd-run",
                "--user",
                "--wait",
                "--collect",
                "-q",
                "-p",
                credential,
                "/bin/sh",
                "-c",
                look,
            ],
            env=self._craftsync.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return run.returncode == 0


@contextmanager
def user_manager(craftsync: Craftsync) -> Iterator[UserManager]:
    """Start a manager; skips the test where none can be had, and says why.

    One at a time on this machine: all have the same control group for a
    service of the same name, and one that stops its own stops the others' too.
    """
    with _ONE_AT_A_TIME.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _user_manager(craftsync) as manager:
            yield manager


@contextmanager
def _user_manager(craftsync: Craftsync) -> Iterator[UserManager]:
    _need(SYSTEMD.exists() and shutil.which("systemctl"), "systemd is not installed")
    _need(shutil.which("dbus-daemon"), "dbus-user-session is not installed")
    try:
        _BOOTED.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _need(_BOOTED.is_dir(), f"systemd is not running, and {_BOOTED} cannot be made: {error}")
    run = craftsync.folder / "run"
    run.mkdir(mode=0o700)
    craftsync.environment |= {
        "XDG_RUNTIME_DIR": str(run),
        "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}",
    }
    with (
        (craftsync.folder / "manager.log").open("wb") as log,
        subprocess.Popen(
            [SYSTEMD, "--user", "--log-target=console"],
            env=craftsync.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        manager = UserManager(craftsync, process)
        try:
            _wait_for_start(manager, craftsync.folder / "manager.log")
            yield manager
        finally:
            manager.systemctl("stop", "craftsync", check=False)
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the manager; one that waits for something of its own is not waited for, and leaves nothing behind."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)


def _need(there: object, reason: str) -> None:
    if not there:
        pytest.skip(reason)


def _wait_for_start(manager: UserManager, log: Path) -> None:
    until(
        lambda: (
            manager.process.poll() is not None
            or manager.systemctl("is-system-running", check=False) in ("running", "degraded")
        ),
        "the user's service manager",
    )
    _need(manager.process.poll() is None, f"systemd --user does not start: {log.read_text()}")
