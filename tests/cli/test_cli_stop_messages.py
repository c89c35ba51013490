"""Ctrl-C and SIGTERM during a run: heard at once, and what was done until then is said."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.support.cli import DEADLINE, Craftsync, Process

SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
MANY = 1500
"""Paths whose lines are more than a pipe holds, so that whoever prints them waits for the reader."""


def stopped(process: Process, number: signal.Signals) -> tuple[int, str]:
    """Stop a run, wait for the line that says so, and return its exit code and what it printed."""
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stderr.readline() == b"craftsync: stopping\n"
    out, err = process.communicate(timeout=DEADLINE)
    assert b"Traceback" not in err
    return process.returncode, out.decode()


@SIGNALS
@pytest.mark.parametrize(
    ("words", "says"),
    [(("push", "root"), "push"), (("sync", "root"), "sync"), (("migrate", "./root"), "migrate")],
    ids=["push", "sync", "migrate"],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "JSON"])
def test_stopped_run_reports_the_stop_and_then_its_summary(
    craftsync: Craftsync,
    words: tuple[str, ...],
    says: str,
    number: signal.Signals,
    code: int,
    *,
    as_json: bool,
) -> None:
    craftsync.write("root/a", "content")
    os.truncate(craftsync.write("root/large", ""), 64 << 20)
    flags = ("--json",) if as_json else ("--verbose",)
    limit = ("--bwlimit", "1M")
    store = craftsync.folder / "store"
    process = craftsync.start(*words, "./store", *flags, *limit)
    assert process.stdout is not None
    done = process.stdout.readline().decode()
    assert '"a"' in done or " a " in done
    ended, out = stopped(process, number)
    assert ended == code
    assert not (store / "large").exists()
    last = out.splitlines()[-1]
    if as_json:
        summary = json.loads(last)
        assert (summary["type"], summary["exit_code"]) == ("summary", code)
        assert summary["uploaded"] + summary["copied"] == 1
    else:
        assert last.startswith(f"{says}: stopped before the end; until then: 1 ")


@SIGNALS
def test_stopped_check_reports_how_much_was_compared(
    craftsync: Craftsync, number: signal.Signals, code: int
) -> None:
    for index in range(MANY):
        craftsync.write(f"root/{index:0100}")
    (craftsync.folder / "store").mkdir()
    process = craftsync.start("check", "root", "./store")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"+"
    ended, out = stopped(process, number)
    assert ended == code
    assert out.splitlines()[-1].startswith("check: stopped before the end; until then: ")
    assert out.splitlines()[-1].endswith(" not equal")
