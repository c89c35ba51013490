"""The manifest: one JSON line for each copy, with how it was verified, in the order of the paths.

It is first written to a temporary file, so it is never incomplete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring as quoted
from pathlib import Path

from craftsync.core.model import OWN_FOLDER, BaselineRow
from craftsync.errors import CraftsyncError
from craftsync.local.files import written
from craftsync.stores.base import Store
from craftsync.stores.sources import FileSource

IN_TARGET = f"{OWN_FOLDER}/manifest.jsonl"
"""The manifest of the last complete run, in the target."""


def write(rows: Iterable[BaselineRow], file: Path) -> None:
    """Write a manifest durably; raises `CraftsyncError` if that fails."""
    write_lines((f"{line}\n" for line in lines(rows)), file)


def write_lines(text: Iterable[str], file: Path) -> None:
    """Write the lines of a manifest, which include their line breaks."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written(file) as out:
            out.writelines(text)
    except OSError as error:
        raise CraftsyncError(
            f"The manifest {file} cannot be written ({error.strerror}).",
            remedy="Everything was copied; run it again with another --manifest.",
        ) from error


def lines(rows: Iterable[BaselineRow]) -> Iterator[str]:
    """Yield the line of each object, without `json.dumps`, which took a tenth of a small run."""
    for row in rows:
        yield (
            f'{{"path": {quoted(row.path)}, "size": {row.size},'
            f' "sha256": {_optional(row.digest.hex() if row.digest else None)},'
            f' "source_version": {_optional(str(row.inode) or None)},'
            f' "target_version": {_optional(row.version)},'
            f' "verified": "{row.verified}"}}'
        )


def lines_of(folder: Path) -> Iterator[str]:
    """Yield the lines of all manifests in a folder, in the order of the file names."""
    for part in sorted(folder.iterdir()):
        with part.open(encoding="utf-8") as opened:
            yield from opened


def _optional(text: str | None) -> str:
    return "null" if text is None else quoted(text)


def send(file: Path, target: Store, operation: str) -> None:
    """Write a manifest to the target, replacing the last one."""
    with file.open("rb") as opened:
        source = FileSource(opened.fileno(), str(file))
        target.write(IN_TARGET, source, expect=None, operation=operation)
