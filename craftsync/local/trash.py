"""The trash of a folder: lists, opens and removes its replaced and deleted files.

They are at `.craftsync/trash/<stamp>/<path>`; stamps sort by age. A second version of a path under
the same stamp goes to `<stamp>-2`, and so on. `commit` puts files into the trash.
"""

from __future__ import annotations

import stat
from collections.abc import Container, Iterator
from contextlib import suppress

from craftsync.clock import stamp_of
from craftsync.core.model import LocalFile, Skipped
from craftsync.errors import PathBusy, RootError
from craftsync.local import linux
from craftsync.local.commit import TRASH, UNKEPT
from craftsync.local.files import OpenFile, path_errors
from craftsync.local.folder import Folder
from craftsync.local.scan import scan


def entries(folder: Folder) -> Iterator[tuple[str, LocalFile]]:
    """Yield (stamp, file) for each version in the trash, with its original path."""
    for stamp in _stamps(folder):
        # The stamp is opened as a folder: with its prefix, the longest paths would be too long.
        try:
            kept = Folder(f"{folder.path}/{TRASH}/{stamp}", folder.tree.listing(f"{TRASH}/{stamp}"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        with kept, suppress(RootError):  # It was purged since it was listed.
            for entry in scan(kept, None):
                if not isinstance(entry, Skipped):
                    yield stamp, entry


def _stamps(folder: Folder) -> list[str]:
    with path_errors(TRASH):
        try:
            listing = folder.tree.listing(TRASH)
        except FileNotFoundError:
            return []
        try:
            return sorted(set(linux.listdir(listing)) - {UNKEPT})
        finally:
            linux.close(listing)


def open_trashed(folder: Folder, stamp: str, path: str) -> OpenFile:
    """Open a file in the trash. Errors as in `Folder.open_file`."""
    try:
        return OpenFile(folder.tree, f"{TRASH}/{stamp}/{path}")
    except PathBusy as error:
        raise PathBusy(f"{path}: the kept version was removed since") from error


def remove(folder: Folder, stamp: str, path: str) -> None:
    """Remove one version for good, if it exists."""
    place = f"{TRASH}/{stamp}/{path}"
    gone = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    with path_errors(place), suppress(*gone), folder.tree.parent(place) as (descriptor, name):
        linux.unlink(name, dir_fd=descriptor)
    folder.tree.remove_empty_parents(place)


def purge(folder: Folder, before: str | None = None, but: Container[str] = ()) -> None:
    """Remove for good all versions with stamps before `before` (default: all), except the stamps in `but`."""
    with path_errors(TRASH):
        for stamp in _stamps(folder):
            if stamp not in but and (before is None or stamp < before):
                with folder.tree.directory(TRASH) as place:
                    linux.rmtree(stamp, dir_fd=place)


def purge_unkept(folder: Folder, before: str) -> int:
    """Remove the files that a crash left in `UNKEPT` before the stamp `before`; return how many.

    They have the same retention as the others, because one may be an edit that could not be put
    back.
    """
    gone = 0
    with path_errors(TRASH), suppress(FileNotFoundError, NotADirectoryError):
        listing = folder.tree.listing(f"{TRASH}/{UNKEPT}")
        try:
            for name in linux.listdir(listing):
                status = linux.stat(name, dir_fd=listing, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode) and stamp_of(status.st_ctime_ns) < before:
                    linux.unlink(name, dir_fd=listing)
                    gone += 1
        finally:
            linux.close(listing)
    return gone
