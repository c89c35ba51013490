"""`craftsync completion`: what TAB makes of a line, in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from select import select

import pytest

from tests.support.cli import DEADLINE, SCRIPT, Craftsync
from tests.support.servers import S3Server
from tests.support.serving import serving

STARTS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
LOADS = {
    "bash": "source <(craftsync completion bash)",
    "zsh": "autoload -Uz compinit && compinit -u && source <(craftsync completion zsh)",
    "fish": "craftsync completion fish | source",
}
READY = "ready-for-keys"
TO_START, TO_END = "\x01", "\x05"


class Shell:
    """An interactive shell on a terminal, with the completion loaded."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._sent = b""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Return where the shell has printed this since the last call."""
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self._sent.decode(errors="replace"), re.S)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self._sent!r}"
            if select([self._terminal], [], [], 1)[0]:
                self._sent += os.read(self._terminal, 65536)
        self._sent = b""
        return found

    def run(self, line: str) -> None:
        os.write(self._terminal, f"{line}; echo ready-for''-keys\r".encode())
        self.read_until(READY)

    def words_after(self, keys: str) -> list[str]:
        """Return the words the line has after these keys, as the shell understands them."""
        line = f"{keys}{TO_START}printf '<%s>' begin {TO_END} end\r"
        os.write(self._terminal, line.encode())
        found = self.read_until(r"<begin>(.*?)<end>")
        return re.findall(r"<(.*?)>", found[1])


@contextmanager
def started(craftsync: Craftsync, name: str) -> Iterator[Shell]:
    """Start a shell as its users have it, and load the completion."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (apt install {name})")
    ours, theirs = pty.openpty()
    environment = craftsync.environment | {
        "PATH": f"{SCRIPT.parent}:{os.defpath}",
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    with subprocess.Popen(
        # fish insists on a terminal of its own.
        ("setsid", "--ctty", *STARTS[name]),
        cwd=craftsync.folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shell = Shell(ours)
        try:
            shell.run(LOADS[name])
            yield shell
        finally:
            process.kill()
            os.close(ours)


def write_example(craftsync: Craftsync) -> None:
    craftsync.config.write_text(
        "environments:\n  archive: {store: directory, path: store}\n"
        "  prod: {store: s3, bucket: tab-bucket, prefix: pre}\n"
        "folders:\n  datasets: {root: data, environment: archive}\n"
    )
    for path in ("models/first.bin", "été à la mer/x", "top.csv"):
        craftsync.write(f"store/{path}")
    craftsync.write("data/clients.csv")


@pytest.fixture(params=STARTS)
def shell(request: pytest.FixtureRequest, craftsync: Craftsync) -> Iterator[Shell]:
    write_example(craftsync)
    with started(craftsync, request.param) as shell:
        yield shell


def test_tab_completes_names_with_colons_spaces_and_accents(
    shell: Shell, craftsync: Craftsync
) -> None:
    typed = {
        "craftsync watch --mode=tw\t": ["craftsync", "watch", "--mode=two-way"],
        "craftsync ls archive:é\t": ["craftsync", "ls", "archive:été à la mer/"],
        "craftsync ls 'archive:to\t": ["craftsync", "ls", "archive:top.csv"],
        "craftsync ls ~/store/to\t": ["craftsync", "ls", f"{craftsync.folder}/store/top.csv"],
    }
    assert {keys: shell.words_after(keys) for keys in typed} == typed


class Tab:
    """What the program answers the script of a shell that hands over words."""

    def __init__(self, craftsync: Craftsync) -> None:
        self.craftsync = craftsync

    def __call__(self, *words: str) -> list[str]:
        run = self.craftsync(*words, _CRAFTSYNC_COMPLETE="fish")
        assert (run.code, run.err) == (0, "")
        return [line.partition("\t")[0] for line in run.lines]


@pytest.fixture
def tab(craftsync: Craftsync) -> Tab:
    write_example(craftsync)
    return Tab(craftsync)


def test_tab_offers_commands_options_and_choices(tab: Tab) -> None:
    assert tab("mig") == ["migrate"]
    assert tab("trash", "re") == ["restore"]
    assert tab("push", "--max-d") == ["--max-delete"]
    assert tab("watch", "--mode", "") == ["two-way", "push", "pull"]
    assert tab("completion", "") == ["bash", "zsh", "fish"]
    assert {"watch", "sync", "completion"} <= set(tab(""))


def test_tab_offers_folders_then_files_where_both_fit(tab: Tab) -> None:
    assert tab("sync", "") == ["datasets", "data/", "store/"]
    assert tab("history", "--folder", "") == ["datasets"]
    assert tab("history", "data/") == ["data/clients.csv"]
    assert tab("config", "show", "") == ["datasets", "archive", "prod"]
    assert tab("--config", "conf") == ["config.yaml"]
    assert tab("put", "data/c") == ["data/clients.csv"]


def test_tab_offers_one_level_of_a_store(tab: Tab) -> None:
    assert tab("ls", "") == ["archive:", "prod:", "s3://", "craft-ai://", "./"]
    assert tab("ls", "archive:") == ["archive:models/", "archive:top.csv", "archive:été à la mer/"]
    assert tab("ls", "archive:models/") == ["archive:models/first.bin"]
    assert tab("sync", "data", "archive:t") == []
    assert tab("ls", "s3://") == ["s3://tab-bucket/"]


def test_tab_keeps_the_slashes_of_a_platform_address(tab: Tab) -> None:
    tab.craftsync.write("served/%41.txt")
    with serving(tab.craftsync.folder / "served", token="a-secret-token") as server:
        tab.craftsync.environment |= server.variables
        assert tab("cat", "craft-ai://%4") == ["craft-ai://%41.txt"]


def test_tab_lists_a_bucket_by_prefix(tab: Tab, moto: S3Server) -> None:
    moto.make_bucket("tab-bucket")
    tab.craftsync.environment |= moto.variables
    for path in ("models/a/1", "models/a/2", "models/b.bin", "other"):
        tab.craftsync.write(f"filled/{path}")
    assert tab.craftsync("push", "filled", "s3://tab-bucket/pre").code == 0
    assert tab("ls", "prod:models/") == ["prod:models/a/", "prod:models/b.bin"]
    assert tab("ls", "s3://tab-bucket/pre/o") == ["s3://tab-bucket/pre/other"]
    assert tab("check", "data", "s3://tab-bucket/pre/m") == ["s3://tab-bucket/pre/models/"]


def test_store_that_does_not_answer_is_not_queried_again_soon(tab: Tab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-3"}
        tab.craftsync.environment |= {"AWS_ENDPOINT_URL": address, **keys}
        assert tab("ls", "prod:mod") == []
        assert connections(silent) > 0
        assert tab("ls", "prod:mod") == []
        assert connections(silent) == 0


def test_tab_completes_a_slow_store_from_its_last_answer(tab: Tab, moto: S3Server) -> None:
    moto.make_bucket("tab-late")
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    tab.craftsync.environment |= {"AWS_ENDPOINT_URL": moto.endpoint, **keys}
    for path in ("one/a", "one/b/c", "two"):
        tab.craftsync.write(f"filled/{path}")
    assert tab.craftsync("push", "filled", "s3://tab-late").code == 0
    assert tab("ls", "s3://tab-late/one/") == ["s3://tab-late/one/a", "s3://tab-late/one/b/"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        tab.craftsync.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        assert tab("ls", "s3://tab-late/one/b") == ["s3://tab-late/one/b/"]
        assert tab("ls", "s3://tab-late/one/") == ["s3://tab-late/one/a", "s3://tab-late/one/b/"]
        assert tab("ls", "s3://tab-late/t") == []


def test_tab_offers_deleted_and_held_paths(tab: Tab) -> None:
    craftsync = tab.craftsync
    for number in range(40):
        craftsync.write(f"data/old/{number:02}", "x")
    assert craftsync("sync", "datasets").code == 0
    for path in ("clients.csv", "old/00"):
        (craftsync.folder / "data" / path).unlink()
    assert craftsync("sync", "datasets").code == 0
    assert tab("trash", "restore", "") == ["clients.csv", "old/"]
    assert tab("trash", "restore", "--folder", "datasets", "ol") == ["old/"]
    assert tab("trash", "list", "old/") == ["old/00"]
    for number in range(1, 40):
        (craftsync.folder / "data" / f"old/{number:02}").unlink()
    assert craftsync("sync", "datasets").code == 7
    assert tab("deletes", "approve", "old/3") == [f"old/{number}" for number in range(30, 40)]


def connections(server: socket.socket) -> int:
    """Return how many connections have arrived since the last call; all are dropped."""
    server.setblocking(False)
    for count in range(1000):
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError("it never ends")


def test_completion_with_an_invalid_configuration_prints_nothing(tab: Tab) -> None:
    tab.craftsync.config.write_text("folders: [")
    assert tab("history", "--folder", "") == []
    assert tab("ls", "archive:") == []
    assert tab("ls", "--nonsense", "") != ["--nonsense"]


def test_completion_install_puts_the_script_in_place(craftsync: Craftsync) -> None:
    for shell, place in (
        ("bash", ".local/share/bash-completion/completions/craftsync"),
        ("zsh", ".local/share/zsh/site-functions/_craftsync"),
        ("fish", ".config/fish/completions/craftsync.fish"),
    ):
        run = craftsync("completion", shell, "--install")
        assert run.lines[0] == f"wrote {craftsync.folder / place}"
        assert (craftsync.folder / place).read_text() == craftsync("completion", shell).text


def test_completion_without_a_word_is_for_the_shell_in_use(craftsync: Craftsync) -> None:
    assert "complete -c craftsync" in craftsync("completion", SHELL="/usr/bin/fish").text
    assert craftsync("completion", SHELL="/bin/dash").code == 2
    refused = craftsync("completion", "tcsh")
    assert (refused.code, "Give bash, zsh or fish." in refused.err) == (2, True)
