"""What was displaced or deleted in a folder, until its retention ends.

It lies in `.craftsync/trash/<stamp>/<path>`. Stamps sort by age if whoever
displaces makes them so. A second version of a path under the same stamp goes
to `<stamp>-2`, and so on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from craftsync.core.model import LocalFile, Skipped
from craftsync.local.commit import TRASH
from craftsync.local.files import OpenFile, path_errors
from craftsync.local.folder import Folder
from craftsync.local.scan import scan


def entries(folder: Folder) -> Iterator[tuple[str, LocalFile]]:
    """Yield (stamp, file) for everything in the trash; the file's path is the one it had."""
    for entry in scan(folder, None, TRASH):
        if not isinstance(entry, Skipped):
            stamp, _, path = entry.path.removeprefix(f"{TRASH}/").partition("/")
            yield stamp, entry._replace(path=path)


def open_trashed(folder: Folder, stamp: str, path: str) -> OpenFile:
    """Open a file in the trash; errors as in `Folder.open_file`."""
    return folder.open_file(f"{TRASH}/{stamp}/{path}")


def purge(folder: Folder, before: str | None = None) -> None:
    """Remove for good what lies under stamps that sort before `before`; everything, without it."""
    with path_errors(TRASH):
        try:
            listing = folder.tree.listing(TRASH)
        except FileNotFoundError:
            return
        try:
            for stamp in os.listdir(listing):
                if before is None or stamp < before:
                    shutil.rmtree(stamp, dir_fd=listing)
        finally:
            os.close(listing)
