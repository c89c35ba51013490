"""What is aimed at, and what the tables of docs/benchmarks.md say of it: written from them, so that neither contradicts the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report

_OWN = "craftsync"
_SIXTEEN, _SIXTY_FOUR = "rclone", "rclone, 64 transfers"
_HALF = 0.5
"""The most of rclone's processor time that a transfer of small files is to take."""
_MEMORY = 150


@dataclass(frozen=True, slots=True)
class Aim:
    """What one table is to show: so many times as fast as a peer, or done in so many seconds."""

    work: str
    table: str
    times: float | None = None
    beside: str | None = None
    """The peer; the fastest one if it is not named."""
    cpu_share: float | None = None
    """The most processor time, of that of rclone with 64 transfers, or with 16 where it has no such row."""
    memory: int | None = None
    """The most memory in MiB."""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    seconds: float
    cpu: float
    memory: float


def _transfers() -> Iterator[Aim]:
    both = (("up", "upload"), ("down", "download"))
    yield Aim("5,000 × 4 KiB up", "upload-small", 1.4, None, _HALF)
    yield Aim("5,000 × 4 KiB down", "download-small", 1.1)
    for way, verb in both:
        yield Aim(f"4 × 128 MiB {way}", f"{verb}-large", 1)
    for way, verb in both:
        yield Aim(
            f"3,000 × 4 KiB {way}, 30 ms", f"{verb}-small-far", 1.2, None, _HALF, memory=_MEMORY
        )
    for way, verb in both:
        yield Aim(f"3,000 × 4 KiB {way}, 80 ms", f"{verb}-small-farther", 1)
    for way, verb in both:
        yield Aim(f"512 MiB {way}, 30 ms", f"{verb}-large-far", 1)
    lean = "lean server: "
    for what, name, times in (
        ("5,000 × 4 KiB {}", "small-lean-0", 1),
        ("3,000 × 4 KiB {}, 10 ms", "small-lean-10", 1),
        ("3,000 × 4 KiB {}, 30 ms", "small-lean-30", 1.2),
        ("3,000 × 4 KiB {}, 30 ms, TLS", "small-tls-lean-30", 1.2),
    ):
        for way, verb in both:
            yield Aim(lean + what.format(way), f"{verb}-{name}", times, None, _HALF, memory=_MEMORY)
    for what, name in (
        ("4 × 128 MiB {}", "large-lean-0"),
        ("4 × 128 MiB {}, 30 ms", "large-lean-30"),
        ("512 MiB {}", "one-large-lean-0"),
        ("512 MiB {}, 30 ms", "one-large-lean-30"),
        ("512 MiB {}, 30 ms, TLS", "one-large-tls-lean-30"),
    ):
        for way, verb in both:
            yield Aim(lean + what.format(way), f"{verb}-{name}", 1, memory=_MEMORY)


_ONE, _MANY = "SDK, one thread", "SDK, 16 threads"
AIMS = (
    *_transfers(),
    Aim("nothing to do, 200,000", "nothing-to-do", 2, "rclone"),
    Aim("nothing to do, 1,000,000", "million", memory=_MEMORY),
    Aim("`--version`", "start-up", seconds=0.15),
    Aim("one file to a folder", "one-file", seconds=0.4),
    Aim("Craft AI, 1,000 × 64 KiB up", "craft-ai-small-up", 4),
    Aim("Craft AI, 1,000 × 64 KiB down", "craft-ai-small-down", 4),
    Aim("Craft AI, 2 × 300 MiB up", "craft-ai-large-up", 1.5),
    Aim("Craft AI, 2 × 300 MiB down", "craft-ai-large-down", 1.5),
    Aim("Craft AI, 200 × 64 KiB up, 30 ms", "craft-ai-small-up-far", 2, _MANY),
    Aim("Craft AI, 200 × 64 KiB down, 30 ms", "craft-ai-small-down-far", 2, _MANY),
    Aim("between buckets, 5,000 × 4 KiB, streamed", "migrate-small-streamed", 2, "rclone"),
    Aim("between buckets, 4 × 128 MiB, streamed", "migrate-large-streamed", 1, "rclone"),
    Aim("between buckets, 5,000 × 4 KiB, by the server", "migrate-small-by-server", 1),
    Aim("between buckets, 4 × 128 MiB, by the server", "migrate-large-by-server", 1),
    Aim("between Craft AI environments, 1,000 × 64 KiB", "migrate-craft-ai-small", 5, _ONE),
    Aim("between Craft AI environments, 200 × 64 KiB, 30 ms", "migrate-craft-ai-far", 5, _ONE),
)


def publish(page: Path) -> None:
    """Write the table of aims into the page."""
    report.put("aims", table(page.read_text("utf-8")), page)


def table(page: str) -> str:
    """Return the aims beside what the tables of a page say."""
    lines = ["| work | aim | measured | |", "|---|---|---|---|"]
    for aim in AIMS:
        rows = _rows(report.placed(aim.table, page))
        measured, is_met = _measured(aim, rows) if _OWN in rows else ("not measured", None)
        verdict = "" if is_met is None else "met" if is_met else "missed"
        lines.append(f"| {aim.work} | {_wanted(aim)} | {measured} | {verdict} |")
    return "\n".join(lines)


def _rows(text: str) -> dict[str, _Row]:
    """Return the rows of a table by tool, without those that failed."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and "(" in cells[1] and cells[3]:
            if cells[0] == "tool":
                continue
            seconds, cpu, memory = cells[1].partition(" ")[0], cells[3], cells[4]
            found[cells[0]] = _Row(*(float(x.replace(",", "")) for x in (seconds, cpu, memory)))
    return found


def _wanted(aim: Aim) -> str:
    parts = []
    if aim.times == 1:
        parts.append(f"as fast as {aim.beside or 'the fastest'}")
    elif aim.times is not None:
        parts.append(f"{aim.times:g} × {aim.beside or 'the fastest'}")
    if aim.seconds is not None:
        parts.append(f"{aim.seconds:g} s")
    if aim.cpu_share is not None:
        parts.append(f"{aim.cpu_share:.0%} of rclone's processor time".replace("%", " %"))
    if aim.memory is not None:
        parts.append(f"{aim.memory} MiB")
    return ", ".join(parts)


def _measured(aim: Aim, rows: Mapping[str, _Row]) -> tuple[str, bool]:
    own = rows[_OWN]
    parts: list[str] = []
    verdicts: list[bool] = []
    if aim.times is not None:
        said, ratio = _speed(own, rows, aim.beside)
        parts.append(said)
        verdicts.append(ratio >= aim.times)
    if aim.seconds is not None:
        parts.append(f"{own.seconds:.2g} s")
        verdicts.append(own.seconds <= aim.seconds)
    if aim.cpu_share is not None:
        rclone = rows.get(_SIXTY_FOUR) or rows[_SIXTEEN]
        share = own.cpu / rclone.cpu
        parts.append(f"{100 * share:.0f} %")
        verdicts.append(share <= aim.cpu_share)
    if aim.memory is not None:
        parts.append(f"{own.memory:.0f} MiB")
        verdicts.append(own.memory <= aim.memory)
    return ", ".join(parts), all(verdicts)


def _speed(own: _Row, rows: Mapping[str, _Row], beside: str | None) -> tuple[str, float]:
    """Return how many times as fast as a peer or the fastest of them, in words and as a number."""
    peers = {name: row for name, row in rows.items() if name != _OWN and beside in (None, name)}
    fastest = min(peers, key=lambda name: peers[name].seconds)
    ratio = round(peers[fastest].seconds / own.seconds, 2)
    others = _others(own, peers, fastest)
    return f"{ratio:.2f} × {fastest}{others}", ratio


def _others(own: _Row, peers: Mapping[str, _Row], fastest: str) -> str:
    """Return how many times as fast as the fastest rclone, where another program is faster still."""
    rclones: Sequence[str] = [name for name in peers if name in (_SIXTEEN, _SIXTY_FOUR)]
    if not rclones or fastest in rclones:
        return ""
    name = min(rclones, key=lambda each: peers[each].seconds)
    return f" ({peers[name].seconds / own.seconds:.2f} × {name})"
