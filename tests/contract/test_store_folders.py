"""One level of a store, and copies that replace: checked for each kind of store."""

from __future__ import annotations

import uuid

import pytest

from craftsync.core.model import OWN_FOLDER, RemoteObject, Skipped, Subfolder
from craftsync.stores.base import Store
from craftsync.stores.s3 import S3Store
from craftsync.stores.s3.parallel_listing import Share
from tests.contract.conftest import LIMITS, OpenS3
from tests.contract.test_store_contract import content_of, kept_of, put
from tests.support.servers import S3Server


def level(store: Store, folder: str = "") -> list[str]:
    """Return what is directly in a folder, subfolders with a slash at their end."""
    found = []
    for entry in store.list_folder(folder):
        assert not isinstance(entry, Skipped), entry
        found.append(f"{entry.path}/" if isinstance(entry, Subfolder) else entry.path)
    assert len(set(found)) == len(found)
    return sorted(found)


def test_list_folder_shows_one_level_and_hides_the_own_folder(store: Store) -> None:
    paths = ("a", "models-old/c", "models/2026/b", "models/été.bin", "models/[1] a\tb/c", "é/d/e")
    for path in paths:
        put(store, path)
    put(store, f"{OWN_FOLDER}/trash/x/y")
    put(store, f"models/{OWN_FOLDER}/store-id")
    assert level(store) == ["a", "models-old/", "models/", "é/"]
    assert level(store, "models") == ["models/2026/", "models/[1] a\tb/", "models/été.bin"]
    assert level(store, "models/2026") == ["models/2026/b"]
    assert level(store, "é") == ["é/d/"]
    assert level(store, "model") == level(store, "a") == []
    (listed,) = store.list("models/2026/")
    (found,) = store.list_folder("models/2026")
    assert isinstance(found, RemoteObject)
    assert found[:4] == listed[:4]
    store.delete("é/d/e", expect=None)
    assert level(store, "é") == []


def test_list_folder_on_s3_reads_only_its_own_level(
    plain_server: S3Server, open_s3: OpenS3
) -> None:
    store = open_s3(plain_server)
    for number in range(LIMITS.page + 2):
        put(store, f"deep/{number:02}")
    put(store, "top")
    fetched = list(store._listing()._pages("", Share(), own=True, one_level=True))
    assert len(fetched) == 1
    assert len(level(store, "deep")) == LIMITS.page + 2


def test_copy_keeps_what_it_replaces(store: Store) -> None:
    source, target = put(store, "a", b"new"), put(store, "d/b", b"old")
    store.copy(source, "c", expect=None, operation="o", trash_stamp="pass-1")
    copied = store.copy(source, "d/b", expect=target, operation="p", trash_stamp="pass-1")
    assert (copied.path, content_of(store, "d/b")) == ("d/b", b"new")
    assert kept_of(store, "d/b") == b"old"


def test_server_copies_between_stores_to_another_path(s3_server: S3Server, open_s3: OpenS3) -> None:
    source = open_s3(s3_server)
    target = open_s3(s3_server, prefix=f"{uuid.uuid4().hex}/other")
    assert isinstance(target, S3Store)
    original = put(source, "a", b"content")
    replaced = put(target, "d/b", b"old")
    if source.features.origin is None or not source.features.server_side_copy:
        pytest.skip("this server copies nothing")
    copied = target.copy_from(
        source.features.origin, original, expect=replaced, trash_stamp="pass-1", target="d/b"
    )
    assert (copied.path, content_of(target, "d/b")) == ("d/b", b"content")
    assert target.stat("a") is None
    assert kept_of(target, "d/b") == b"old"
