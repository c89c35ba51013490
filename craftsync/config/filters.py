"""What the flags that leave paths out stand for, and the list that `--files-from` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from craftsync.config.options import RunOptions, SharedOptions, read
from craftsync.config.parsers import parse_age, parse_size
from craftsync.core.filters import Filter, Listed
from craftsync.core.paths import malformed
from craftsync.errors import UsageError

_COMMENTS = ("#", ";")
_REMEDY = "Write each path relative to the folder, one a line; with --from0, a NUL after each."


def filter_of(asked: SharedOptions | RunOptions, root: Path | None) -> Filter:
    """Return the filter in the keywords; absolute paths in a list must be inside `root`, if given.

    Raises `UsageError` for an invalid value, an unreadable list, or an invalid path in it.
    """
    return Filter(
        min_size=read(asked, "min_size", parse_size),
        max_size=read(asked, "max_size", parse_size),
        min_age=read(asked, "min_age", parse_age),
        max_age=read(asked, "max_age", parse_age),
        listed=_listed(asked.get("files_from"), root, raw=asked.get("from0", False)),
        existing=asked.get("existing", False),
        ignore_existing=asked.get("ignore_existing", False),
    )


def _listed(given: Any, root: Path | None, *, raw: bool) -> Listed | None:
    if given is None or given == ():
        if raw:
            raise UsageError(
                "--from0 is about the list of --files-from, and there is none.",
                remedy="Leave it out, or give --files-from FILE.",
            )
        return None
    files = given if isinstance(given, list | tuple) else [given]
    names = {name for file in files for name in _names(file, root, raw=raw)}
    return Listed(frozenset(names))


def _names(file: Any, root: Path | None, *, raw: bool) -> Iterator[str]:
    called = "standard input" if file == "-" else str(getattr(file, "name", file))
    content = _content(file, called)
    lines: Iterable[bytes] = (
        content.split(b"\0") if raw else content.removeprefix(_BOM).split(b"\n")
    )
    for number, line in enumerate(lines, start=1):
        where = f"{called}, {'entry' if raw else 'line'} {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise _refused(where, repr(line), "is not UTF-8") from None
        if not raw:
            text = text.strip()  # The end of a line of Windows, too.
        if text and (raw or not text.startswith(_COMMENTS)):
            yield _name(text, root, where)


_BOM = "\ufeff".encode()


def _content(file: Any, called: str) -> bytes:
    try:
        if hasattr(file, "read"):
            content = file.read()
            return content.encode() if isinstance(content, str) else bytes(content)
        if file == "-":
            stream: IO[bytes] = sys.stdin.buffer
            return stream.read()
        return Path(os.fspath(file)).expanduser().read_bytes()
    except (OSError, TypeError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"--files-from: {called} cannot be read ({reason}).",
            remedy="Name a text file, or - for standard input.",
        ) from error


def _name(text: str, root: Path | None, where: str) -> str:
    """Return an entry as a path in the folder; a slash at its end stays."""
    path = _inside(text, root, where) if text.startswith("/") else text
    names = path.rstrip("/").split("/")
    if root is not None or "." in names:
        names = [name for name in names if name not in ("", ".")]
    if ".." in names:
        raise _refused(where, repr(text), 'leads out of the folder, or may: it has ".." in it')
    found = "/".join(names)
    if not found:
        raise _refused(where, repr(text), "names the whole folder (of find, use -type f)")
    if root is not None and (reason := malformed(found)):
        raise _refused(where, repr(text), f"is not a path in the folder ({reason})")
    return f"{found}/" if path.endswith("/") else found


def _inside(text: str, root: Path | None, where: str) -> str:
    """Return an absolute path relative to the folder."""
    slash = "/" if text.endswith("/") else ""
    place = Path(os.path.normpath(text))
    for each in (place, Path(os.path.realpath(place.parent), place.name)):
        if root is not None and each.is_relative_to(root) and ".." not in text.split("/"):
            return each.relative_to(root).as_posix() + slash
    raise _refused(where, repr(text), f"is outside the folder {root}" if root else "is absolute")


def _refused(where: str, what: str, why: str) -> UsageError:
    return UsageError(f"--files-from: {where}: {what} {why}.", remedy=_REMEDY)
