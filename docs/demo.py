"""`make run`: a folder and a store kept in sync, for everyone to watch.

It starts the installed `craftsync watch` and then works in demo/folder like a
user would, showing after each step what has arrived on the other side. Nothing
outside demo/ (or the folder named on the command line) is read or written.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

DEMO = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
FOLDER = DEMO / "folder"
STORE = DEMO / "store"
LOG = DEMO / "watch.log"
PATIENCE = 20.0
"""Seconds after which a step that has not arrived is a failure."""

Contents = dict[str, bytes]


class StepFailed(Exception):
    """Something did not arrive, or craftsync ended on its own."""


def contents(folder: Path) -> Contents:
    """Return what a folder holds, craftsync's own folder left out."""
    found: Contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != ".craftsync":
            # What was just renamed or deleted is seen rightly at the next look.
            with suppress(FileNotFoundError):
                found[str(name)] = path.read_bytes()
    return found


@contextmanager
def watching() -> Iterator[subprocess.Popen[bytes]]:
    """Keep `craftsync watch` running; its own words go to demo/watch.log."""
    craftsync = str(Path(sys.executable).with_name("craftsync"))
    command = [
        *(craftsync, "--state-dir", str(DEMO / "state"), "watch"),
        *(str(FOLDER), str(STORE), "--settle", "0.2", "--poll", "1"),
    ]
    with LOG.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_step(process: subprocess.Popen[bytes], changed: Path, other: Path) -> float:
    """Wait until the other side holds exactly what the changed side holds; return the seconds it took."""
    started = time.monotonic()
    pause = Event()
    while contents(other) != contents(changed):
        if process.poll() is not None:
            raise StepFailed(f"craftsync watch ended with exit code {process.returncode}")
        if time.monotonic() - started > PATIENCE:
            raise StepFailed(f"the {other.name} is not in sync after {PATIENCE:.0f} seconds")
        pause.wait(0.02)
    return time.monotonic() - started


def show_changes(before: Contents, after: Contents) -> None:
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            print(f"   - {name}")
        elif name not in before:
            print(f"   + {name}")
        elif before[name] != after[name]:
            print(f"   ~ {name}")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def steps() -> Iterator[tuple[str, Path, Path]]:
    """Do one thing after another; yields what was done, where, and which side has to follow."""
    yield "Three files were there from the start", FOLDER, STORE

    write(FOLDER / "datasets/clients.csv", b"id;name\n1;Zo\xc3\xa9\n2;Fran\xc3\xa7ois\n")
    yield "Edited datasets/clients.csv", FOLDER, STORE

    write(FOLDER / "predictions/août.csv", b"id;score\n1;0.93\n")
    yield "Added predictions/août.csv", FOLDER, STORE

    (FOLDER / "models/draft.bin").rename(FOLDER / "models/final.bin")
    yield "Renamed models/draft.bin to models/final.bin", FOLDER, STORE

    (FOLDER / "notes.txt").unlink()
    yield "Deleted notes.txt", FOLDER, STORE

    write(STORE / "datasets/from-a-colleague.csv", b"id;name\n3;Ana\xc3\xafs\n")
    yield "A colleague put datasets/from-a-colleague.csv into the store", STORE, FOLDER


def show() -> None:
    shutil.rmtree(DEMO, ignore_errors=True)
    STORE.mkdir(parents=True)
    write(FOLDER / "datasets/clients.csv", b"id;name\n1;Zo\xc3\xa9\n")
    write(FOLDER / "models/draft.bin", bytes(100_000))
    write(FOLDER / "notes.txt", b"to be deleted\n")
    print("$ craftsync watch demo/folder ./demo/store")
    before: Contents = {}
    with watching() as process:
        for number, (done, changed, other) in enumerate(steps(), start=1):
            print(f"\n{number}. {done}.", flush=True)
            seconds = await_step(process, changed, other)
            after = contents(other)
            show_changes(before, after)
            print(f"   The {other.name} is in sync after {seconds:.1f} s.", flush=True)
            before = after


def main() -> int:
    try:
        show()
    except StepFailed as failure:
        print(f"\nThe demonstration failed: {failure}. The last lines of {LOG}:", file=sys.stderr)
        print("\n".join(LOG.read_text().splitlines()[-10:]), file=sys.stderr)
        return 1
    print("\nDone: demo/folder and demo/store are in sync. Look around in both, or run it again.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
