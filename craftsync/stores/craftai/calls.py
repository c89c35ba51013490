"""The requests of the platform's data store that craftsync makes, each one a method.

No order of steps here. Keys are whole keys of the environment. How the bodies
are encoded differs from route to route, as the platform wants it
(craft-ai-sdk 0.74.7, core/data_store.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from craftsync.core.model import RemoteObject
from craftsync.errors import ObjectNotFound, PathRefused
from craftsync.stores.base import Source
from craftsync.stores.craftai.bodies import Content
from craftsync.stores.craftai.errors import UrlExpired, unintelligible
from craftsync.stores.craftai.objects import NoDescription, described
from craftsync.stores.craftai.session import Session
from craftsync.stores.craftai.storage import Body, Receipt, Storage


class Part(NamedTuple):
    """Where a part of an upload goes."""

    url: str
    headers: Mapping[str, str]


class Calls:
    """One environment's requests."""

    def __init__(self, session: Session, storage: Storage, location: str) -> None:
        self._session = session
        self._storage = storage
        self._location = location

    def list_page(self, folder: str | None, token: str | None) -> Any:
        """Return one page of a listing as it came; `folder` has no slash at its end."""
        query = {"folder_path": folder, "continuation_token": token}
        return self._session.get("list", {name: text for name, text in query.items() if text})

    def look(self, key: str) -> RemoteObject | None:
        """Describe an object under its key; `None` when there is none, or can be none."""
        try:
            answer = self._session.post("information", path=key, json={"path_to_object": key})
        except (ObjectNotFound, PathRefused):
            return None
        try:
            return described(answer, key)
        except NoDescription as error:
            raise unintelligible(self._location, f"description of {key}") from error

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is a success."""
        try:
            self._session.delete("delete", {"path_to_object": key}, path=key)
        except ObjectNotFound:
            return

    def put(self, key: str, source: Source) -> Receipt:
        """Upload a whole object; a URL that expired on the way is replaced once."""
        try:
            return self._put(key, source)
        except UrlExpired:
            return self._put(key, source)

    def _put(self, key: str, source: Source) -> Receipt:
        answer = self._session.get("upload", {"path_to_object": key}, path=key)
        url, fields = self._signed(answer, "fields")
        return self._storage.post_form(url, fields, source, key)

    def download_url(self, key: str) -> str:
        answer = self._session.post("download", path=key, form={"path_to_object": key})
        return self._signed(answer)[0]

    @contextmanager
    def get(
        self, url: str, key: str, *, etag: str | None, offset: int, length: int | None
    ) -> Iterator[Body]:
        """Fetch an object or a part of it, as `Storage.get` does."""
        with self._storage.get(url, key, etag=etag, offset=offset, length=length) as body:
            yield body

    def etag(self, key: str) -> str | None:
        """Return the ETag of an object, which only the storage knows."""
        return self._storage.etag(self.download_url(key), key)

    def begin_upload(self, key: str) -> str:
        """Begin an upload in parts and return what the platform calls its configuration, as text."""
        answer = self._session.post("upload/multipart", path=key, json={"path_to_object": key})
        return json.dumps(answer)

    def part(self, key: str, upload: str, number: int, part_size: int, size: int | None) -> Part:
        """Ask where a part goes; `size` is that of the whole object, and given for the last part only."""
        body = {
            "path_to_object": key,
            "multipart_upload_configuration": json.loads(upload),
            "chunk_size": part_size,
            "part_number": number,
        }
        if size is not None:
            body["size"] = size
        answer = self._session.post("upload/multipart/part", path=key, json=body)
        return Part(*self._signed(answer, "headers"))

    def put_part(self, key: str, part: Part, content: Content) -> Receipt:
        return self._storage.put_part(part.url, part.headers, content, key)

    def end_upload(self, key: str, upload: str, parts: Mapping[int, str | None]) -> None:
        """Turn the parts into an object. A part whose ETag is unknown goes without one."""
        rows = [
            {"number": number} if etag is None else {"number": number, "metadata": etag}
            for number, etag in sorted(parts.items())
        ]
        body = {
            "path_to_object": key,
            "multipart_upload_configuration": json.loads(upload),
            "parts": rows,
        }
        self._session.post("upload/multipart/end", path=key, json=body)

    def cancel(self) -> None:
        """End the requests under way, as `stores.base.Cancellable` says."""
        self._session.cancel()
        self._storage.cancel()

    def renew(self) -> None:
        self._session.renew()
        self._storage.renew()

    def close(self) -> None:
        self._storage.close()
        self._session.close()

    def _signed(self, answer: Any, more: str | None = None) -> tuple[str, dict[str, str]]:
        """Return the signed URL of an answer and the texts that go with it."""
        url = answer.get("signed_url") if isinstance(answer, dict) else None
        texts = answer.get(more) if more and isinstance(answer, dict) else {}
        if not isinstance(url, str) or not isinstance(texts, dict):
            raise unintelligible(self._location, "signed URL")
        return url, {str(name): str(text) for name, text in texts.items()}
