"""Data stores as an fsspec filesystem (extra `fs`), for pandas, pyarrow, dask and zarr.

`craft-ai://datasets/x.csv` is an object of the environment that the variables set;
`craftsync://dev/datasets/x.csv` is an object of the environment `dev` in the configuration.
`DataStoreFileSystem(store="./backup")` opens any other store. Stores have no folders of their own:
a folder exists while an object is below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from tempfile import TemporaryFile
from typing import IO, Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from craftsync import objects
from craftsync.datastore import DataStore, ObjectInformation
from craftsync.errors import UsageError, builtin_kinds

_CURRENT = "craft-ai://"
"""The environment that the variables of the platform's SDK set."""
_NAMED = "craftsync://"


class DataStoreFileSystem(AbstractFileSystem):
    """One data store. Paths are those of its objects, without a leading slash; sizes are bytes.

    Errors are craftsync's, and of a builtin kind too, such as `FileNotFoundError` and
    `PermissionError`. Failed requests are retried as everywhere in craftsync. Replaced and removed
    objects go to the store's trash.
    """

    protocol = ("craft-ai", "craftsync")
    root_marker = ""

    def __init__(self, store: str | os.PathLike[str] = _CURRENT, **options: Any) -> None:
        """Opens nothing yet. `store` is a word as on the command line; `options` are fsspec's."""
        super().__init__(**options)
        self.store = os.fspath(store)
        self._data = DataStore(self.store)

    def close(self) -> None:
        """Close the connections to the store. The next call opens it again."""
        self._data.close()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = os.fspath(path)
        if text.startswith(_CURRENT):
            text = text.removeprefix(_CURRENT)
        elif text.startswith(_NAMED):
            text = text.removeprefix(_NAMED).partition("/")[2]
        return text.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        if not path.startswith(_NAMED):
            return {}
        inner = path.removeprefix(_NAMED)
        if inner.startswith(("s3://", _CURRENT, "file://")):
            s3 = inner.startswith("s3://")
            raise UsageError(
                f"{path}: after craftsync:// comes an environment of the configuration.",
                remedy=f"Write {inner}"
                + (
                    " (read by s3fs), or put the bucket into the configuration and write"
                    " craftsync://NAME/… ."
                    if s3
                    else "."
                ),
            )
        return {"store": path.removeprefix(_NAMED).partition("/")[0]}

    def unstrip_protocol(self, name: str) -> str:
        path = self._strip_protocol(name)
        return f"{_CURRENT}{path}" if self.store == _CURRENT else f"{_NAMED}{self.store}/{path}"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return the entries directly in a folder, or an object itself."""
        folder = self._strip_protocol(path)
        found = {entry["name"]: entry for entry in self._entries(folder)}
        if folder and not found:
            found = {folder: self._object(folder)}
        ordered = [found[name] for name in sorted(found)]
        return ordered if detail else [entry["name"] for entry in ordered]

    def _entries(self, folder: str) -> Iterator[dict[str, Any]]:
        for found in objects.listing(self._data, folder):
            if found.is_folder:
                yield _folder_entry(found.path)
            else:
                yield _entry(found.path, found.size, found.last_modified)

    def _object(self, path: str) -> dict[str, Any]:
        return _object_entry(self._data.get_data_store_object_information(path))

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return all objects below a path; with one listing, unless a depth is given."""
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth, withdirs, detail, **kwargs)
        folder = self._strip_protocol(path)
        items = list(self._data.iter_data_store_objects(folder or None))
        found = {item["path"]: _object_entry(item) for item in items}
        if folder and not found:
            with suppress(FileNotFoundError):
                found = {folder: self._object(folder)}
        return found if detail else sorted(found)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Describe an object or a folder."""
        name = self._strip_protocol(path)
        if not name:
            return _folder_entry("")
        try:
            return self._object(name)
        except FileNotFoundError:
            if next(self._data.iter_data_store_objects(name), None) is None:
                raise
        return _folder_entry(name)

    def created(self, path: str) -> datetime:
        """Return when an object was last written: stores report no other time."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """Return when an object was last written, in UTC."""
        return datetime.fromisoformat(self.info(path)["LastModified"])

    def ukey(self, path: str) -> str:
        """Return a value that changes with the object."""
        entry = self.info(path)
        return f"{entry['size']}-{entry.get('LastModified')}"

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return the bytes of an object from `start` to `end`. Negative values count from its end."""
        name = self._strip_protocol(path)
        if (start or 0) < 0 or (end is not None and end < 0):
            size = self.info(name)["size"]
            start = max(0, size + start) if start and start < 0 else start
            end = size + end if end is not None and end < 0 else end
        return self._data.read_data_store_object(name, start or 0, end)

    def cat_ranges(
        self,
        paths: list[str],
        starts: int | list[int | None] | None,
        ends: int | list[int | None] | None,
        max_gap: None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Return ranges of objects, in order, reading a few at once. `on_error="return"` returns errors among them."""
        if max_gap is not None:
            raise NotImplementedError("max_gap")
        bounds = (
            each if isinstance(each, list) else [each] * len(paths) for each in (starts, ends)
        )

        def read(span: tuple[str, int | None, int | None]) -> Any:
            try:
                return self.cat_file(*span)
            except Exception as error:
                if on_error != "return":
                    raise
                return error

        with builtin_kinds():
            store = self._data.opened()
        return list(objects.at_once(zip(paths, *bounds, strict=True), read, store))

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Return the bytes of an object, or of several by path, read a few at once."""
        paths = self.expand_path(path, recursive=recursive)
        if isinstance(path, str) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        bounds = kwargs.get("start"), kwargs.get("end")
        on_each = "raise" if on_error == "raise" else "return"
        found = zip(paths, self.cat_ranges(paths, *bounds, on_error=on_each), strict=True)
        return {
            name: content
            for name, content in found
            if on_error != "omit" or not isinstance(content, Exception)
        }

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write an object. With the mode `create`, raise `FileExistsError` if it exists."""
        name = self._strip_protocol(path)
        if mode == "create" and self.exists(name):
            raise FileExistsError(name)
        with TemporaryFile() as content:
            content.write(value)
            content.seek(0)
            self._data.upload_data_store_object(content, name)

    def put_file(
        self,
        lpath: str,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **_: Any,
    ) -> None:
        """Upload a local file."""
        name = self._strip_protocol(rpath)
        if os.path.isdir(lpath):
            return
        if mode == "create" and self.exists(name):
            raise FileExistsError(name)
        size = os.path.getsize(lpath)
        callback.set_size(size)
        self._data.upload_data_store_object(lpath, name)
        callback.relative_update(size)

    def get_file(
        self,
        rpath: str,
        lpath: str | IO[bytes],
        callback: Callback = DEFAULT_CALLBACK,
        outfile: IO[bytes] | None = None,
        **_: Any,
    ) -> None:
        """Download an object. The file appears complete or not at all."""
        name = self._strip_protocol(rpath)
        target: Any = outfile if outfile is not None else lpath
        if isinstance(target, str):
            if self.isdir(name):
                os.makedirs(target, exist_ok=True)
                return
            os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        self._data.download_data_store_object(name, target)
        callback.relative_update(1)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Download objects and folders as fsspec does, but the files of a folder several at once."""
        is_all = recursive and maxdepth is None and _are_plain(rpath, lpath)
        root = self._strip_protocol(rpath)
        found = self.find(root) if is_all else []
        if found in ([], [root]):
            super().get(rpath, lpath, recursive, callback, maxdepth, **kwargs)
            return
        target = make_path_posix(lpath).rstrip("/")
        is_folder = lpath.endswith("/") or os.path.isdir(target)

        def fetch(pair: tuple[str, str]) -> None:
            os.makedirs(os.path.dirname(pair[1]), exist_ok=True)
            self._data.download_data_store_object(*pair)

        with builtin_kinds():
            store = self._data.opened()
        pairs = _paired(found, root, target, into=is_folder and not rpath.endswith("/"))
        callback.set_size(len(found))
        for _ in objects.at_once(pairs, fetch, store):
            callback.relative_update(1)

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Upload files and folders as fsspec does, but the files of a folder several at once."""
        is_all = recursive and maxdepth is None and _are_plain(lpath, rpath)
        if not is_all or not os.path.isdir(root := make_path_posix(lpath).rstrip("/")):
            super().put(lpath, rpath, recursive, callback, maxdepth, **kwargs)
            return
        target, files = self._strip_protocol(rpath), LocalFileSystem().find(root)
        into = not lpath.endswith("/") and (rpath.endswith("/") or self.isdir(target))

        def send(pair: tuple[str, str]) -> None:
            self.put_file(*pair, **kwargs)

        with builtin_kinds():
            store = self._data.opened_to_change(create=True)
        callback.set_size(len(files))
        for _ in objects.at_once(_paired(files, root, target, into=into), send, store):
            callback.relative_update(1)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy an object, server-side if the store can. A folder needs no copy."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.isdir(source):
            return
        objects.copy(self._data, source, self._data, target)

    def mv(
        self,
        path1: str,
        path2: str,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move an object, server-side if the store can; move folders, and into folders, as fsspec does."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        into_folder = os.fspath(path2).endswith("/") or self.isdir(target)
        if recursive or into_folder or has_magic(source) or source == target:
            super().mv(path1, path2, recursive, maxdepth, **kwargs)
            return
        objects.move(self._data, source, self._data, target)

    def _rm(self, path: str) -> None:
        name = self._strip_protocol(path)
        self._data.delete_data_store_object(name)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Move objects to the store's trash, a few at once; with `recursive`, folders too."""
        if recursive and maxdepth is None:
            found = [each for name in self.expand_path(path) for each in self.find(name)]
            if not found:
                raise FileNotFoundError(path)
            self._remove_all(found)
            return
        for name in self.expand_path(path, recursive=recursive, maxdepth=maxdepth):
            kind = None
            with suppress(FileNotFoundError):
                kind = self.info(name)["type"]
            if kind == "file":
                self._rm(name)
            elif kind and not recursive:
                raise IsADirectoryError(f"{name} is a folder. Use recursive=True.")

    def _remove_all(self, names: Iterable[str]) -> None:
        """Remove as many of them as possible, then raise the first error."""
        with builtin_kinds():
            outcomes = list(objects.remove_each(self._data, names))
            for error in (outcome.error for outcome in outcomes if outcome.error is not None):
                raise error

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: a folder exists once an object is below it."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing, as `mkdir`."""

    def rmdir(self, path: str) -> None:
        """Do nothing, as `mkdir`. Raises `OSError` if the folder is not empty."""
        if self.isdir(path) and self.ls(path):
            raise OSError(f"{path} is not empty.")

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> DataStoreFile:
        if mode not in ("rb", "wb", "xb"):
            raise NotImplementedError(f"mode {mode}: objects are read or written as a whole")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        return DataStoreFile(
            self,
            self._strip_protocol(path),
            mode,
            block_size or "default",
            autocommit,
            cache_options=cache_options,
            **kwargs,
        )


class DataStoreFile(AbstractBufferedFile):
    """An object open for reading by ranges, or for writing; then it appears when the file is closed."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))

    def _initiate_upload(self) -> None:
        self._content = TemporaryFile()  # noqa: SIM115 (closed by commit or discard)

    def _upload_chunk(self, final: bool = False) -> bool:
        self._content.write(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Upload the written content."""
        with self._content:
            self._content.seek(0)
            self.fs._data.upload_data_store_object(self._content, self.path)

    def discard(self) -> None:
        """Drop the written content. The object stays as it was."""
        self._content.close()


def _are_plain(source: Any, target: Any) -> bool:
    """Return whether a call names a single source and a single target, without wildcards."""
    return isinstance(source, str) and isinstance(target, str) and not has_magic(source)


def _paired(
    paths: Iterable[str], root: str, target: str, *, into: bool
) -> Iterator[tuple[str, str]]:
    """Yield each path below `root` with its path below `target`; with `into`, below the root's name in it."""
    start = f"{target}/{root.rpartition('/')[2]}" if into else target
    for path in paths:
        inside = path.removeprefix(root).lstrip("/")
        yield path, f"{start.rstrip('/')}/{inside}" if start else inside


def _object_entry(item: ObjectInformation) -> dict[str, Any]:
    return _entry(item["path"], item["size"], item["last_modified"])


def _entry(path: str, size: int | None, modified: str | None) -> dict[str, Any]:
    return {"name": path, "type": "file", "size": size, "LastModified": modified}


def _folder_entry(name: str) -> dict[str, Any]:
    return {"name": name, "type": "directory", "size": 0}
