"""Paths as text: which may take part, which are craftsync's own, which lie below which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from craftsync.core.model import OWN_FOLDER, RemoteObject, Skipped, Subfolder

MAX_PATH_BYTES = 1024
"""The longest key of S3 (AWS S3 user guide, "Naming Amazon S3 objects"), and so the limit of both sides."""

MAX_NAME_BYTES = 255
"""NAME_MAX of every common Linux filesystem."""

TRASH = f"{OWN_FOLDER}/trash/"
"""The prefix of each path in a store's trash, and in a folder's."""


def is_own(path: str) -> bool:
    """Return whether a path or prefix lies in `.craftsync/`, of this store or of one nested in it."""
    return OWN_FOLDER in path and f"/{OWN_FOLDER}/" in f"/{path}/"


def in_trash(stamp: str, path: str) -> str:
    """Return where a store's trash keeps a version of a path; `stamp` names the run that put it there."""
    return f"{TRASH}{stamp}/{path}"


def hidden_in(prefix: str, *, nested_own: bool = False) -> Callable[[str], bool]:
    """Return a function that returns whether a listing of `prefix` hides a path as craftsync's own.

    If `prefix` lies in such a folder, nothing is hidden. With `nested_own`, only the `.craftsync/`
    of the listed store is hidden, not those of stores nested in it.
    """
    if is_own(prefix):
        return lambda path: False
    if nested_own:
        return lambda path: path == OWN_FOLDER or path.startswith(f"{OWN_FOLDER}/")
    return is_own


def is_utf8(text: str) -> bool:
    """Return whether a text is valid UTF-8: has no surrogates, Python's stand-ins for invalid bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def malformed(path: str) -> str | None:
    """Return why no folder can hold a file at this path, as a clause of a message, or `None`.

    If `None`, each part is a plain name, so the path cannot lead out of the folder.
    """
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if "\0" in path:
        return "the name contains a NUL character"
    if length > MAX_PATH_BYTES:
        return f"the path is longer than {MAX_PATH_BYTES} bytes"
    names = path.split("/")
    if "" in names:
        return "a part of the path is empty (it starts or ends with a slash, or has two in a row)"
    if "." in names or ".." in names:
        return 'a part of the path is "." or ".."'
    if length > MAX_NAME_BYTES and any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        return f"a part of the path is longer than {MAX_NAME_BYTES} bytes"
    return None


def refusal(path: str) -> str | None:
    """Return why a path takes no part in a sync, as a clause of a message, or `None` if it may."""
    return f"{OWN_FOLDER} is craftsync's own" if is_own(path) else malformed(path)


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders above a path, the outermost first."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def relatives(path: str) -> tuple[list[str], tuple[str, str]]:
    """Return the folders above a path, and the half-open range of the paths below it."""
    return list(folders_above(path)), (f"{path}/", f"{path}0")


def ranges(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return these paths and everything below them as sorted, disjoint half-open ranges [low, high)."""
    found: list[tuple[str, str]] = []
    wanted = {path for path in paths if not malformed(path)}  # No row has another path.
    both = ({(path, path + "\0") for path in wanted}) | {
        (f"{path}/", f"{path}0") for path in wanted
    }
    for low, high in sorted(both):
        if not found or low >= found[-1][1]:
            found.append((low, high))
    return found


def level_of(
    entries: Iterable[RemoteObject | Skipped], folder: str
) -> Iterator[RemoteObject | Subfolder | Skipped]:
    """Yield what lies directly in a folder ("" is the store itself), given all entries below it."""
    prefix, seen = f"{folder}/" if folder else "", set[str]()
    for entry in entries:
        name, below, _ = entry.path[len(prefix) :].partition("/")
        if not below:
            yield entry
        elif name not in seen:
            seen.add(name)
            yield subfolder(prefix + name)


def subfolder(path: str) -> Subfolder | Skipped:
    """Return the folder at a path, or `Skipped` if a folder cannot have that path."""
    reason = malformed(path)
    return Subfolder(path) if reason is None else Skipped(f"{path}/", reason)
