"""The two sides of a pair as others than craftsync change them: a folder by programs, a bucket by a client."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Side(ABC):
    """What can be done to files on one side. Paths are relative, with slashes."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """Return the content, `None` if there is none."""

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Write over what is there, in place."""

    @abstractmethod
    def replace(self, path: str, content: bytes) -> None:
        """Put new content in the place of the old at once."""

    @abstractmethod
    def append(self, path: str, content: bytes) -> None:
        """Write after what is there."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file that is there."""

    @abstractmethod
    def move(self, source: str, target: str) -> None:
        """Rename a file, or a folder with all that is in it."""

    @abstractmethod
    def delete_folder(self, path: str) -> None:
        """Delete a folder with all that is in it."""


class RootSide(Side):
    """Files in a folder, written as programs do."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        self._made(path).write_bytes(content)

    def replace(self, path: str, content: bytes) -> None:
        target = self._made(path)
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(content)
        beside.replace(target)

    def append(self, path: str, content: bytes) -> None:
        with (self._root / path).open("ab") as file:
            file.write(content)

    def delete(self, path: str) -> None:
        (self._root / path).unlink()

    def move(self, source: str, target: str) -> None:
        (self._root / source).rename(self._made(target))

    def delete_folder(self, path: str) -> None:
        shutil.rmtree(self._root / path)

    def _made(self, path: str) -> Path:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


class StoreSide(Side):
    """Objects in a bucket, through another client than the one that is measured."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read(self, path: str) -> bytes | None:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=path)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None

    def write(self, path: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=path, Body=content)

    replace = write

    def append(self, path: str, content: bytes) -> None:
        self.write(path, (self.read(path) or b"") + content)

    def delete(self, path: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=path)

    def move(self, source: str, target: str) -> None:
        for key in self._keys(source):
            if key.removeprefix(source)[:1] not in ("", "/"):
                continue
            origin = {"Bucket": self._bucket, "Key": key}
            moved = target + key.removeprefix(source)
            self._client.copy_object(Bucket=self._bucket, Key=moved, CopySource=origin)  # type: ignore[arg-type]
            self.delete(key)

    def delete_folder(self, path: str) -> None:
        for key in self._keys(f"{path}/"):
            self.delete(key)

    def _keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self._bucket, Prefix=prefix)
        return [each["Key"] for page in found for each in page.get("Contents", ())]
