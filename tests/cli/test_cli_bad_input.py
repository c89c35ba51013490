"""Everything that can be wrong from outside: a clear sentence, the exit code of the contract, nothing lost."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from craftsync import push
from tests.support import servers
from tests.support.cli import SCRIPT, Craftsync, Run
from tests.support.fake_s3 import Answer, Request, error, proxied
from tests.support.servers import S3Server


@pytest.fixture
def bucket(moto: S3Server, request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    moto.make_bucket(name)
    return name


def access(server: S3Server, **other: str) -> dict[str, str]:
    return server.variables | other


def put(server: S3Server, bucket: str, key: str, content: bytes) -> None:
    client = server.client()
    client.put_object(Bucket=bucket, Key=key, Body=content)
    client.close()


def root_with(craftsync: Craftsync, **files: str) -> Path:
    root = craftsync.folder / "root"
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / name).write_text(content)
    return root


def issues(run: Run) -> dict[str, str]:
    return {line["path"]: line["type"] for line in run.json if line["type"] != "summary"}


def test_missing_bucket_exits_3(craftsync: Craftsync, moto: S3Server) -> None:
    root_with(craftsync, a="1")
    run = craftsync("push", "root", "s3://no-such-bucket", **access(moto))
    assert run.code == 3
    assert "no-such-bucket" in run.err


@pytest.mark.parametrize("command", ["ls", "stat", "cat"])
def test_missing_bucket_is_named_by_object_commands(
    craftsync: Craftsync, moto: S3Server, command: str
) -> None:
    run = craftsync(command, "s3://no-such-bucket/a", **access(moto))
    assert run.code == 3
    assert "bucket" in run.err and "does not exist" in run.err


@pytest.mark.parametrize("content", ["x\n", "[]\n", '{"type": "other"}\n', ""])
def test_apply_of_a_file_that_is_not_a_plan_names_the_remedy(
    craftsync: Craftsync, content: str
) -> None:
    craftsync.write("x", content)
    run = craftsync("apply", "x")
    assert run.code == 2
    assert "not a plan of craftsync" in run.err and "craftsync plan -o" in run.err


def test_store_that_cannot_be_created_names_a_remedy(craftsync: Craftsync) -> None:
    root_with(craftsync, a="1")
    run = craftsync("sync", "root", "/proc/craftsync-store")
    assert (run.code, "Choose another folder." in run.err) == (3, True)


def test_missing_file_of_patterns_is_named_without_a_number(craftsync: Craftsync) -> None:
    root_with(craftsync, a="1")
    run = craftsync("push", "root", "./store", "--exclude-from", "none")
    reason = "--exclude-from: 'none' cannot be read (No such file or directory)."
    assert (run.code, reason in run.err) == (2, True)


def test_wrong_credentials_end_with_3_and_name_the_remedy(
    craftsync: Craftsync, tmp_path: Path
) -> None:
    root_with(craftsync, a="1")
    (tmp_path / "served").mkdir()
    with servers.rclone(tmp_path / "served") as server:
        server.make_bucket("bucket")
        wrong = access(server, AWS_SECRET_ACCESS_KEY="not-the-one")
        run = craftsync("push", "root", "s3://bucket", **wrong)
    assert run.code == 3
    assert "credential" in run.err.lower() or "key" in run.err.lower()


@contextmanager
def answering(body: bytes, kind: str) -> Iterator[str]:
    """Serve one and the same page, whatever is asked for."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if "store-id" in self.path else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><body>Please sign in to this hotel's network</body></html>", "text/html"),
        (b"<?xml version='1.0'?><ListBucketResult><Contents><Key>a</Ke", "application/xml"),
    ],
    ids=["HTML", "broken off"],
)
def test_invalid_listing_deletes_nothing_and_exits_5(
    craftsync: Craftsync, body: bytes, kind: str
) -> None:
    root_with(craftsync, a="1")
    with answering(body, kind) as endpoint:
        server = S3Server("page", endpoint)
        words = ("pull", "--delete", "--force-delete", "root", "s3://bucket")
        run = craftsync(*words, **access(server))
    assert run.code == 5
    assert (craftsync.folder / "root/a").read_text() == "1"
    assert "Traceback" not in run.err


HOSTILE = ["../x", "/x", "a//b", "./c", "d/..", "n" * 300, ".craftsync/lock/x"]


def test_keys_no_folder_can_hold_are_listed_and_left_alone(
    craftsync: Craftsync, moto: S3Server, bucket: str
) -> None:
    for key in [*HOSTILE, "good", "nul\x00key"]:
        put(moto, bucket, key, b"content")
    run = craftsync("pull", "--json", "root", f"s3://{bucket}", **access(moto))
    assert run.code == 6
    found = issues(run)
    for key in HOSTILE[:-1]:
        assert found[key] == "skipped", key
    assert any("nul" in path and kind == "skipped" for path, kind in found.items())
    here = {path.name for path in (craftsync.folder / "root").iterdir()}
    assert here == {"good", ".craftsync"}
    assert not (craftsync.folder / "x").exists()
    again = craftsync("sync", "--json", "root", f"s3://{bucket}", **access(moto))
    assert again.code == 6
    assert again.summary["deleted_remote"] == 0


def test_path_too_long_for_a_key_is_reported_and_others_continue(
    craftsync: Craftsync, moto: S3Server, bucket: str
) -> None:
    folder = "/".join(["d" * 200] * 4)
    craftsync.write(f"root/{folder}/{'f' * 200}", "too long with the prefix")
    craftsync.write("root/z", "1")
    words = ("sync", "--json", "root", f"s3://{bucket}/{'prefix/' * 20}")
    run = craftsync(*words, **access(moto))
    assert (run.code, issues(run)) == (6, {f"{folder}/{'f' * 200}": "skipped", "z": "action"})
    again = craftsync(*words, **access(moto))
    assert (again.code, issues(again)) == (6, {f"{folder}/{'f' * 200}": "skipped"})


def test_prefix_denied_by_a_policy_does_not_block_other_uploads(
    craftsync: Craftsync, moto: S3Server, bucket: str
) -> None:
    def policy(request: Request) -> Answer | None:
        denied = request.method == "PUT" and "/protected/" in request.target
        return error(403, "AccessDenied") if denied else None

    denied = {f"protected/{number}" for number in range(20)}
    for path in (*denied, *(f"z/{number}" for number in range(80))):
        craftsync.write(f"root/{path}")
    with proxied(moto, policy) as (server, _):
        run = craftsync("push", "--json", "root", f"s3://{bucket}", **access(server))
    assert run.code == 1
    assert {path for path, kind in issues(run).items() if kind == "problem"} == denied
    assert run.summary["uploaded"] == 80


def test_only_folder_markers_with_content_are_reported(
    craftsync: Craftsync, moto: S3Server, bucket: str
) -> None:
    put(moto, bucket, "empty/", b"")
    assert craftsync("pull", "root", f"s3://{bucket}", **access(moto)).code == 0
    put(moto, bucket, "full/", b"content")
    run = craftsync("pull", "--json", "root", f"s3://{bucket}", **access(moto))
    assert (run.code, issues(run)) == (6, {"full/": "skipped"})


def test_object_with_the_name_of_a_folder_is_reported(
    craftsync: Craftsync, moto: S3Server, bucket: str
) -> None:
    put(moto, bucket, "a", b"file")
    put(moto, bucket, "a/b", b"below")
    run = craftsync("sync", "--json", "root", f"s3://{bucket}", **access(moto))
    root_with(craftsync)
    run = craftsync("sync", "--json", "root", f"s3://{bucket}", **access(moto))
    assert run.code == 1
    assert len(issues(run)) >= 1
    again = craftsync("sync", "--json", "root", f"s3://{bucket}", **access(moto))
    assert (again.summary["deleted_remote"], again.summary["deleted_local"]) == (0, 0)
    listed = craftsync("ls", "-R", f"s3://{bucket}", "--json", **access(moto))
    assert {line["path"] for line in listed.json} == {"a", "a/b"}


def test_non_utf8_name_and_pipe_are_skipped_with_a_reason(craftsync: Craftsync) -> None:
    root = root_with(craftsync, good="1")
    (root / os.fsdecode(b"caf\xe9")).write_text("latin-1")
    os.mkfifo(root / "pipe")
    run = craftsync("push", "--json", "root", "./store")
    assert run.code == 6
    assert len([line for line in run.json if line["type"] == "skipped"]) == 2
    assert run.summary["uploaded"] == 1


def test_a_second_craftsync_on_the_same_root_ends_with_5(craftsync: Craftsync) -> None:
    root_with(craftsync, a="1")
    (craftsync.folder / "store").mkdir()
    first = craftsync.start("watch", "--json", "root", "./store")
    assert first.stdout is not None
    first.stdout.readline()
    try:
        run = craftsync("sync", "root", "./other")
    finally:
        first.terminate()
        first.communicate()
    assert run.code == 5
    assert "root" in run.err


def test_full_store_is_reported_once_with_a_remedy(craftsync: Craftsync) -> None:
    (craftsync.folder / "root").mkdir()
    (craftsync.folder / "root/large").write_bytes(bytes(3 << 20))
    limited = ["/bin/sh", "-c", f"ulimit -f 4000; exec {SCRIPT} push root ./store"]
    done = subprocess.run(
        limited,
        cwd=craftsync.folder,
        env=craftsync.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "problem: large: store: .craftsync/tmp: File too large. Free space on its disk.\n"
    )


@pytest.mark.parametrize("store", ["root/store", "root", "."])
def test_a_store_that_overlaps_the_root_ends_with_2(craftsync: Craftsync, store: str) -> None:
    root_with(craftsync, a="1")
    run = craftsync("push", "root", f"./{store}")
    assert run.code == 2
    assert not (craftsync.folder / "root/.craftsync").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_local_disk_keeps_existing_files(craftsync: Craftsync, small_disk: Path) -> None:
    store = craftsync.folder / "store"
    store.mkdir()
    (store / "large").write_bytes(bytes(4 << 20))
    (store / "small").write_text("fits")
    (small_disk / "mine").write_text("stays")
    run = craftsync("sync", "--json", str(small_disk), str(store))
    assert (run.code, issues(run)["large"]) == (1, "problem")
    # The small one is there, or came just when the large one had filled the disk, and says so.
    assert (small_disk / "small").exists() is (issues(run)["small"] == "action")
    assert (small_disk / "mine").read_text() == "stays"
    assert not (small_disk / "large").exists()
    assert not list((small_disk / ".craftsync/tmp").iterdir())
    (store / "large").unlink()
    assert craftsync("sync", str(small_disk), str(store)).code == 0
    assert (small_disk / "small").read_text() == "fits"


def test_full_store_disk_keeps_existing_objects(craftsync: Craftsync, small_disk: Path) -> None:
    root = root_with(craftsync, small="fits")
    (root / "large").write_bytes(bytes(4 << 20))
    run = craftsync("push", "--json", "root", str(small_disk))
    assert (run.code, issues(run)["large"]) == (1, "problem")
    assert (small_disk / "small").read_text() == "fits"
    assert not (small_disk / "large").exists()


def test_an_unreadable_folder_is_reported_and_nothing_is_deleted(craftsync: Craftsync) -> None:
    root = root_with(craftsync)
    (root / "closed").mkdir()
    (root / "closed/file").write_text("1")
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    craftsync("sync", "root", "./store")
    (root / "closed").chmod(0)
    run = craftsync("sync", "--json", "root", "./store")
    (root / "closed").chmod(0o755)
    assert (run.code, issues(run)) == (1, {"closed": "problem"})
    assert (craftsync.folder / "store/closed/file").exists()


def test_an_ignore_file_from_the_store_cannot_stop_the_next_run(craftsync: Craftsync) -> None:
    craftsync.write("store/.craftsyncignore", "*a" * 12 + "b\n")
    craftsync.write(f"store/{'a' * 200}")
    assert craftsync("pull", "root", "./store").code == 0
    craftsync.write("root/good")
    assert craftsync("sync", "root", "./store").code == 0
    assert "good" in craftsync.files("store")


def test_an_ignore_file_with_too_many_patterns_is_named(craftsync: Craftsync) -> None:
    craftsync.write("root/many/.craftsyncignore", "\n".join(f"*{n}*" for n in range(5000)))
    craftsync.write("root/many/kept")
    craftsync.write("root/good")
    run = craftsync("sync", "--json", "root", "./store")
    assert run.code == 1
    (problem,) = (line for line in run.json if line["type"] == "problem")
    assert "many/.craftsyncignore" in problem["reason"]
    assert set(craftsync.files("store")) == {"good"}
    os.mkfifo(craftsync.folder / "root/.craftsyncignore")
    for command in ("sync", "check"):
        run = craftsync(command, "root", "./store")
        assert run.code == 1
        assert run.err.startswith("problem: .: .craftsyncignore cannot be used")
        assert "left out" not in run.text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("push", "", "../st"), "ROOT"),
        (("sync", "", "./S"), "ROOT"),
        (("sync", "root", ""), "STORE"),
        (("sync", ""), "FOLDER"),
        (("sync", "--root", "", "--store", "./S"), "--root"),
        (("sync", "--root", "root", "--store", ""), "--store"),
        (("sync", "--folder", ""), "--folder"),
        (("sync", "root", "./S", "--state-dir", ""), "--state-dir"),
        (("--state-dir", "", "sync", "root", "./S"), "--state-dir"),
        (("--config", "", "sync", "root", "./S"), "--config"),
        (("push", "root", "./S", "--log-file", ""), "--log-file"),
        (("push", "root", "./S", "--exclude-from", ""), "--exclude-from"),
        (("plan", "root", "./S", "-o", ""), "-o"),
        (("history", ""), "PATH"),
        (("scrub", "a", ""), "PATH"),
        (("ls", ""), "STORE or OBJECT"),
        (("ls", "--store", "", "./S"), "--store"),
        (("put", "", "./S/a"), "FILE"),
        (("put", "root/a", ""), "OBJECT or STORE"),
        (("get", "./S/a", ""), "FILE or FOLDER"),
        (("rm", "-r", ""), "OBJECT"),
        (("migrate", "", "./S"), "SOURCE"),
        (("migrate", "./S", ""), "TARGET"),
        (("serve", ""), "STORE"),
        (("init", "name", "", "./S"), "ROOT"),
    ],
)
def test_empty_word_is_not_the_current_directory(
    craftsync: Craftsync, words: tuple[str, ...], name: str
) -> None:
    root_with(craftsync, a="1")
    run = craftsync(*words)
    assert (run.code, f" {name} is empty. Is a variable not set?" in run.err) == (2, True), run.err
    assert "./" not in run.err
    assert {path.name for path in craftsync.folder.iterdir()} == {"config.yaml", "root"}
    assert sorted(path.name for path in (craftsync.folder / "root").iterdir()) == ["a"]


def test_empty_variable_is_an_unset_one(craftsync: Craftsync) -> None:
    root_with(craftsync, a="1")
    unset = {"CRAFTSYNC_FOLDER": "", "CRAFTSYNC_ROOT": "", "CRAFTSYNC_LOG_FILE": ""}
    assert craftsync("push", "root", "./S", **unset).code == 0


@pytest.mark.parametrize("words", [("", "./S"), ("root", "")])
def test_empty_word_from_python_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="is empty"):
        push(*words)
