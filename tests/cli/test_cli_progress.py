"""The progress line counts what the other side has taken: nothing that only waits to be sent."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.support.cli import DEADLINE, Craftsync, until
from tests.support.fake_s3 import Request, proxied
from tests.support.gate import HELD_PER_CONNECTION, Gate, gated
from tests.support.platform import faulty_platform
from tests.support.s3 import fake_s3
from tests.support.terminal import Terminal, on_a_terminal

MIB = 1 << 20
ALLOWANCE = 3 * MIB
FIGURES = re.compile(r"([\d.]+)/([\d.]+) MiB")
WIDE = 120
FRAMES = 8
"""How often the line is drawn again before what it shows counts as what it goes on showing."""


class Line(NamedTuple):
    """A store behind a gate: the words for it, and how many connections an upload opens."""

    gate: Gate
    store: str
    connections: int


def figures(terminal: Terminal) -> list[tuple[float, float]]:
    """Return what each progress line so far showed as done and as the whole, in MiB."""
    return [(float(done), float(all)) for done, all in FIGURES.findall(terminal.sent)]


def shown_while_held(terminal: Terminal, gate: Gate) -> list[float]:
    """Return what was shown as done while the gate took nothing more; then open it."""
    until(lambda: gate.full.is_set() or terminal.process.poll() is not None, "the gate is full")
    assert gate.full.is_set(), terminal.sent
    before = len(figures(terminal))
    until(lambda: len(figures(terminal)) >= before + FRAMES, "the line is drawn again")
    held = [done for done, _ in figures(terminal)]
    gate.open()
    return held


@contextmanager
def s3_behind_a_gate(craftsync: Craftsync, connections: int) -> Iterator[Line]:
    with fake_s3("plain", "bucket") as (server, _), gated(server.endpoint, ALLOWANCE) as gate:
        craftsync.environment |= {
            "AWS_ENDPOINT_URL": gate.url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        yield Line(gate, "s3://bucket", connections)


@contextmanager
def craft_ai_behind_a_gate(craftsync: Craftsync, connections: int) -> Iterator[Line]:
    with faulty_platform() as platform, gated(platform.storage.url, ALLOWANCE) as gate:
        platform.storage.url = gate.url
        craftsync.environment |= {
            "CRAFT_AI_SDK_TOKEN": platform.token,
            "CRAFT_AI_ENVIRONMENT_URL": platform.url,
            "CRAFT_AI_CONTROL_URL": platform.url,
        }
        yield Line(gate, "craft-ai://", connections)


STORES = {
    "S3 in one piece": (s3_behind_a_gate, 16 * MIB, 1),
    "S3 in parts": (s3_behind_a_gate, 40 * MIB, 5),
    "Craft AI in one piece": (craft_ai_behind_a_gate, 16 * MIB, 1),
    "Craft AI in parts": (craft_ai_behind_a_gate, 40 * MIB, 3),
}


@pytest.mark.parametrize("command", ["sync", "migrate"])
@pytest.mark.parametrize("kind", STORES)
def test_the_progress_line_shows_no_byte_the_store_has_not_taken(
    kind: str, command: str, craftsync: Craftsync
) -> None:
    store_behind_a_gate, size, connections = STORES[kind]
    (craftsync.folder / "root").mkdir()
    (craftsync.folder / "root" / "large.bin").write_bytes(bytes(size))
    source = "root" if command == "sync" else "./root"
    with (
        store_behind_a_gate(craftsync, connections) as line,
        on_a_terminal(craftsync, WIDE, command, source, line.store) as terminal,
    ):
        held = shown_while_held(terminal, line.gate)
        assert terminal.end() == 0, terminal.sent
    on_their_way = line.connections * HELD_PER_CONNECTION
    assert max(held) * MIB <= ALLOWANCE + on_their_way
    assert max(held) > 0.5
    assert figures(terminal)[-1] == (size / MIB, size / MIB)


@pytest.mark.parametrize("columns", [40, WIDE])
def test_progress_line_shows_bytes_read_for_comparison(columns: int, craftsync: Craftsync) -> None:
    """Two sides that hold the same for the first time: nothing moves, and there is a lot to read."""
    over = threading.Event()
    (craftsync.folder / "root").mkdir()
    for name in ("first.bin", "second.bin"):
        (craftsync.folder / "root" / name).write_bytes(bytes(2 * MIB))

    def script(request: Request) -> None:
        if request.method == "GET" and request.target.endswith("/second.bin"):
            assert over.wait(DEADLINE)

    with fake_s3("kms", "bucket") as (behind, fake), proxied(behind, script) as (server, _):
        bucket, mine = fake.bucket("bucket"), fake.personality
        for name in ("first.bin", "second.bin"):
            bucket.put(mine, name, bucket.described(mine, bytes(2 * MIB)))
        craftsync.environment |= server.variables
        with on_a_terminal(craftsync, columns, "sync", "root", "s3://bucket") as terminal:
            what = (
                "hashing 2 files (2.0 MiB): 1/2 files"
                if columns == WIDE
                else "hashing 2 files: 1/2"
            )
            until(lambda: what in terminal.sent or terminal.process.poll() is not None, what)
            over.set()
            assert terminal.end() == 0, terminal.sent
    assert what in terminal.sent
