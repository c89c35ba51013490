"""`craftsync serve`, as programs that use the platform's SDK and as hostile ones meet it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import resource
import shutil
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import requests

from craftsync.install_hint import install_command
from tests.support.cli import Craftsync, until
from tests.support.serving import TOKEN, Serving, serving

with warnings.catch_warnings():
    # The SDK shows all deprecations from its import on, those of others too.
    from craft_ai_sdk import CraftAiSdk
    from craft_ai_sdk.exceptions import SdkException

MIB = 1024 * 1024
MEMORY_LIMIT = 150 * MIB
"""What the server may take while larger objects pass through it."""


@contextmanager
def sdk_of(server: Serving, **other: str) -> Iterator[CraftAiSdk]:
    """Yield the platform's own SDK, unmodified."""
    arguments = {"sdk_token": server.token, "environment_url": server.url, **other}
    sdk = CraftAiSdk(control_url=server.url, verbose_log=False, **arguments)
    try:
        yield sdk
    finally:
        sdk._session.close()


class Client:
    """Speaks the protocol by hand, to say what the SDK never would."""

    def __init__(self, server: Serving) -> None:
        self.server = server
        self.session = requests.Session()
        token = self.call("POST", "auth/refresh", json={"refresh_token": server.token}).json()
        self.session.headers["authorization"] = f"Bearer {token['access_token']}"

    def call(self, method: str, route: str, **content: Any) -> requests.Response:
        url = f"{self.server.url}/api/v1/{route}"
        return self.session.request(method, url, timeout=60, **content)

    def upload(self, path: str, content: Any) -> requests.Response:
        """Send a form as the SDK does, straight away and without a token."""
        signed = self.call("GET", "data-store/upload", params={"path_to_object": path}).json()
        files = {"file": ("f", content)}
        return requests.post(signed["signed_url"], data=signed["fields"], files=files, timeout=60)

    def url(self, path: str) -> str:
        answer = self.call("POST", "data-store/download", data={"path_to_object": path})
        signed_url: str = answer.json()["signed_url"]
        return signed_url

    def get(self, path: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.get(self.url(path), headers=named, timeout=60)

    def begin(self, path: str) -> dict[str, Any]:
        """Begin an upload in parts; return what goes with each further call."""
        asked: dict[str, Any] = {"path_to_object": path}
        answer = self.call("POST", "data-store/upload/multipart", json=asked)
        return {**asked, "multipart_upload_configuration": answer.json()}

    def put(self, upload: dict[str, Any], number: int, content: bytes) -> dict[str, Any]:
        asked = {**upload, "part_number": number, "chunk_size": len(content)}
        signed = self.call("POST", "data-store/upload/multipart/part", json=asked).json()
        answer = requests.put(signed["signed_url"], data=content, timeout=60)
        return {"number": number, "metadata": answer.headers["ETag"]}

    def end(self, upload: dict[str, Any], parts: list[dict[str, Any]]) -> requests.Response:
        return self.call("POST", "data-store/upload/multipart/end", json={**upload, "parts": parts})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a store, for a server of the test's own."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture(scope="module")
def shared(
    memory: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Serving, Path]]:
    """Yield a server for all tests that need none of their own, and its folder."""
    folder = Path(mkdtemp(dir=memory or tmp_path_factory.getbasetemp()))
    with serving(folder) as running:
        yield running, folder


@pytest.fixture
def server(shared: tuple[Serving, Path]) -> Serving:
    return shared[0]


@pytest.fixture
def store(shared: tuple[Serving, Path]) -> Path:
    """Return the folder of the shared server, which is empty."""
    for path in (*shared[1].iterdir(), *(shared[1] / ".craftsync").glob("trash/*")):
        if path.name != ".craftsync":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return shared[1]


@pytest.fixture
def client(server: Serving, store: Path) -> Client:
    """Return a client of the shared server; the store is empty."""
    return Client(server)


@pytest.fixture
def own_client(folder: Path) -> Iterator[Client]:
    """Yield a client of a server that no other test uses."""
    with serving(folder) as running:
        yield Client(running)


def files(folder: Path) -> set[str]:
    """Return what a store holds, craftsync's own folder left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] != ".craftsync"}


def peak(server: Serving) -> int:
    """Return the most memory the server ever had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def test_the_sdk_does_all_it_can_do_with_a_data_store(
    server: Serving, store: Path, tmp_path: Path
) -> None:
    local = tmp_path / "é.csv"
    local.write_bytes(b"id;name\n")
    with sdk_of(server) as sdk:
        assert set(sdk.who_am_i()) == {"id", "name", "email"}
        sdk.upload_data_store_object(str(local), "datasets/é +#%&.csv")
        sdk.upload_data_store_object(io.BytesIO(b""), "empty")
        assert (store / "datasets/é +#%&.csv").read_bytes() == b"id;name\n"
        listed = sdk.list_data_store_objects()
        assert [found["path"] for found in listed] == ["datasets/é +#%&.csv", "empty"]
        assert listed == list(sdk.iter_data_store_objects())
        found = sdk.get_data_store_object_information("datasets/é +#%&.csv")
        assert found == listed[0]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["last_modified"])
        target = io.BytesIO()
        sdk.download_data_store_object("datasets/é +#%&.csv", target)
        assert target.getvalue() == b"id;name\n"
        assert sdk.delete_data_store_object("empty") == {"path": "empty"}
        assert files(store) == {"datasets/é +#%&.csv"}


def test_the_sdk_sends_a_large_file_in_parts_of_its_usual_size(
    server: Serving, store: Path
) -> None:
    content = os.urandom(MIB) * 96
    with sdk_of(server) as sdk:
        assert len(content) > sdk._MULTIPART_THRESHOLD
        sdk.upload_data_store_object(io.BytesIO(content), "large")
        target = io.BytesIO()
        sdk.download_data_store_object("large", target)
    assert (store / "large").read_bytes() == content
    assert target.getvalue() == content


def test_part_lost_unnoticed_by_the_sdk_fails_the_completion(
    server: Serving, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = requests.put

    def losing(url: str, **content: Any) -> requests.Response:
        return send(
            url.replace("signature=", "signature=0") if "part=2&" in url else url, **content
        )

    monkeypatch.setattr(requests, "put", losing)
    with sdk_of(server) as sdk:
        sdk._MULTIPART_THRESHOLD, sdk._MULTIPART_PART_SIZE = 10, 10
        with pytest.raises(SdkException, match="Part 2 did not arrive"):
            sdk.upload_data_store_object(io.BytesIO(b"x" * 35), "large")
    assert files(store) == set()


def test_sdk_needs_only_the_variables_that_serve_prints(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder, token=None) as server:
        exports = dict(line.removeprefix("export ").strip().split("=") for line in server.printed)
        assert list(exports) == list(server.variables)
        for name, value in exports.items():
            monkeypatch.setenv(name, value)
        assert CraftAiSdk(verbose_log=False).list_data_store_objects() == []


def test_listings_come_in_pages_and_folders_are_folders(server: Serving, store: Path) -> None:
    names = {f"d/{number:04}" for number in range(1001)} | {"d.txt", "dd/x", "e"}
    for name in names:
        (store / name).parent.mkdir(exist_ok=True)
        (store / name).write_bytes(b"x")
    with sdk_of(server) as sdk:
        assert {found["path"] for found in sdk.iter_data_store_objects()} == names
        for word in ("d", "d/", "/d/"):
            paths = [found["path"] for found in sdk.iter_data_store_objects(word)]
            assert paths == sorted(name for name in names if name.startswith("d/"))


def test_served_store_keeps_replaced_and_deleted_objects_unlisted(
    client: Client, store: Path
) -> None:
    for content in (b"first", b"second"):
        assert client.upload("a", content).status_code == 204
    client.call("DELETE", "data-store/delete", data={"path_to_object": "a"})
    kept = sorted((store / ".craftsync/trash").glob("*/a"))
    assert [path.read_bytes() for path in kept] == [b"first", b"second"]
    assert client.call("GET", "data-store/list").json() == {"items": []}


ROUTES = [
    *(("GET", route) for route in ("users/me", "environment-summary")),
    *(("GET", f"data-store/{route}") for route in ("list", "upload?path_to_object=a")),
    *(("POST", f"data-store/{route}") for route in ("information", "download", "upload/multipart")),
    *(("POST", f"data-store/upload/multipart/{route}") for route in ("part", "end")),
    ("DELETE", "data-store/delete"),
]


def test_every_request_needs_a_valid_token(client: Client) -> None:
    for value in (None, "Bearer x", f"Bearer {TOKEN}"):
        client.session.headers["authorization"] = value or ""
        for method, route in ROUTES:
            answer = client.call(method, route)
            assert (answer.status_code, answer.json()["name"]) == (401, "Unauthorized"), route


def test_another_sdk_token_is_refused(server: Serving) -> None:
    with sdk_of(server, sdk_token="regenerated") as sdk, pytest.raises(SdkException) as refused:
        sdk.list_data_store_objects()
    assert refused.value.status_code == 401


def test_an_access_token_that_has_ended_is_refused(folder: Path) -> None:
    with serving(folder, "--token-lifetime", "0.001") as server:
        assert Client(server).call("GET", "data-store/list").status_code == 401


def test_the_sdk_exchanges_an_access_token_that_ends_soon(folder: Path) -> None:
    with serving(folder, "-v", "--token-lifetime", "100") as server, sdk_of(server) as sdk:
        for _ in range(3):
            sdk.list_data_store_objects()
        until(lambda: server.log().count("/list 200") == 3, "the log")
        assert server.log().count("/auth/refresh 200") == 3


def test_a_signed_url_is_for_one_object_and_one_method(client: Client, store: Path) -> None:
    for name in ("a", "b"):
        (store / name).write_bytes(name.encode())
    url = client.url("a")
    assert requests.get(url, timeout=60).content == b"a"
    for method, wrong in (
        ("GET", url.replace("/a?", "/b?")),
        ("GET", url.replace("expires=", "expires=9")),
        ("GET", url.partition("?")[0]),
        ("GET", url.replace("/a?", "/.craftsync%2Flock?")),
        ("PUT", url),
        ("POST", url),
    ):
        answer = requests.request(method, wrong, data=b"x", timeout=60)
        assert answer.status_code in {403, 405}, wrong
        assert "<Code>" in answer.text
    assert (store / "a").read_bytes() == b"a"


def test_a_signed_form_uploads_only_its_own_object(client: Client, store: Path) -> None:
    signed = client.call("GET", "data-store/upload", params={"path_to_object": "a"}).json()
    for change in ({"key": "b"}, {"signature": ""}, {"expires": "99999999999"}):
        fields = {**signed["fields"], **change}
        answer = requests.post(signed["signed_url"], data=fields, files={"file": b"x"}, timeout=60)
        assert answer.status_code == 403
    assert files(store) == set()


def test_signed_urls_expire(folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    with serving(folder, "--url-lifetime", "0.001") as server:
        client = Client(server)
        assert client.get("a").status_code == 403
        assert "Request has expired" in client.get("a").text
        assert client.upload("b", b"b").status_code == 403
    assert files(folder) == {"a"}


@pytest.mark.parametrize(
    "path", ["../out", "a/../b", "a//b", "/a", "a/", "", ".", "n" * 1025, "a\0"]
)
def test_a_path_no_folder_can_hold_is_refused_with_the_reason(client: Client, path: str) -> None:
    for method, route, kind in (
        ("GET", "upload", "params"),
        ("POST", "information", "json"),
        ("POST", "download", "data"),
        ("POST", "upload/multipart", "json"),
        ("DELETE", "delete", "data"),
    ):
        content: Any = {kind: {"path_to_object": path}}
        answer = client.call(method, f"data-store/{route}", **content)
        assert answer.status_code == 400
        assert re.search(r"path|name|missing", answer.json()["message"])


def test_served_store_hides_its_craftsync_folder(client: Client, store: Path) -> None:
    client.upload("a", b"a")
    assert client.upload(".craftsync/tmp/x", b"x").status_code == 400
    assert client.get(".craftsync/lock").status_code == 404


@pytest.mark.parametrize("content", [b"", b"[]", b"nonsense", b"[" * 100_000, b'{"a":' * 9999])
def test_request_body_that_is_not_a_json_object_is_rejected(client: Client, content: bytes) -> None:
    answer = client.call("POST", "data-store/information", data=content)
    assert (answer.status_code, answer.json()["name"]) == (400, "InvalidBody")


def test_missing_object_is_404_everywhere(client: Client) -> None:
    assert client.get("missing").status_code == 404
    asked = {"path_to_object": "missing"}
    assert client.call("POST", "data-store/information", json=asked).status_code == 404
    assert client.call("GET", "no-such-route").json()["name"] == "NoSuchRoute"
    upload = client.begin("a")
    upload["multipart_upload_configuration"] = {"upload_id": "0"}
    assert client.end(upload, []).json()["name"] == "NoSuchUpload"


def test_store_errors_map_to_http_statuses(own_client: Client, folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "folder/a").write_bytes(b"a")
    obstructed = own_client.upload("folder", b"x")
    assert obstructed.status_code == 409
    assert "folder is a folder" in obstructed.text
    # Python ignores the signal that goes with it, so that a write fails as on a full disk.
    pid = own_client.server.process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    assert own_client.upload("b", bytes(2000)).status_code == 507
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    folder.rename(folder.with_name("moved"))
    gone = own_client.upload("b", b"b")
    assert gone.status_code == 503
    assert int(gone.headers["retry-after"]) > 0
    assert own_client.call("GET", "data-store/list").status_code == 503


def test_a_download_answers_ranges_and_conditions(client: Client, store: Path) -> None:
    (store / "a").write_bytes(b"0123456789")
    whole = client.get("a")
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert whole.headers["accept-ranges"] == "bytes"
    written = parsedate_to_datetime(whole.headers["last-modified"]).timestamp()
    assert written == int((store / "a").stat().st_mtime)
    etag = whole.headers["etag"]
    assert re.fullmatch(r'"[^"]+"', etag)
    assert "date" in whole.headers
    part = client.get("a", range="bytes=2-4", if_match=etag)
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert part.headers["etag"] == etag
    assert client.get("a", range="bytes=10-").status_code == 416
    (store / "a").write_bytes(b"9876543210")
    changed = client.get("a", range="bytes=2-4", if_match=etag)
    assert (changed.status_code, "PreconditionFailed" in changed.text) == (412, True)
    assert client.get("a", if_match=f'"x", {client.get("a").headers["etag"]}').status_code == 200


def test_an_upload_answers_with_the_etag_a_download_has(client: Client) -> None:
    etag = client.upload("a", b"content").headers["etag"]
    assert client.get("a").headers["etag"] == etag


def test_an_object_that_changes_on_its_way_out_breaks_the_connection(
    client: Client, store: Path
) -> None:
    with (store / "a").open("wb") as file:
        file.truncate(64 * MIB)
    with (
        requests.get(client.url("a"), stream=True, timeout=60) as answer,
        pytest.raises(requests.exceptions.ChunkedEncodingError),
    ):
        chunks = answer.iter_content(MIB)
        next(chunks)
        os.utime(store / "a", ns=(0, 0))
        for _ in chunks:
            pass
    until(lambda: "broke off" in client.server.log(), "the reason in the log")
    assert client.get("a", range="bytes=0-0").status_code == 206


def test_parts_come_in_any_order_and_at_once(client: Client, store: Path) -> None:
    contents = [os.urandom(300_000 + number) for number in range(8)]
    upload = client.begin("a")
    parts: list[dict[str, Any]] = []
    senders = [
        threading.Thread(target=lambda n=n: parts.append(client.put(upload, n + 1, contents[n])))
        for n in reversed(range(8))
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    parts.sort(key=lambda part: int(part["number"]))
    assert [part["metadata"] for part in parts] == [
        f'"{hashlib.md5(content).hexdigest()}"' for content in contents
    ]
    assert client.end(upload, parts).status_code == 200
    assert (store / "a").read_bytes() == b"".join(contents)
    assert client.end(upload, parts).status_code == 404


def test_a_part_needs_a_length_and_has_at_most_that_of_s3(client: Client) -> None:
    asked = {**client.begin("a"), "part_number": 1}
    answer = client.call("POST", "data-store/upload/multipart/part", json=asked)
    url = answer.json()["signed_url"]
    unknown = requests.put(url, data=iter([b"x"]), timeout=60)
    assert unknown.status_code == 411
    host, port = client.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        target = url.removeprefix(client.server.url)
        length = 5 * 1024**3 + 1
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_served_large_objects_use_little_memory(own_client: Client, folder: Path) -> None:
    size = MEMORY_LIMIT + 50 * MIB
    with (folder / "a").open("w+b") as file:
        file.truncate(size)
        assert own_client.upload("form", file).status_code == 204
    upload, half = own_client.begin("parts"), size // 2
    parts = [own_client.put(upload, number, bytes(half)) for number in (1, 2)]
    assert own_client.end(upload, parts).status_code == 200
    received = 0
    with requests.get(own_client.url("a"), stream=True, timeout=60) as answer:
        for chunk in answer.iter_content(MIB):
            received += len(chunk)
    assert (received, (folder / "form").stat().st_size) == (size, size)
    assert (folder / "parts").stat().st_size == 2 * half
    assert peak(own_client.server) < MEMORY_LIMIT


@contextmanager
def half_sent(client: Client, path: str) -> Iterator[socket.socket]:
    """Send the first half of a part of an upload; the rest is never sent."""
    asked = {**client.begin(path), "part_number": 1}
    url = client.call("POST", "data-store/upload/multipart/part", json=asked).json()["signed_url"]
    host, port = client.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        target = url.removeprefix(client.server.url)
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {4 * MIB}\r\n\r\n"
        connection.sendall(head.encode() + bytes(2 * MIB))
        yield connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_even_with_an_upload_under_way(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "scratch").mkdir()
    with serving(folder, TMPDIR=str(tmp_path / "scratch")) as server:
        client = Client(server)
        client.upload("a", b"a")
        with half_sent(client, "b"):
            assert server.stop(number) == 0
        log = server.log()
    assert files(folder) == {"a"}
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not log


def test_a_crash_leaves_no_part_of_an_object_and_no_temporary_file(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    with serving(folder, TMPDIR=str(tmp_path / "scratch")) as server:
        client = Client(server)
        with half_sent(client, "b"):
            server.process.kill()
            server.process.wait()
    assert files(folder) == set()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_two_servers_share_a_store(folder: Path) -> None:
    with serving(folder) as one, serving(folder) as other:
        Client(one).upload("a", b"a")
        assert Client(other).get("a").content == b"a"


def test_requests_are_logged_without_their_secrets(folder: Path) -> None:
    with serving(folder, "-v") as server:
        client = Client(server)
        client.upload("a\nb", b"x")
        url = client.url("a\nb")
        requests.get(url, timeout=60)
        server.stop()
        log = server.log()
    assert "POST /api/v1/auth/refresh 200" in log
    assert re.search(r"^GET /store/a%0Ab 200 \d+ ms$", log, re.MULTILINE)
    assert TOKEN not in log + "".join(server.printed)
    assert "signature" not in log
    assert "expires" not in log


def test_a_token_is_shown_only_when_the_server_made_it(craftsync: Craftsync) -> None:
    (craftsync.folder / "store").mkdir()
    run = craftsync.start("serve", "./store", "--port", "0", "--token", "chosen")
    assert run.stdout is not None
    lines = b"".join(run.stdout.readline() for _ in range(3))
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate()
    assert b"export CRAFT_AI_ENVIRONMENT_URL=http://127.0.0.1:" in lines
    assert b"chosen" not in lines + errors


def test_serving_beyond_loopback_needs_a_chosen_token_and_warns(craftsync: Craftsync) -> None:
    (craftsync.folder / "store").mkdir()
    refused = craftsync("serve", "./store", "--host", "0.0.0.0", "--port", "0")
    assert refused.code == 2
    assert "CRAFTSYNC_SERVE_TOKEN" in refused.err
    assert craftsync("serve", "./store", "--token", "").code == 2
    with serving(craftsync.folder / "store", "--host", "0.0.0.0") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert "not encrypted" in server.log()
        assert Client(server).upload("a", b"a").status_code == 204


def test_serve_reports_what_prevents_it(craftsync: Craftsync) -> None:
    craftsync.write("file")
    obstructed = craftsync("serve", "./file", "--port", "0")
    assert obstructed.code == 3
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = craftsync("serve", "./store", "--port", str(taken.getsockname()[1]))
    assert (busy.code, "--port" in busy.err) == (2, True)
    craftsync.write("without/uvicorn.py", "raise ModuleNotFoundError(name='uvicorn')")
    lacking = craftsync("serve", "./store", PYTHONPATH=str(craftsync.folder / "without"))
    assert (lacking.code, install_command("serve").partition(" ")[2] in lacking.err) == (2, True)


def test_serve_creates_a_missing_folder(tmp_path: Path) -> None:
    with serving(tmp_path / "data" / "store") as server:
        assert Client(server).upload("a.txt", b"a").status_code == 204
        assert f"Created the folder {tmp_path}/data/store." in server.log()
    assert files(tmp_path / "data" / "store") == {"a.txt"}


def test_mistyped_environment_is_neither_served_nor_created(tmp_path: Path) -> None:
    craftsync = Craftsync(tmp_path)
    craftsync.config.write_text(
        f"environments:\n  dev:\n    store: directory\n    path: {tmp_path}/away\n"
    )
    mistyped = craftsync("serve", "dav", "--port", "0")
    assert mistyped.code == 2
    assert "Did you mean dev?" in mistyped.err
    # Its folder may be on a disk that is not mounted.
    assert craftsync("serve", "dev", "--port", "0").code == 3
    assert not (tmp_path / "away").exists()
    assert not (tmp_path / "dav").exists()
