"""The two sides of a trial, read and changed as another program does."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from tests.support.s3 import FakeS3

OWN = ".craftsync"

Contents = dict[str, str]
"""The digest of the content at each path."""


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


class Side(Protocol):
    """A folder or a store."""

    def put(self, path: str, content: bytes) -> None: ...

    def take(self, path: str) -> None: ...

    def everything(self) -> Contents:
        """Return every path, craftsync's own folder included."""
        ...

    def uploads(self) -> set[str]:
        """Return the ids of unfinished uploads."""
        ...


class Files:
    """A folder, or a directory store."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def put(self, path: str, content: bytes) -> None:
        file = self._top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def take(self, path: str) -> None:
        (self._top / path).unlink()

    def everything(self) -> Contents:
        return {
            str(file.relative_to(self._top)): digest(file.read_bytes())
            for file in self._top.rglob("*")
            if file.is_file()
        }

    def uploads(self) -> set[str]:
        return set()


class Objects:
    """A bucket of the fake S3."""

    def __init__(self, fake: FakeS3, name: str) -> None:
        self._personality = fake.personality
        self._bucket = fake.bucket(name)

    def put(self, path: str, content: bytes) -> None:
        stored = self._bucket.described(self._personality, content)
        self._bucket.put(self._personality, path, stored)

    def take(self, path: str) -> None:
        self._bucket.delete(self._personality, path, None)

    def everything(self) -> Contents:
        # A copy: the server may still carry out a request of a killed program.
        versions = dict(self._bucket.versions)
        return {
            key: digest(kept[-1].content)
            for key, kept in versions.items()
            if kept and not kept[-1].deleted
        }

    def uploads(self) -> set[str]:
        return set(self._bucket.uploads)


class Bucket:
    """A bucket of any server, read only through the server."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._read: dict[tuple[str, str], str] = {}

    def put(self, path: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=path, Body=content)

    def take(self, path: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=path)

    def everything(self) -> Contents:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return {
            each["Key"]: self._digest(each["Key"], each["ETag"])
            for page in pages
            for each in page.get("Contents", ())
        }

    def _digest(self, key: str, etag: str) -> str:
        if (key, etag) not in self._read:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            self._read[key, etag] = digest(answer["Body"].read())
        return self._read[key, etag]

    def uploads(self) -> set[str]:
        listed = self._client.list_multipart_uploads(Bucket=self._bucket)
        return {upload["UploadId"] for upload in listed.get("Uploads", ())}


_TEMPORARY_OF_RCLONE = "/.rclone_temp_"
"""The start of the name of a file in which `rclone serve s3` collects an upload; no listing shows it."""


class Served(Bucket):
    """A bucket that a server keeps in a folder: changed through the server, read from the folder."""

    def __init__(self, client: Any, bucket: str, top: Path) -> None:
        super().__init__(client, bucket)
        self._files = Files(top)

    def everything(self) -> Contents:
        held = self._files.everything()
        return {path: what for path, what in held.items() if _TEMPORARY_OF_RCLONE not in f"/{path}"}


def shown(side: Side) -> Contents:
    """Return every path of a side except craftsync's own folder."""
    return {path: what for path, what in side.everything().items() if not is_own(path)}


def is_own(path: str) -> bool:
    return path.split("/", 1)[0] == OWN


def is_temporary(path: str) -> bool:
    """Return whether a path in craftsync's own folder is not an identity file, a lock or in the trash."""
    name = path.removeprefix(f"{OWN}/")
    return is_own(path) and name.split("/")[0] not in {
        *("root-id", "store-id", "lock", "commit-lock", "trash", ".gitignore")
    }
