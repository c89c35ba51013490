"""Measures `craftsync ui` over folders of very many objects: when the first rows stand, and the server's memory.

    python -m benchmarks.page [--objects N] [--levels N]

Opens the folders one after the other in Debian's chromium, each in a tab that
stays open. Needs the packages of the tests.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.daemon import CRAFTSYNC

CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--levels", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for level in range(asked.levels):
            fill(folder / f"store/folder-{level}", asked.objects)
        (folder / "config.yaml").write_text(
            f"environments:\n  local: {{store: directory, path: {folder / 'store'}}}\n"
        )
        environment = {"HOME": made, "CRAFTSYNC_CONFIG": str(folder / "config.yaml")}
        server = subprocess.Popen(
            [CRAFTSYNC, "ui", "--no-open", "--port", "0"],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            link = re.search(r"http\S+", server.stdout.readline())
            assert link is not None
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                look(browser, link.group(), server.pid, asked)
        finally:
            server.terminate()
            server.wait()


def fill(folder: Path, objects: int) -> None:
    folder.mkdir(parents=True)
    for number in range(objects):
        (folder / f"reading-{number:08}.parquet").touch()


def look(browser: Browser, link: str, server: int, asked: argparse.Namespace) -> None:
    """Open each level in a tab of its own, and say what that took."""
    context = browser.new_context()
    first = context.new_page()
    first.goto(link)
    first.get_by_role("main").wait_for()
    say("no level", 0, 0, server)
    for level in range(asked.levels):
        page = context.new_page()
        begin = time.monotonic()
        page.goto(f"{link.partition('/?')[0]}/store?at=local&folder=folder-{level}")
        page.get_by_role("link", name=".parquet").first.wait_for(timeout=60_000)
        rows = time.monotonic() - begin
        page.get_by_text(f"{asked.objects:,} entries", exact=True).wait_for(timeout=60_000)
        everything = time.monotonic() - begin
        page.wait_for_timeout(1_500)  # The last sorting is over.
        say(f"{level + 1} of {asked.objects:,} objects", rows, everything, server)


def say(what: str, rows: float, all_of_it: float, server: int) -> None:
    status = Path(f"/proc/{server}/status").read_text()
    now, most = (
        int(status.partition(f"{name}:")[2].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")
    )
    took = f"first rows after {rows:.2f} s, all after {all_of_it:.1f} s; " if rows else ""
    sys.stdout.write(f"{what}: {took}{now} MB now, {most} MB at most\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
