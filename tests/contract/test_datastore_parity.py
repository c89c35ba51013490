"""One program, once with the platform's SDK against `serve`, and once with `DataStore` on every store.

What each call gives back or raises is compared. Two things are brought to a
common form first: the SDK turns every size into a text that is rounded (so the
sizes of `DataStore` are put through the same function of the SDK), and of the
time of an object only the form is compared, because each run has its own.
"""

from __future__ import annotations

import io
import itertools
import os
import unicodedata
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import craftsync
from craftsync import DataStore
from craftsync.errors import ObjectNotFound, PathError, PathRefused, UsageError
from tests.contract.conftest import BUCKET
from tests.support.servers import S3Server
from tests.support.serving import Serving, serving

with warnings.catch_warnings():
    # The SDK shows all deprecations from its import on, those of others too.
    from craft_ai_sdk import CraftAiSdk
    from craft_ai_sdk.exceptions import SdkException
    from craft_ai_sdk.utils.file_utils import convert_size

FiveFunctions = DataStore | CraftAiSdk
Said = list[tuple[str, object]]

NAMES = [
    *(unicodedata.normalize(form, "données/été.csv") for form in ("NFC", "NFD")),
    *("a b.csv", "a+b.csv", "a#b.csv", "100%.csv", "%41.csv", "a&b=c.csv", 'a"b.csv', "a?b.csv"),
    *("a;b.csv", "${filename}", "日本/😀.txt", "back\\slash", "~tilde", "dots...txt", "n" * 200),
]


def error_kind(error: Exception) -> str:
    """Return what an error says to a program, in one word for both."""
    if isinstance(error, ObjectNotFound):
        return "not found"
    if isinstance(error, PathRefused):
        return "refused"
    if isinstance(error, UsageError | ValueError):
        return "misused"
    if isinstance(error, PathError | FileNotFoundError):
        return "no such local file"
    if isinstance(error, SdkException):
        return {400: "refused", 404: "not found"}.get(error.status_code or 0, repr(error))
    return repr(error)


def common_form(value: object) -> object:
    """Return a result with what may differ brought to one form; see the top of this file."""
    if isinstance(value, list):
        return sorted((common_form(item) for item in value), key=repr)
    if isinstance(value, dict) and "size" in value:
        assert set(value) == {"path", "last_modified", "size"}
        size = value["size"]
        text = convert_size(size) if isinstance(size, int) else size
        return {"path": value["path"], "size": text, "in UTC": _is_utc(value["last_modified"])}
    return value


def _is_utc(time: object) -> bool:
    return isinstance(time, str) and datetime.fromisoformat(time).utcoffset() == timedelta(0)


class Program:
    """Runs calls one after the other and writes down what each of them says."""

    def __init__(self, five: Any, folder: Path) -> None:
        self.said: Said = []
        self.five = five
        self.folder = folder
        self._numbers = itertools.count()

    def call(self, what: str, act: Callable[..., object], *arguments: object) -> None:
        try:
            self.said.append((what, common_form(act(*arguments))))
        except Exception as error:  # noqa: BLE001 (what is raised is what is compared)
            self.said.append((what, error_kind(error)))

    def file(self, content: bytes) -> str:
        path = self.folder / f"local-{next(self._numbers)}"
        path.write_bytes(content)
        return str(path)

    def target(self) -> Path:
        return self.folder / f"target-{next(self._numbers)}"

    def upload(self, content: bytes, name: str) -> object:
        return self.five.upload_data_store_object(io.BytesIO(content), name)

    def to_path(self, name: str) -> object:
        """Download over a file that is longer; return what was said, and what the file then holds."""
        target = self.target()
        target.write_bytes(b"something longer that was there before" * 100)
        said = self.five.download_data_store_object(name, str(target))
        return said, target.read_bytes()

    def to_buffer(self, name: str) -> object:
        """Download into a file object; return what was said, and where and with what it is left."""
        buffer = io.BytesIO()
        said = self.five.download_data_store_object(name, buffer)
        return said, buffer.tell(), buffer.getvalue()


def run(five: Any, folder: Path) -> Said:
    """The program: every function, in the ways that notebooks and pipelines use it."""
    program = Program(five, folder)
    program.call("empty list", five.list_data_store_objects)
    for part in (carry, replace, list_folders, name_oddly, go_wrong):
        part(five, program)
    program.call("last list", five.list_data_store_objects)
    return program.said


def carry(five: Any, program: Program) -> None:
    """Bring files and file objects up and down, empty ones too."""
    for content in (b"", b"id;name\n1;Zo\xc3\xa9\n", bytes(range(256)) * 5000):
        file, buffer = f"carried/{len(content)}.file", f"carried/{len(content)}.buffer"
        local = program.file(content)
        program.call(f"upload {file}", five.upload_data_store_object, local, file)
        program.call(f"upload {buffer}", program.upload, content, buffer)
        for name in (file, buffer):
            program.call(f"stat {name}", five.get_data_store_object_information, name)
            program.call(f"to path {name}", program.to_path, name)
            program.call(f"to buffer {name}", program.to_buffer, name)
    half_read = io.BytesIO(b"0123456789")
    half_read.read(5)
    program.call("half read", five.upload_data_store_object, half_read, "half")
    program.call("half read is whole", program.to_buffer, "half")


def replace(five: Any, program: Program) -> None:
    """Overwrite and delete."""
    for content in (b"first", b"the second one"):
        program.call("write", program.upload, content, "r")
    program.call("read", program.to_buffer, "r")
    for what in ("delete", "delete again"):
        program.call(what, five.delete_data_store_object, "r")
    program.call("never there", five.delete_data_store_object, "never/there")
    program.call("gone", five.get_data_store_object_information, "r")


def list_folders(five: Any, program: Program) -> None:
    """List all, one folder with and without slashes, and lazily."""
    for name in ("f/1", "f/g/2", "f.txt", "fg/3"):
        program.upload(b"x", name)
    for folder in ("f", "f/", "/f/", "f/g", "nowhere", "", None):
        program.call(f"list {folder}", five.list_data_store_objects, folder)
        objects = five.iter_data_store_objects(folder)
        program.call(f"iter {folder}", list, objects)
    objects = five.iter_data_store_objects("lazy")
    program.upload(b"x", "lazy/made after the call")
    program.call("lazy", list, objects)


def name_oddly(five: Any, program: Program) -> None:
    """Use names that are often spoilt on their way."""
    for name in NAMES:
        program.call(f"odd {name}", program.upload, name.encode(), name)
        program.call(f"stat {name}", five.get_data_store_object_information, name)
        program.call(f"read {name}", program.to_buffer, name)
        if name.startswith("a"):
            program.call(f"delete {name}", five.delete_data_store_object, name)


def go_wrong(five: Any, program: Program) -> None:
    """Do what cannot be done."""
    target = program.target()
    program.call("no object", five.get_data_store_object_information, "missing")
    program.call("no object", five.download_data_store_object, "missing", str(target))
    program.call("nothing was made", target.exists)
    program.call("no file", five.upload_data_store_object, "/no/such/file", "x")
    program.call("no file object", five.upload_data_store_object, 3, "x")
    program.call("no file object", five.download_data_store_object, "f/1", 3)
    for path in ("../out", "a/../b", "a//b", "/a"):
        program.call(f"refused {path}", program.upload, b"x", path)


@contextmanager
def sdk_of(server: Serving) -> Iterator[CraftAiSdk]:
    sdk = CraftAiSdk(
        sdk_token=server.token,
        environment_url=server.url,
        control_url=server.url,
        verbose_log=False,
    )
    try:
        yield sdk
    finally:
        sdk._session.close()


@pytest.fixture(scope="module")
def said_by_sdk(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """What the platform's own SDK says, unmodified, against `serve` over a folder."""
    with serving(tmp_path_factory.mktemp("served")) as server, sdk_of(server) as sdk:
        return run(sdk, tmp_path_factory.mktemp("work"))


@pytest.fixture(autouse=True)
def state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRAFTSYNC_CONFIG", os.devnull)
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_directory_data_store_matches_the_sdk(
    said_by_sdk: Said, tmp_path: Path, work: Path
) -> None:
    (tmp_path / "store").mkdir()
    with DataStore(str(tmp_path / "store")) as five:
        assert run(five, work) == said_by_sdk


def test_s3_data_store_matches_the_sdk(
    said_by_sdk: Said,
    work: Path,
    plain_server: S3Server,
    use_keys_of: Callable[[S3Server], None],
) -> None:
    use_keys_of(plain_server)
    where = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    with DataStore(where, endpoint_url=plain_server.endpoint) as five:
        assert run(five, work) == said_by_sdk


def test_craft_ai_data_store_matches_the_sdk(
    said_by_sdk: Said, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        with DataStore("craft-ai://") as five:
            assert run(five, work) == said_by_sdk


def test_parity_program_detects_a_difference(said_by_sdk: Said) -> None:
    said = dict(said_by_sdk)
    assert said["no object"] == said["gone"] == "not found"
    assert said["refused ../out"] == "refused"
    assert said["no file"] == "no such local file"
    assert said["no file object"] == "misused"
    assert said["to path carried/0.file"] == (None, b"")
    assert said["half read is whole"] == (None, 0, b"0123456789")
    assert len(str(said["last list"])) > 1000
    assert not [value for value in said.values() if "Exception" in str(value)]


def test_data_store_reuses_bucket_facts_probed_by_a_run(
    tmp_path: Path,
    fake_server: Callable[[str], S3Server],
    use_keys_of: Callable[[S3Server], None],
) -> None:
    """In a bucket that keeps versions, nothing has to be copied to the trash; a run knows that."""
    server = fake_server("versioned")
    use_keys_of(server)
    where = {"endpoint_url": server.endpoint}
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(b"first")
    with DataStore(f"s3://{BUCKET}", **where) as before:
        before.upload_data_store_object(io.BytesIO(b"earlier"), "b")
        before.upload_data_store_object(io.BytesIO(b"later"), "b")
        assert len(before.list_data_store_objects(".craftsync/trash")) == 1
    craftsync.push(tmp_path / "root", f"s3://{BUCKET}", **where)
    with DataStore(f"s3://{BUCKET}", **where) as after:
        after.upload_data_store_object(io.BytesIO(b"latest"), "b")
        after.delete_data_store_object("a")
        assert len(after.list_data_store_objects(".craftsync/trash")) == 1
