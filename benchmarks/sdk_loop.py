"""What a careful user writes with the platform's SDK to carry a folder: a loop, or a pool of threads.

    python sdk_loop.py upload|download FOLDER THREADS
    python sdk_loop.py move FOLDER THREADS TARGET

The environment is the one of the CRAFT_AI_* variables. `move` copies its
objects to another one, whose address is TARGET, through files in the folder:
the platform's documentation knows no other way. Run as a process of its
own, so that start-up, processor time and memory are measured as they are for
any other tool. All threads share one SDK object for each environment; it is
asked for a listing first, because without an access token at the start every
thread would fetch one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from craft_ai_sdk import CraftAiSdk


def main(direction: str, folder: Path, threads: int, target: str = "") -> None:
    sdk = CraftAiSdk(verbose_log=False)  # type: ignore[no-untyped-call]
    listed = [found["path"] for found in sdk.list_data_store_objects()]
    if direction == "upload":
        paths, carry = _files(folder), _uploading(sdk, folder)
    elif direction == "download":
        paths, carry = listed, _downloading(sdk, folder)
    else:
        paths, carry = listed, _moving(sdk, folder, _other(target))
    if threads == 1:
        for path in paths:
            carry(path)
        return
    with ThreadPoolExecutor(threads) as pool:
        # Going through the results raises what a thread raised.
        for _ in pool.map(carry, paths):
            pass


def _files(folder: Path) -> list[str]:
    return [
        str(Path(parent, name).relative_to(folder))
        for parent, _, names in os.walk(folder)
        for name in names
    ]


def _uploading(sdk: CraftAiSdk, folder: Path) -> Callable[[str], None]:
    return lambda path: sdk.upload_data_store_object(str(folder / path), path)


def _downloading(sdk: CraftAiSdk, folder: Path) -> Callable[[str], None]:
    def carry(path: str) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        sdk.download_data_store_object(path, str(target))

    return carry


def _moving(sdk: CraftAiSdk, folder: Path, other: CraftAiSdk) -> Callable[[str], None]:
    download, upload = _downloading(sdk, folder), _uploading(other, folder)

    def carry(path: str) -> None:
        download(path)
        upload(path)
        (folder / path).unlink()

    return carry


def _other(target: str) -> CraftAiSdk:
    """Return an SDK object for the environment at an address of its own, with a token to begin with."""
    sdk = CraftAiSdk(environment_url=target, control_url=target, verbose_log=False)  # type: ignore[no-untyped-call]
    sdk.list_data_store_objects()
    return sdk


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
