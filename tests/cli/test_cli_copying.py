"""`cp`, `mv`, `rm`, `put` and `get` of several, `cat` and `url`, on every store and between two."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
import urllib.request
from secrets import token_hex

import pytest

from tests.support.cli import DEADLINE, Craftsync, Run
from tests.support.fake_s3 import Answer, Request, error, proxied
from tests.support.servers import S3Server
from tests.support.serving import Serving
from tests.support.terminal import on_a_terminal

KINDS = ("directory", "craft-ai", "s3")
NAMES = {"models/[1] é?.bin": "one", "models/2026/a.csv": "a", "models/b.csv": "b", "top": ""}


class Stores:
    """The program with three environments, named after their kinds."""

    def __init__(self, craftsync: Craftsync, moto: S3Server, served: Serving) -> None:
        self.call = craftsync
        bucket = f"copying-{token_hex(6)}"
        moto.make_bucket(bucket)
        (craftsync.folder / "store").mkdir()
        environments = {
            "directory": {"store": "directory", "path": str(craftsync.folder / "store")},
            "s3": {"store": "s3", "bucket": bucket, "prefix": "deep"},
        }
        craftsync.config.write_text(json.dumps({"environments": environments}))
        craftsync.environment |= {
            "AWS_ENDPOINT_URL": moto.endpoint,
            "AWS_ACCESS_KEY_ID": moto.access_key,
            "AWS_SECRET_ACCESS_KEY": moto.secret_key,
            "AWS_REGION": "us-east-1",
            **served.variables,
        }
        self._folder = token_hex(6)
        self.bucket = bucket
        self.endpoint = moto.endpoint

    def __call__(self, *words: str, stdin: bytes = b"") -> Run:
        return self.call(*words, stdin=stdin)

    def word(self, kind: str, path: str = "") -> str:
        """Return the word for a path in the environment of a kind."""
        if kind == "craft-ai":
            return f"craft-ai://{self._folder}/{path}"
        return f"{kind}:{path}"

    def fill(self, kind: str, names: dict[str, str] = NAMES) -> None:
        for name, content in names.items():
            self.call.write(f"filling/{name}", content)
        assert self("put", "-r", "filling", self.word(kind, "")).code == 0

    def paths(self, kind: str, path: str = "") -> list[str]:
        listed = self("ls", "-R", "--json", self.word(kind, path))
        assert listed.code in (0, 3)
        return sorted(line["path"] for line in listed.json)


@pytest.fixture
def stores(craftsync: Craftsync, moto: S3Server, served: Serving) -> Stores:
    return Stores(craftsync, moto, served)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_put_copied_moved_got_and_removed(stores: Stores, kind: str) -> None:
    stores.fill(kind)
    word = stores.word
    assert stores.paths(kind) == sorted(NAMES)
    assert stores("cp", word(kind, "models/b.csv"), word(kind, "models/2026/")).code == 0
    assert stores("cat", word(kind, "models/2026/b.csv")).out == b"b"
    assert stores("cat", word(kind, "models/[1] é?.bin")).out == b"one"
    assert stores("mv", "-r", word(kind, "models"), word(kind, "old")).code == 0
    moved = ["[1] é?.bin", "2026/a.csv", "2026/b.csv", "b.csv"]
    assert stores.paths(kind, "old") == sorted(moved)
    assert stores("get", word(kind, "old/**/*.csv"), "out").code == 0
    assert stores.call.files("out") == {"2026/a.csv": "a", "2026/b.csv": "b", "b.csv": "b"}
    run = stores("rm", "-r", word(kind, "old"), "--json")
    assert run.code == 0
    assert run.summary["deleted_remote"] == 4
    assert stores.paths(kind) == ["top"]


@pytest.mark.parametrize(
    ("source", "target"), [("directory", "s3"), ("s3", "craft-ai"), ("craft-ai", "directory")]
)
def test_folders_are_copied_between_any_two_stores(
    stores: Stores, source: str, target: str
) -> None:
    stores.fill(source)
    run = stores("cp", "-r", stores.word(source, "models/"), stores.word(target, "to/here"))
    assert run.code == 0, run.err
    expected = ["2026/a.csv", "[1] é?.bin", "b.csv"]
    assert stores.paths(target, "to/here") == expected
    assert stores.paths(source, "models") == expected


def test_url_reads_an_object_without_a_login(stores: Stores) -> None:
    for kind in ("s3", "craft-ai"):
        stores.fill(kind, {"models/[1] é?.bin": "one", "top": ""})
        run = stores("url", stores.word(kind, "models/[1] é?.bin"))
        assert run.code == 0, run.err
        with urllib.request.urlopen(run.lines[0]) as answer:
            assert answer.read() == b"one"
    assert "X-Amz-Expires=900&" in stores("url", "s3:top", "--expires", "15m").text
    too_long = stores("url", "s3:top", "--expires", "8d")
    assert (too_long.code, "7 days" in too_long.err) == (2, True)
    platform = stores("url", stores.word("craft-ai", "top"), "--expires", "1h")
    assert (platform.code, "--expires" in platform.err) == (2, True)
    stores.call.write("store/top")
    folder = stores("url", "directory:top")
    assert (folder.code, "no URL" in folder.err) == (2, True)


def test_include_and_exclude_work_as_in_aws(stores: Stores) -> None:
    stores.fill("directory")
    only = ("--exclude", "*", "--include", "*.csv")
    shown = stores("rm", "-rn", "directory:models", *only)
    assert [line.split(" (")[0] for line in shown.lines[:-1]] == [
        "remove directory:models/2026/a.csv",
        "remove directory:models/b.csv",
    ]
    assert "would delete 2" in shown.text
    assert stores.paths("directory") == sorted(NAMES)
    command = ("cp", "--recursive", "directory:models/", "s3:csv/", *only)
    assert stores(*command).code == 0
    assert stores.paths("s3") == ["csv/2026/a.csv", "csv/b.csv"]
    nothing = stores("cp", "-r", "directory:models", "s3:x", "--include", "*.parquet")
    assert (nothing.code, "--include" in nothing.err) == (3, True)


def test_a_whole_store_is_never_removed(stores: Stores) -> None:
    stores.fill("directory")
    for word in ("directory", "./store/"):
        run = stores("rm", "-r", word)
        assert (run.code, "whole store" in run.err) == (2, True)
    assert stores("rm", "-r", "directory:*").code == 0
    assert stores.paths("directory") == []
    trash = stores.call.folder / "store/.craftsync/trash"
    assert len([file for file in trash.rglob("*") if file.is_file()]) == len(NAMES)


def test_rm_prints_the_command_that_restores_the_object(stores: Stores) -> None:
    stores.fill("s3")
    stores.fill("directory")
    stores.call.config.write_text("")
    for root in (f"s3://{stores.bucket}/deep", "./store"):
        names = [line.split()[-1] for line in stores("ls", "-R", root).lines]
        for words in (
            ("rm", f"{root}/models/b.csv", "--store", root),
            ("rm", root, "models/b.csv"),
            ("rm", "-r", f"{root}/models", "--store", root),
        ):
            run = stores(*words)
            assert run.code == 0
            assert len(stores("ls", "-R", root).lines) < len(names)
            (command,) = (line for line in run.err.splitlines() if line.startswith("To restore: "))
            back = stores(*shlex.split(command.removeprefix("To restore: "))[1:])
            assert back.code == 0, back.err
            assert [line.split()[-1] for line in stores("ls", "-R", root).lines] == names


def test_a_change_without_a_known_store_is_refused(craftsync: Craftsync) -> None:
    craftsync.write("plain/a", "a")
    craftsync.write("new")
    for words in (
        ("put", "new", "./plain/b"),
        ("rm", "./plain/a"),
        ("mv", "file:///etc/hostname", "./plain/a"),
        ("cp", "new", f"file://{craftsync.folder}/plain/a"),
    ):
        run = craftsync(*words)
        assert (run.code, "--store" in run.err) == (2, True), run.err
    assert craftsync("cat", "./plain/a").out == b"a"
    assert craftsync.files("plain") == {"a": "a"}
    assert craftsync("put", "new", "./plain/a", "--store", "./plain").code == 0
    assert craftsync("rm", "./plain/a", "--store", "./plain").code == 0
    assert craftsync("put", "new", "./plain/inner/x", "--store", "./plain").code == 0
    folder = craftsync("stat", "./plain/inner", "--store", "./plain")
    assert "It is a folder with objects such as ./plain/inner/x." in folder.err
    missing = craftsync("get", "./plain/inner/x", "new folder/")
    assert missing.err.endswith("Make the folder first: mkdir -p 'new folder'\n")
    for word in ("./none", "./none/b"):
        run = craftsync("rm", word)
        assert (run.code, run.err.splitlines()[0]) == (3, f"craftsync: {word} does not exist.")
    outside = craftsync("rm", "./new", "--store", "./plain")
    assert (outside.code, "not in the store" in outside.err) == (2, True)


def test_cp_into_a_store_folder_uses_the_trash_of_that_store(craftsync: Craftsync) -> None:
    craftsync.write("backup/.craftsync/store-id", "0" * 32)
    craftsync.write("backup/models/deep/a", "old")
    craftsync.write("new", "new")
    assert craftsync("cp", "new", "./backup/models/deep/a").code == 0
    assert craftsync.files("backup") == {"models/deep/a": "new"}
    (kept,) = (craftsync.folder / "backup/.craftsync/trash").rglob("deep/a")
    assert kept.read_text() == "old"
    assert kept.relative_to(craftsync.folder).parts[3:] != ()
    assert not (craftsync.folder / "backup/models/.craftsync").exists()


def test_a_store_without_identity_file_is_known_from_its_last_run(craftsync: Craftsync) -> None:
    craftsync.write("root/models/a", "old")
    assert craftsync("push", "root", "./store").code == 0
    (craftsync.folder / "store/.craftsync/store-id").unlink()
    assert craftsync("rm", "./store/models/a").code == 0
    assert craftsync.files("store") == {}


def test_missing_object_exits_3_and_suggests_similar_names(stores: Stores) -> None:
    stores.fill("directory")
    for words, near in (
        (("cat", "directory:models/c.csv"), "directory:models/b.csv"),
        (("rm", "-r", "directory:modles"), "directory:models/"),
        (("cp", "directory:tpo", "s3:x"), "directory:top"),
        (("get", "directory:models", "x"), "Use -r"),
        (("rm", "directory:models"), "Use -r"),
        (("cat", "directory:unlike"), "craftsync ls directory: lists"),
        (("cat", "directory:"), "whole store"),
        (("mv", "directory:modles/*.csv", "s3:x/"), "directory:models/"),
    ):
        run = stores(*words)
        assert run.code == 3
        assert near in run.err
    assert stores.paths("directory") == sorted(NAMES)


def test_meaningless_argument_combinations_are_rejected(stores: Stores) -> None:
    stores.fill("directory", {**NAMES, "b.csv": "other"})
    stores.call.write("top")
    for words, why in (
        (("cp", "a", "b"), "two files on this machine"),
        (("cp", "-r", "directory:models", "directory:models/copy"), "be copied again"),
        (("cp", "directory:top", "directory:top"), "are the same"),
        (("cp", "directory:top", "directory:models/b.csv", "top"), "is a file"),
        (("mv", "directory:models/*", "directory:top"), "is an object"),
        (("get", "directory:top"), "Missing argument"),
        (("put", "top", "top"), "not an environment"),
        (("get", "directory:models/b.csv", "directory:b.csv", "out"), "both"),
        (("put", "--storage-class", "GLACIER", "top", "directory:x"), "--storage-class"),
    ):
        run = stores(*words)
        assert (run.code in (1, 2), why in run.err) == (True, True), run.err
    assert stores.paths("directory") == sorted([*NAMES, "b.csv"])


def test_two_sources_of_one_name_are_rejected_before_any_change(stores: Stores) -> None:
    names = {"p/x": "1", "p/only": "2", "q/x": "3"}
    stores.fill("directory", names)
    stores.fill("s3", {"p/x": "4"})
    for words in (
        ("mv", "directory:p/x", "directory:q/x", "directory:t/"),
        ("mv", "-r", "directory:p", "directory:q", "directory:t/"),
        ("mv", "-n", "directory:p/x", "directory:q/x", "directory:t/"),
        ("cp", "directory:p/x", "s3:p/x", "directory:t/"),
        ("put", "filling/p/x", "filling/q/x", "directory:t/"),
        ("get", "directory:p/x", "directory:q/x", "go/"),
    ):
        run = stores(*words)
        assert (run.code, "would both become" in run.err) == (2, True), run.err
        assert run.out == b""
    assert stores.paths("directory") == sorted(names)
    assert not (stores.call.folder / "go").exists()


def test_failed_object_does_not_stop_the_others(stores: Stores) -> None:
    stores.fill("directory")
    stores.call.write("out/b.csv/in-the-way")
    run = stores("get", "directory:models/*", "out", "--json")
    assert run.code == 1
    assert run.summary["downloaded"] == 1
    assert run.summary["problems"] == 1
    (problem,) = (line for line in run.json if line["type"] == "problem")
    assert problem["path"] == "directory:models/b.csv"
    assert stores.call.files("out")["[1] é?.bin"] == "one"


def test_a_name_the_store_refuses_fails_that_file_alone(stores: Stores) -> None:
    for name in ("a", "f2\nx", "z"):
        stores.call.write(f"data/{name}", name)
    run = stores("put", "-r", "data", "s3:", "--json")
    assert (run.code, run.summary["uploaded"], run.summary["problems"]) == (1, 2, 1)
    assert stores.paths("s3") == ["a", "z"]


def test_put_prints_bytes_that_are_not_utf8_as_such(craftsync: Craftsync) -> None:
    craftsync.write("data/bad\udcff\n.txt")
    run = craftsync("put", "-r", "data", "./store", "--store", "./store")
    assert (run.code, r"data/bad\xff\n.txt" in run.err) == (1, True), run.err


def test_a_fatal_error_leaves_the_summary_true(stores: Stores, moto: S3Server) -> None:
    for number in range(40):
        stores.call.write(f"data/f{number:02}")

    def script(request: Request) -> Answer | None:
        denied = request.method == "PUT" and request.target.endswith("f20")
        return error(403, "InvalidAccessKeyId") if denied else None

    with proxied(moto, script) as (server, _):
        run = stores.call("put", "-r", "data", "s3:", "--json", AWS_ENDPOINT_URL=server.endpoint)
    assert run.code == 3
    stored = stores.paths("s3")
    assert run.summary["uploaded"] == len(stored)
    assert "f00" in stored
    actions = [line["target"] for line in run.json if line["type"] == "action"]
    assert sorted(actions) == stored


def test_a_stopped_move_counts_its_copies(stores: Stores, moto: S3Server) -> None:
    names = [f"from/f{number}" for number in range(6)]
    stores.fill("s3", dict.fromkeys(names, "x"))
    asked, over = threading.Event(), threading.Event()

    def script(request: Request) -> Answer | None:
        if request.method != "DELETE":
            return None
        asked.set()
        over.wait(DEADLINE)
        return error(503, "SlowDown")

    with proxied(moto, script) as (server, _):
        stores.call.environment["AWS_ENDPOINT_URL"] = server.endpoint
        with stores.call.start("mv", "-r", "s3:from", "s3:to", "--json") as process:
            try:
                assert asked.wait(DEADLINE)
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=DEADLINE)
            finally:
                over.set()
                process.kill()
    stores.call.environment["AWS_ENDPOINT_URL"] = moto.endpoint
    run = Run(process.returncode, out, "")
    assert (run.code, run.summary["moved"], run.summary["copied"]) == (130, 0, 6)
    assert stores.paths("s3") == sorted(names + [name.replace("from", "to") for name in names])


def test_files_are_moved_to_a_store_and_back(stores: Stores) -> None:
    stores.call.write("data/sub/a", "a")
    stores.call.write("data/b", "b")
    assert stores("mv", "-r", "data", "s3:data").code == 0
    assert stores.call.files("data") == {}
    assert stores("mv", "s3:data/sub/a", "s3:data/b", ".").code == 0
    assert (stores.call.folder / "a").read_text() + (stores.call.folder / "b").read_text() == "ab"
    assert stores.paths("s3") == []


def test_names_with_line_breaks_and_escapes_survive(craftsync: Craftsync) -> None:
    names = ["a\nb", "\x1b[31m", "*?", "[x]", "-r", "é" * 60]
    for name in names:
        craftsync.write(f"data/{name}", name)
    assert craftsync("put", "-r", "data", "./store", "--store", "./store").code == 0
    run = craftsync("get", "-rv", "./store", "./out")
    assert run.code == 0, run.err
    assert "\x1b" not in run.text
    assert sorted(craftsync.files("out")) == sorted(names)
    for pattern, count in (("[[]x]", 1), ("[x]", 1), ("*", len(names)), ("?*b", 1)):
        listed = craftsync("ls", "--json", f"./store/{pattern}")
        assert len(listed.json) == count, pattern
    assert craftsync("rm", "./store/*?", "--store", "./store").code == 0
    assert sorted(craftsync.files("store")) == sorted(name for name in names if name != "*?")


def test_links_and_special_files_are_left_out_of_a_folder(craftsync: Craftsync) -> None:
    craftsync.write("data/a", "a")
    (craftsync.folder / "data/link").symlink_to("/etc/hostname")
    os.mkfifo(craftsync.folder / "data/pipe")
    assert craftsync("put", "-rv", "data", "./store", "--store", "./store").code == 0
    assert craftsync.files("store") == {"a": "a"}


def test_json_of_a_copy_names_where_it_went(stores: Stores) -> None:
    stores.fill("directory")
    run = stores("cp", "directory:models/*.csv", "s3:csv/", "--json")
    action = {"type": "action", "action": "copy", "path": "models/b.csv", "size": 1}
    assert run.json[0] == {**action, "status": "done", "target": "csv/b.csv"}
    assert run.summary["copied"] == 1


def test_streams_can_be_copied(stores: Stores) -> None:
    assert stores("cp", "-", "s3:stream", stdin=b"from a pipe").code == 0
    assert stores("cp", "s3:stream", "-").out == b"from a pipe"
    stores.fill("directory", {"many/a.csv": "a", "many/in/b.csv": "b", "many/c.txt": "c"})
    for name in ("cp", "get"):
        wanted = (name, "-r", "--include", "*.csv", "directory:many", "-")
        assert stores(*wanted).out == b"ab"
        assert stores(name, "directory:many", "-").code == 3
        none = stores(name, "-r", "--include", "*.bin", "directory:many", "-")
        assert (none.code, "nothing matches --include" in none.err) == (3, True)
    local = stores("cp", "filling/many/a.csv", "-")
    assert (local.code, "is in a store" in local.err) == (2, True)
    nameless = stores("put", "-", "s3:", stdin=b"x")
    assert (nameless.code, "no name" in nameless.err) == (2, True)


def test_removing_many_asks_on_a_terminal(craftsync: Craftsync) -> None:
    craftsync.write("store/.craftsync/store-id", "0" * 32)
    craftsync.write("store/d/a")
    craftsync.write("store/d/b")
    for words, answer, left in (
        (("mv", "-r", "./store/d", "./store/e"), b"n\n", 2),
        (("rm", "-r", "./store/d"), b"y\n", 0),
    ):
        with on_a_terminal(craftsync, 100, *words, answer=answer) as terminal:
            code = terminal.end()
        assert "2 objects (14 bytes)? [y/N]" in terminal.sent
        assert (code == 0) == (left == 0)
        assert len(craftsync.files("store/d") if left else {}) == left
    craftsync.write("store/d/a")
    with on_a_terminal(craftsync, 100, "rm", "-ry", "./store/d", answer=b"") as terminal:
        assert terminal.end() == 0
    assert "[y/N]" not in terminal.sent


def test_buckets_of_one_name_at_two_endpoints_are_two_stores(
    stores: Stores, rclone: S3Server
) -> None:
    rclone.make_bucket(stores.bucket)
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    one = {"store": "s3", "bucket": stores.bucket, "endpoint_url": stores.endpoint}
    two = {**one, "endpoint_url": rclone.endpoint, "profile": "two"}
    stores.call.config.write_text(json.dumps({"environments": {"one": one, "two": two}}))
    credentials = stores.call.write(
        "credentials",
        f"[two]\naws_access_key_id={rclone.access_key}\naws_secret_access_key={rclone.secret_key}\n",
    )
    stores.call.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(credentials)
    stores.call.environment["AWS_CONFIG_FILE"] = os.devnull
    assert all(key in stores.call.environment for key in keys)
    assert stores("put", "-", "one:a", stdin=b"content").code == 0
    assert stores("mv", "one:a", "two:a").code == 0
    assert stores("cat", "two:a").out == b"content"
    assert stores("cat", "one:a").code == 3


def test_unknown_bucket_is_readable_but_writable_only_at_its_root(stores: Stores) -> None:
    stores.fill("s3", {"a/b/c": "content"})
    stores.call.config.write_text("")
    run = stores("cat", f"s3://{stores.bucket}/deep/a/b/c")
    assert run.out == b"content"
    refused = stores("rm", f"s3://{stores.bucket}/deep/a/b/c")
    assert (refused.code, "--store" in refused.err) == (2, True)
    root = f"s3://{stores.bucket}/deep"
    stores.call.write("plain/x", "x")
    bucket = f"s3://{stores.bucket}"
    for words in (("cp", "plain/x", f"{bucket}/m/"), ("put", "plain/x", f"{bucket}/m/")):
        refused = stores(*words)
        typed = f"Type: craftsync {' '.join(words)} --store {bucket}\n"
        assert (refused.code, typed in refused.err) == (2, True), refused.err
        mistyped = stores(words[0], "plian/x", words[2])
        assert (mistyped.code, "plian/x does not exist" in mistyped.err) == (3, True)
    typed = refused.err.splitlines()[-1].split()[2:]
    assert stores(*typed).code == 0
    for words in (("./plain/x", f"{root}/x"), (f"{root}/x", "./plain/y")):
        run = stores("mv", "--store", root, "--store", "./plain", *words)
        assert run.code == 0, run.err
    assert stores.call.files("plain") == {"y": "x"}
    assert stores("cp", "./plain/y", f"{root}/y", "--store", root).code == 0
    assert stores("rm", "--store", root, f"{root}/a/b/c").code == 0
    assert stores("ls", "-R", f"{root}/.craftsync/trash").text.rstrip().endswith("/a/b/c")


@pytest.mark.parametrize("command", ["cp", "mv"])
def test_mistyped_environment_is_not_a_file_of_this_machine(stores: Stores, command: str) -> None:
    stores.fill("directory")
    run = stores(command, "directory:top", "directori:top")
    assert run.code == 2
    assert "'directori:top' is not an environment" in run.err
    assert "Did you mean directory" in run.err
    assert not (stores.call.folder / "directori:top").exists()
    assert "top" in stores.paths("directory")
    assert stores(command, "directory:top", "./directori:top").code == 0
    assert (stores.call.folder / "directori:top").exists()


def test_one_object_is_worth_a_line_on_a_terminal_only(craftsync: Craftsync) -> None:
    craftsync.write("file", "four")
    craftsync.write("store/.keep", "")
    store = ("--store", "./store")
    for words, line in (
        (("put", "file", "./store/a", *store), "put: 1 uploaded (4 bytes); "),
        (("put", "-", "./store/typed", *store), "put: 1 uploaded; "),
        (("cp", "./store/a", "./store/b", *store), "cp: 1 copied; "),
        (("mv", "./store/b", "./store/c", *store), "mv: 1 moved; "),
        (("get", "./store/a", "got"), "get: 1 downloaded (4 bytes); "),
        (("rm", "./store/c", *store), "rm: 1 deleted in the store; "),
    ):
        with on_a_terminal(
            craftsync, 100, *words, answer=b"\x04" if "-" in words else None
        ) as shown:
            assert shown.end() == 0, shown.sent
        assert line in shown.sent
    with on_a_terminal(craftsync, 100, "cat", "./store/a") as shown:
        assert (shown.end(), shown.sent) == (0, "four")
    for words in (("put", "file", "./store/d", *store), ("cp", "./store/d", "./store/e", *store)):
        assert craftsync(*words).out == b""


def test_standard_input_is_not_one_of_several(craftsync: Craftsync) -> None:
    craftsync.write("file")
    craftsync.write("store/.keep", "")
    for command in ("put", "cp"):
        for words in (("-", "file"), ("file", "-")):
            run = craftsync(command, *words, "./store/x", "--store", "./store", stdin=b"piped")
            assert (run.code, "one of several" in run.err) == (2, True)
    assert set(craftsync.files("store")) == {".keep"}


def test_mistyped_object_among_several_removes_none(craftsync: Craftsync) -> None:
    for name in ("a", "b", "folder/c"):
        craftsync.write(f"store/{name}", "")
    for wrong, code in (("gone", 3), ("folder", 3)):
        run = craftsync("rm", "./store/a", f"./store/{wrong}", "./store/b", "--store", "./store")
        assert (run.code, f"./store/{wrong}: object not found" in run.err) == (code, True)
        assert set(craftsync.files("store")) == {"a", "b", "folder/c"}
    run = craftsync("rm", "./store/a", "./store/b", "--store", "./store")
    assert (run.code, set(craftsync.files("store"))) == (0, {"folder/c"})


def test_hint_for_an_unknown_store_names_the_folder_that_is_there(craftsync: Craftsync) -> None:
    craftsync.write("data/file")
    (craftsync.folder / "new").mkdir()
    target = f"file://{craftsync.folder}/new"
    run = craftsync("cp", "-r", "data", target)
    assert (run.code, run.err.rstrip().endswith(f"--store {craftsync.folder}/new")) == (2, True)
    assert craftsync("cp", "-r", "data", target, "--store", f"{craftsync.folder}/new").code == 0
    assert craftsync.files("new") == {"file": "content"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("get s3:a s3:b", "cp s3:a s3:b"),
        ("get s3:a s3://bkt/x", "cp s3:a s3://bkt/x"),
        (
            "get -r -v s3: directory:copy --exclude '*.tmp'",
            "cp -r -v s3: directory:copy --exclude '*.tmp'",
        ),
        ("get s3 a directory:copy", "cp s3:a directory:copy"),
        ("get s3 -n a directory:copy", "cp s3:a -n directory:copy"),
        ("put s3:a s3:b", "cp s3:a s3:b"),
        ("put s3://bkt/a directory b", "cp s3://bkt/a directory:b"),
        ("put a s3:b directory:", "cp a s3:b directory:"),
    ],
)
def test_get_into_and_put_from_a_store_name_cp(stores: Stores, words: str, named: str) -> None:
    before = {path.name for path in stores.call.folder.iterdir()}
    run = stores(*shlex.split(words))
    assert (run.code, f"type: craftsync {named}\n" in run.err) == (2, True), run.err
    assert "is in a store; " in run.err
    assert {path.name for path in stores.call.folder.iterdir()} == before


def test_file_named_like_an_object_is_written_with_its_folder(stores: Stores) -> None:
    stores.call.write("store/a", "one")
    run = stores("get", "directory:a", "directory:copy")
    assert (run.code, "write ./directory:copy." in run.err) == (2, True)
    assert stores("get", "directory:a", "./directory:copy").code == 0
    assert stores("put", "directory:copy", "directory:b").code == 2
    assert stores("put", "./directory:copy", "directory:b").code == 0
    assert stores.call.files("store") == {"a": "one", "b": "one"}


@pytest.mark.parametrize("kind", KINDS)
def test_copy_or_move_onto_itself_changes_nothing(stores: Stores, kind: str) -> None:
    stores.fill(kind, {"a": "one", "b": "two"})
    word = stores.word
    for sources, target in (
        ([word(kind, "a")], word(kind, "a")),
        ([word(kind, "a")], word(kind)),
        ([word(kind, "b"), word(kind, "a")], word(kind)),
        ([word(kind, "*")], word(kind)),
    ):
        for command in ("cp", "mv"):
            run = stores(command, *sources, target)
            assert (run.code, "are the same." in run.err) == (2, True), run.err
    assert stores.paths(kind) == ["a", "b"]
    assert stores("ls", word(kind, ".craftsync/trash")).code != 0


def test_file_in_a_directory_store_onto_its_own_object_is_refused(stores: Stores) -> None:
    stores.call.write("store/a", "one")
    for words in (
        ("mv", "store/a", "directory:a"),
        ("put", "store/a", "directory:"),
        ("put", "-r", "store", "directory:"),
        ("get", "directory:a", "store"),
    ):
        run = stores(*words)
        assert (run.code, "are the same." in run.err) == (2, True), run.err
    assert stores.call.files("store") == {"a": "one"}


@pytest.mark.parametrize("kind", KINDS)
def test_copies_that_would_be_copied_again_are_refused(stores: Stores, kind: str) -> None:
    names = {f"a/{number}.csv": "" for number in range(20)}
    stores.fill(kind, {**names, "a/b/x.csv": "x", "a/b/b/y.csv": "y"})
    before = stores.paths(kind)
    for words, target in (
        (["cp", "a/**"], "a/b"),
        (["mv", "a/**"], "a/new"),
        (["cp", "-n", "**/*.csv"], "csv"),
        (["cp", "-r", "a/*"], "a/b"),
        (["mv", "-r", "a/b"], "a"),
        (["mv", "a/b/x.csv", "a/**"], "a/b/c"),
    ):
        named = [stores.word(kind, word) if "a/" in word or "*" in word else word for word in words]
        run = stores(*named, stores.word(kind, target))
        assert (run.code, "be copied again." in run.err, run.out) == (2, True, b""), run.err
    assert stores.paths(kind) == before


@pytest.mark.parametrize("kind", KINDS)
def test_copies_that_are_left_out_are_not_copied_again(stores: Stores, kind: str) -> None:
    stores.fill(kind, {"a/1.csv": "", "a/b/x.csv": "", "a/c/y.txt": ""})
    word = stores.word
    refused = stores("mv", word(kind, "a/**"), word(kind, "a/b"))
    assert "--exclude /b/" in refused.err
    assert stores("mv", word(kind, "a/**"), word(kind, "a/b"), "--exclude", "/b/").code == 0
    assert stores.paths(kind) == ["a/b/1.csv", "a/b/c/y.txt", "a/b/x.csv"]
    assert stores("mv", "-r", word(kind, "a/b"), word(kind, "a")).code == 0
    assert stores("cp", word(kind, "a/*"), word(kind, "a/d/")).code == 0
    assert stores("cp", word(kind, "a/*/*.txt"), word(kind, "a/d/")).code == 0
    expected = ["a/1.csv", "a/c/y.txt", "a/d/1.csv", "a/d/c/y.txt", "a/d/x.csv", "a/x.csv"]
    assert stores.paths(kind) == expected


def test_folder_is_not_put_into_a_store_inside_it(craftsync: Craftsync) -> None:
    for name in ("a", "b/c"):
        craftsync.write(f"data/{name}", name)
    for words in (
        ("put", "-r", "data", "./data/store", "--store", "./data/store"),
        ("mv", "-r", "data", "./data/b/store/", "--store", "./data/b/store"),
        ("get", "-r", "./data", "data/out"),
    ):
        run = craftsync(*words)
        assert (run.code, "be copied again." in run.err) == (2, True), run.err
    assert craftsync.files("data") == {"a": "a", "b/c": "b/c"}
    run = craftsync(
        "put", "-r", "data", "./data/store", "--store", "./data/store", "--exclude", "store/"
    )
    assert run.code == 0
    assert craftsync.files("data/store") == {"a": "a", "b/c": "b/c"}
