"""Takes the pictures in docs/screenshots/: each page of `craftsync ui`, wide and narrow, light and dark.

`make screenshots` runs it, in a folder of its own with a little data in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

SCRIPT = Path(sys.executable).with_name("craftsync")
TARGET = Path(__file__).parent / "screenshots"
SIZES = {"wide": (1280, 720), "narrow": (360, 740)}
CONFIG = """\
environments:
  production: {store: directory, path: production}
  archive: {store: directory, path: archive}
folders:
  forecasts: {root: forecasts, environment: production}
"""


class Shot(NamedTuple):
    """One page, and what is clicked before the picture is taken: roles and names, or texts."""

    name: str
    address: str
    clicks: tuple[tuple[str, str], ...] = ()


SHOTS = (
    Shot("overview", "/"),
    Shot("store", f"/store?{urlencode({'at': 'production', 'folder': 'datasets'})}"),
    Shot(
        "table",
        f"/object?{urlencode({'at': 'production', 'path': 'datasets/stations.csv'})}",
        (("combobox", "Column"), ("option", "temperature (number)")),
    ),
    Shot("text", f"/object?{urlencode({'at': 'production', 'path': 'train.py'})}"),
    Shot("conflicts", "/conflicts", (("button", "What differs"),)),
    Shot("deletes", "/deletes"),
    Shot("trash", "/trash"),
    Shot("history", "/history"),
    Shot("migrate", "/migrate"),
    Shot("plan", "/plan", (("button", "Make a plan"),)),
    Shot("config", "/config", (("text", "forecasts: "),)),
    Shot("doctor", "/doctor"),
)


def fill(folder: Path) -> None:
    """Write the files of the pictures, and make the runs they show."""
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "archive").mkdir()
    stations = ["station;day;temperature;humidity"]
    stations += [
        f"{('Brest', 'Lille', 'Nîmes')[at % 3]};2026-11-{at % 28 + 1:02};{8 + (at * 37 % 120) / 10};{40 + at * 13 % 55}"
        for at in range(360)
    ]
    write(folder, "datasets/stations.csv", "\n".join(stations) + "\n")
    for name, size in (("clients", 2_400_000), ("août", 810_000), ("sales", 5_200_000)):
        write(folder, f"datasets/{name}.parquet", "x" * size)
    for year in range(2019, 2027):
        write(folder, f"datasets/archive-{year}/days.csv", "day\n" * year)
    write(folder, "models/forecast.bin", "m" * 3_000_000)
    for number in range(30):
        write(folder, f"runs/{number:02}/metrics.json", json.dumps({"loss": 1 / (number + 1)}))
    write(folder, "train.py", TRAIN)
    write(folder, "notes.txt", "Use the stations of 2025.\nLeave out Lille.\n")
    (folder / "forecasts/chart.png").write_bytes(picture(320, 180))
    run(folder, "sync", "forecasts")
    write(folder, "notes.txt", "Use the stations of 2026.\nLeave out Lille.\n")
    (folder / "production/notes.txt").write_text("Use the stations of 2025.\nLeave out Brest.\n")
    write(folder, "train.py", TRAIN.replace("0.1", "0.05"))
    run(folder, "sync", "forecasts")
    for file in (folder / "forecasts/runs").rglob("*.json"):
        file.unlink()
    run(folder, "sync", "forecasts")
    write(folder, "datasets/december.csv", "day;temperature\n2026-12-01;9\n")


TRAIN = '''\
"""Trains the forecast of tomorrow's temperature."""

from pathlib import Path

RATE = 0.1


def train(stations: Path) -> float:
    """Return the loss of the last epoch."""
    loss = 1.0
    for _ in stations.read_text().splitlines():
        loss -= RATE * loss
    return loss
'''


def write(folder: Path, path: str, content: str) -> None:
    file = folder / "forecasts" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def picture(width: int, height: int) -> bytes:
    """Return a PNG."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(width) for v in (x * 255 // width, y, 120))
        for y in range(height)
    )

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "CRAFTSYNC_CONFIG": str(folder / "config.yaml"),
        "CRAFTSYNC_STATE_DIR": str(folder / "state"),
    }


def run(folder: Path, *words: str) -> None:
    subprocess.run(
        [SCRIPT, *words], cwd=folder, env=environment(folder), check=False, capture_output=True
    )


def take(browser: Browser, link: str) -> None:
    """Take every picture."""
    address = link.partition("/?")[0]
    entered = browser.new_context()
    first = entered.new_page()
    first.goto(link)
    first.wait_for_url(f"{address}/")
    cookies = entered.storage_state()
    TARGET.mkdir(exist_ok=True)
    for width, (across, down) in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(
                storage_state=cookies,
                viewport={"width": across, "height": down},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            page = context.new_page()
            for shot in SHOTS:
                take_one(page, address, shot)
                page.screenshot(path=TARGET / f"{shot.name}-{width}-{scheme}.png")
            context.close()


def take_one(page: Page, address: str, shot: Shot) -> None:
    page.goto(address + shot.address)
    page.get_by_role("main").wait_for()
    page.get_by_role("status", name="Loading").wait_for(state="detached")
    page.wait_for_timeout(900)
    for role, name in shot.clicks:
        found = page.get_by_text(name) if role == "text" else page.get_by_role(role, name=name)  # type: ignore[arg-type]
        found.first.click()
        page.wait_for_timeout(700)
        page.get_by_role("main").wait_for()
        page.wait_for_timeout(400)
    page.mouse.move(0, 0)


FOLDER = Path("/tmp/lab")
"""The pictures show where the files are: every time in the same place."""


def main() -> None:
    FOLDER.mkdir()
    try:
        fill(FOLDER)
        with (
            started("watch", "forecasts", "--quiet"),
            started("ui", "--no-open", "--port", "0") as ui,
        ):
            assert ui.stdout is not None
            found = re.search(r"http\S+", ui.stdout.readline())
            assert found is not None
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--no-sandbox"]
                )
                take(browser, found.group())
    finally:
        shutil.rmtree(FOLDER)


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of craftsync until the `with` ends."""
    process = subprocess.Popen(
        [SCRIPT, *words],
        cwd=FOLDER,
        env=environment(FOLDER),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main()
