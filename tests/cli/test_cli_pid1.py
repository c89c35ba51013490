"""craftsync as process 1 of a container: ends are taken, signals arrive, the exit code is the command's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import DEADLINE, SCRIPT, Craftsync, until

NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    """Skip the tests where nobody may make a container of this kind."""
    can = (
        shutil.which("unshare")
        and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0
    )
    if not can:
        pytest.skip("no namespace can be made here")


@contextmanager
def as_process_1(craftsync: Craftsync, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*NAMESPACE, "--kill-child", str(SCRIPT), *words],
        cwd=craftsync.folder,
        env=craftsync.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_notify_command_children_leave_no_zombies(
    craftsync: Craftsync,
) -> None:
    here, gone = craftsync.folder, craftsync.folder / "gone"
    hook = ["/bin/sh", "-c", f"(sleep 0.2; touch {gone}) & exit 0"]
    craftsync.config.write_text(
        f"environments: {{s: {{store: directory, path: {here}/store}}}}\n"
        f"folders: {{f: {{root: {here}/root, environment: s}}}}\n"
        f"notify: {json.dumps(hook)}\n"
    )
    craftsync.write("root/a", "local")
    craftsync.write("store/a", "in the store")
    with as_process_1(craftsync, "watch") as process:
        until(gone.exists, "the child of the command")
        (first,) = children(process.pid)
        until(
            lambda: not any(is_zombie(pid) for pid in children(first)), "the end of it to be taken"
        )
        os.kill(first, signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize(("words", "code"), [(("--version",), 0), (("push", "./none", "./s"), 3)])
def test_process_1_exits_with_the_code_of_its_command(
    craftsync: Craftsync, words: tuple[str, ...], code: int
) -> None:
    with as_process_1(craftsync, *words) as process:
        assert process.wait(DEADLINE) == code
