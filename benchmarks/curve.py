"""Throughput of uploads against the number of transfers at once, near and far: a plot for docs/benchmarks.md.

    python -m benchmarks.curve

Each point is one push of new files of 4 KiB into a bucket that craftsync knows
already. Writes docs/concurrency.svg, and the figures into docs/benchmarks.md.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import report, workloads
from benchmarks.scenarios import Bench
from benchmarks.stores import lean_store
from benchmarks.tools import BIN

DELAYS = (0, 10, 30, 80)
"""Milliseconds that a request takes longer."""
FIXED = (1, 4, 16, 64, 256)
AUTO = "auto"
_FILES = 1000
_FEW = 100
"""Files of a run with fewer than 16 transfers at once, which would take minutes."""
_PICTURE = Path(__file__).parent.parent / "docs" / "concurrency.svg"

Points = Mapping[tuple[int, int | str], float]
"""Files a second by delay and number of transfers."""


def main() -> None:
    points = dict(_measured())
    _PICTURE.write_text(picture(points))
    report.put("concurrency", table(points), _PICTURE.with_name("benchmarks.md"))


def table(points: Points) -> str:
    """Return the plot's place and its figures, in markdown."""
    every = (*FIXED, AUTO)
    return "\n".join(
        [
            f"![Files of 4 KiB uploaded a second, by transfers at once]({_PICTURE.name})",
            "",
            f"| files a second, transfers at once: | {' | '.join(map(str, every))} |",
            f"|---|{'---|' * len(every)}",
            *(
                f"| {delay} ms | {' | '.join(f'{points[delay, each]:,.0f}' for each in every)} |"
                for delay in DELAYS
            ),
            "",
            f"{date.today().isoformat()}, one run each, {report.machine()}.",
        ]
    )


def _measured() -> Iterator[tuple[tuple[int, int | str], float]]:
    with TemporaryDirectory() as folder:
        bench = Bench.at(Path(folder), 120)
        for delay in DELAYS:
            for transfers in (*FIXED, AUTO):
                rate = _rate(bench, delay / 1000, transfers)
                print(f"{delay} ms, {transfers} at once: {rate:.0f} files a second", flush=True)
                yield (delay, transfers), rate


def _rate(bench: Bench, delay: float, transfers: int | str) -> float:
    count = _FEW if isinstance(transfers, int) and transfers < 16 else _FILES
    home = bench.home()
    files, root = home / "files", home / "root"
    workloads.random_files(files, folders=count // 100, files=100, size=4096)
    root.mkdir()
    (root / "first").write_text("first")
    push = [str(BIN / "craftsync"), "push", str(root), "s3://bucket", "-q"]
    with lean_store(home, delay) as store:
        bench.time(push, store.address, home)
        for each in files.iterdir():
            shutil.move(each, root)
        sample = bench.time([*push, "--transfers", str(transfers)], store.address, home)
    if sample.failure:
        raise SystemExit(sample.failure)
    return count / sample.wall


_WIDTH, _HEIGHT, _MARGIN = 640, 360, 56
_COLOURS = ("#1b9e77", "#7570b3", "#d95f02", "#e7298a")
_MOST_BITS = 9


def picture(points: Points) -> str:
    """Return the plot: a line for each delay over the fixed numbers, and a mark for `auto` at the right."""
    top = 10 ** math.ceil(math.log10(max(points.values())))
    bottom = 10 ** math.floor(math.log10(min(points.values())))
    decades = math.log10(top / bottom)

    def x(transfers: int | str) -> float:
        bits = _MOST_BITS if isinstance(transfers, str) else math.log2(transfers)
        return _MARGIN + bits / _MOST_BITS * (_WIDTH - 3 * _MARGIN)

    def y(rate: float) -> float:
        share = math.log10(rate / bottom) / decades
        return _HEIGHT - _MARGIN - share * (_HEIGHT - 2 * _MARGIN)

    parts = [_text(x(each), _HEIGHT - _MARGIN + 20, str(each)) for each in (*FIXED, AUTO)]
    for exponent in range(round(decades) + 1):
        rate = bottom * 10**exponent
        parts.append(_line([(_MARGIN, y(rate)), (_WIDTH - 2 * _MARGIN, y(rate))], "#ddd"))
        parts.append(_text(_MARGIN - 24, y(rate) + 4, f"{rate:,.0f}"))
    for delay, colour in zip(DELAYS, _COLOURS, strict=True):
        parts.append(_line([(x(each), y(points[delay, each])) for each in FIXED], colour))
        auto = points[delay, AUTO]
        parts.append(f'<circle cx="{x(AUTO):.0f}" cy="{y(auto):.0f}" r="5" fill="{colour}"/>')
        parts.append(_text(x(1) + 28, y(points[delay, 1]) - 8, f"{delay} ms", colour))
    parts.append(_text(_WIDTH / 2 - _MARGIN, _HEIGHT - 12, "transfers at once"))
    parts.append(_text(_WIDTH / 2 - _MARGIN, 24, "files of 4 KiB uploaded a second"))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    background = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', background, *parts, "</svg>", ""]
    )


def _line(places: list[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{across:.0f},{down:.0f}" for across, down in places)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _text(across: float, down: float, words: str, colour: str = "#333") -> str:
    place = f'x="{across:.0f}" y="{down:.0f}" text-anchor="middle"'
    return f'<text {place} font-family="sans-serif" font-size="13" fill="{colour}">{words}</text>'


if __name__ == "__main__":
    main()
