"""What a fake S3 holds: keys with their versions, and uploads in parts. No HTTP here, and no threads.

Everything that may differ between servers is asked of the personality that is
handed in; the time and all ids come from outside too, so that a run repeats.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.support.s3.personality import Personality

ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}


class Refusal(Exception):
    """An answer that is no success: its status and S3's code for it."""

    def __init__(self, status: int, code: str, message: str = "as its personality has it") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of an object. `etag` is without quotes; `deleted` makes it a delete marker."""

    content: bytes
    etag: str
    modified_ns: int
    version: str
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: str = ""
    storage_class: str = "STANDARD"
    encryption: str | None = None
    deleted: bool = False

    @property
    def archived(self) -> bool:
        return self.storage_class in ARCHIVED


@dataclass(slots=True)
class Upload:
    """An upload in parts: what its object is to be, and the parts so far."""

    key: str
    about: Stored
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)
    initiated_ns: int = 0


class Bucket:
    """The objects of one bucket. `clock` returns nanoseconds since the epoch."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self.versions: dict[str, list[Stored]] = {}
        self.uploads: dict[str, Upload] = {}

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.current(key) is not None

    def __iter__(self) -> Iterator[str]:
        return (key for key in self.versions if key in self)

    def copy(self) -> Bucket:
        """Return what there is now, which later changes leave as it is."""
        copied = Bucket(self._clock)
        copied.versions = {key: list(versions) for key, versions in self.versions.items()}
        return copied

    def current(self, key: str) -> Stored | None:
        """Return what a key holds now."""
        kept = self.versions.get(key)
        return None if not kept or kept[-1].deleted else kept[-1]

    def get(self, key: str, version: str | None = None) -> Stored:
        if version is None:
            found = self.current(key)
        else:
            found = next((v for v in self.versions.get(key, []) if v.version == version), None)
        if found is None or found.deleted:
            raise Refusal(404, "NoSuchKey")
        return found

    def described(
        self, personality: Personality, content: bytes, about: Stored | None = None
    ) -> Stored:
        """Return a new version with this content and what else `about` has."""
        number = next(self._ids)
        about = about or Stored(b"", "", 0, "")
        encryption = about.encryption or personality.encryption
        return replace(
            about,
            content=content,
            etag=_etag(replace(personality, encryption=encryption), content, number),
            modified_ns=self._clock(),
            version=f"version-{number}",
            encryption=encryption,
        )

    def put(self, personality: Personality, key: str, stored: Stored) -> Stored:
        kept = self.versions.get(key, []) if personality.versioned else []
        self.versions[key] = [*kept, stored]
        return stored

    def delete(self, personality: Personality, key: str, version: str | None) -> None:
        if version is not None:
            if personality.object_lock:
                raise Refusal(403, "AccessDenied", "The object is protected by object lock.")
            left = [kept for kept in self.versions.get(key, []) if kept.version != version]
            self.versions[key] = left
        elif personality.versioned:
            marker = self.described(personality, b"")
            self.put(personality, key, replace(marker, deleted=True))
        else:
            self.versions.pop(key, None)

    def begin(self, key: str, about: Stored) -> str:
        upload = f"upload-{next(self._ids)}"
        self.uploads[upload] = Upload(key, about, initiated_ns=self._clock())
        return upload

    def upload(self, key: str, upload: str, code: str = "NoSuchUpload") -> Upload:
        """Return an upload; `code` is what the refusal says where there is none."""
        found = self.uploads.get(upload)
        if found is None or found.key != key:
            raise Refusal(404, code)
        return found

    def part(self, personality: Personality, upload: Upload, number: int, content: bytes) -> str:
        etag = _etag(personality, content, next(self._ids))
        upload.parts[number] = content, etag
        return etag

    def assembled(
        self, personality: Personality, upload: Upload, named: list[tuple[int, str]]
    ) -> Stored:
        """Return the object that the named parts make; the upload stays as it is."""
        if not named or any(upload.parts.get(n, (b"", None))[1] != etag for n, etag in named):
            raise Refusal(400, "InvalidPart")
        contents = [upload.parts[number][0] for number, _ in named]
        if any(len(content) < personality.smallest_part for content in contents[:-1]):
            raise Refusal(400, "EntityTooSmall")
        stored = self.described(personality, b"".join(contents), upload.about)
        if personality.etags == "md5":
            digests = b"".join(_md5(content).digest() for content in contents)
            return replace(stored, etag=f"{_md5(digests).hexdigest()}-{len(contents)}")
        return stored

    def archive(self, key: str, storage_class: str = "GLACIER") -> None:
        """Move an object into an archive, as a lifecycle rule does."""
        *older, current = self.versions[key]
        self.versions[key] = [*older, replace(current, storage_class=storage_class)]


def _etag(personality: Personality, content: bytes, number: int) -> str:
    if personality.etags == "random" or personality.encryption == "aws:kms":
        return _md5(b"%d" % number + content).hexdigest()
    if personality.etags == "opaque":
        return f"{number}:version of {len(content)} bytes"
    return _md5(content).hexdigest()


def _md5(content: bytes) -> hashlib._Hash:
    return hashlib.md5(content, usedforsecurity=False)
