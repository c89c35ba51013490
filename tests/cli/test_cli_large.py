"""Large files: moved in parts, and gone on with after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Craftsync, until
from tests.support.servers import S3Server

SIZE = 72 << 20


@pytest.fixture
def on_moto(craftsync: Craftsync, moto: S3Server) -> Craftsync:
    moto.make_bucket("large")
    craftsync.environment |= moto.variables
    return craftsync


@pytest.fixture
def client(moto: S3Server) -> Iterator[Any]:
    with closing(moto.client()) as client:
        yield client


def rows(state: Path, query: str) -> list[Any]:
    found = list(state.glob("pairs/*/state.db"))
    if not found:
        return []
    try:
        with closing(sqlite3.connect(f"{found[0].as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def test_killed_upload_resumes_with_arrived_parts(
    on_moto: Craftsync, client: Any, tmp_path: Path
) -> None:
    content = os.urandom(SIZE)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/big").write_bytes(content)
    state = tmp_path / "state"
    first = on_moto.start("push", "--bwlimit", "20M", "root", "s3://large/up")
    until(lambda: rows(state, "SELECT 1 FROM upload_part"), "a part to be recorded")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (begun,) = rows(state, "SELECT upload_id FROM upload")
    (run,) = rows(state, "SELECT value FROM meta WHERE key = 'run'")
    done = on_moto("push", "root", "s3://large/up")
    assert done.code == 0, done.err
    found = client.get_object(Bucket="large", Key="up/big")
    assert found["Body"].read() == content
    assert found["Metadata"]["craftsync-operation"].startswith(run[0]), "it began anew"
    left = client.list_multipart_uploads(Bucket="large").get("Uploads", [])
    assert begun[0] not in {upload["UploadId"] for upload in left}
    assert rows(state, "SELECT * FROM upload") == []


def test_killed_download_resumes_in_its_temporary_file(
    on_moto: Craftsync, client: Any, tmp_path: Path
) -> None:
    content = os.urandom(SIZE)
    client.put_object(Bucket="large", Key="down/big", Body=content)
    state = tmp_path / "state"
    first = on_moto.start("pull", "--bwlimit", "1G:20M", "root", "s3://large/down")
    until(lambda: rows(state, "SELECT 1 FROM download_part"), "a part to be recorded")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (temporary,) = (tmp_path / "root/.craftsync/tmp").glob("**/download-*")
    inode = temporary.stat().st_ino
    done = on_moto("pull", "root", "s3://large/down")
    assert done.code == 0, done.err
    assert (tmp_path / "root/big").read_bytes() == content
    assert (tmp_path / "root/big").stat().st_ino == inode, "it began anew"
    assert rows(state, "SELECT * FROM download") == []


def test_an_upload_whose_file_is_gone_by_then_is_aborted(
    on_moto: Craftsync, client: Any, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/big").write_bytes(os.urandom(SIZE))
    state = tmp_path / "state"
    first = on_moto.start("push", "--bwlimit", "20M", "root", "s3://large/gone")
    until(lambda: rows(state, "SELECT 1 FROM upload_part"), "a part to be recorded")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (tmp_path / "root/big").unlink()
    assert on_moto("push", "root", "s3://large/gone").code == 0
    left = client.list_multipart_uploads(Bucket="large", Prefix="gone/").get("Uploads", [])
    assert left == []
