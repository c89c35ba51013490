"""`ls`, `stat`, `put`, `get` and `rm` over a directory store."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.support.cli import Craftsync
from tests.support.servers import S3Server


def test_put_ls_stat_get_and_rm_agree_on_one_object(craftsync: Craftsync) -> None:
    craftsync.write("local.csv", "id;name\n")
    assert craftsync("put", "local.csv", "./store", "datasets/été.csv").code == 0
    line = r" +8 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +datasets/été\.csv\n"
    listed = craftsync("ls", "-R", "./store")
    assert re.fullmatch(line, listed.text)
    assert craftsync("stat", "./store", "datasets/été.csv").text == listed.text
    assert craftsync("get", "./store", "datasets/été.csv", "copy.csv").code == 0
    assert (craftsync.folder / "copy.csv").read_text() == "id;name\n"
    assert craftsync("rm", "./store", "datasets/été.csv").code == 0
    assert craftsync("ls", "./store").text == ""


def test_a_dash_is_standard_input_and_output(craftsync: Craftsync) -> None:
    content = os.urandom(300_000)
    assert craftsync("put", "-", "./store", "a", stdin=content).code == 0
    assert craftsync("get", "./store", "a", "-").out == content


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_get_to_standard_output_continues_the_file_behind_it(
    craftsync: Craftsync, name: str
) -> None:
    craftsync.write("store/o", "OBJECT\n")
    with (craftsync.folder / "out").open("wb", buffering=0) as out:
        out.write(b"a header of some length\n")
        assert craftsync.into(out, "get", "./store", "o", name) == 0
        out.write(b"footer\n")
    shown = (craftsync.folder / "out").read_bytes()
    assert shown == b"a header of some length\nOBJECT\nfooter\n"


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_put_from_stdin_stores_the_remaining_input(craftsync: Craftsync, name: str) -> None:
    craftsync.write("in.csv", "header\nrow 1\nrow 2\n")
    with (craftsync.folder / "in.csv").open("rb", buffering=0) as source:
        assert source.read(7) == b"header\n"
        assert craftsync.into(None, "put", name, "./store", "rest.csv", stdin=source) == 0
    assert craftsync.files("store") == {"rest.csv": "row 1\nrow 2\n"}


def test_get_to_a_full_disk_names_standard_output(craftsync: Craftsync) -> None:
    craftsync.write("store/o", "OBJECT\n")
    with open("/dev/full", "wb") as out:
        assert craftsync.into(out, "get", "./store", "o", "-") == 1


def test_json_lines_have_exactly_the_three_fields(craftsync: Craftsync) -> None:
    craftsync.write("store/été.csv", "x" * 123)
    os.utime(craftsync.folder / "store" / "été.csv", (0, 1_795_342_272))
    expected = {"path": "été.csv", "last_modified": "2026-11-22T10:11:12Z", "size": 123}
    for words in (["ls", "./store"], ["stat", "./store", "été.csv"]):
        run = craftsync(*words, "--json")
        assert run.json == [expected]
        assert "été" in run.text


def test_a_folder_of_an_environment_can_be_listed(craftsync: Craftsync) -> None:
    craftsync.config.write_text("environments: {dev: {store: directory, path: store}}")
    craftsync.write("store/models/2026/a")
    craftsync.write("store/models-old/b")
    run = craftsync("ls", "-R", "dev:models", "--json")
    assert [line["path"] for line in run.json] == ["2026/a"]


def test_a_name_that_would_break_the_line_is_escaped(craftsync: Craftsync) -> None:
    craftsync.write("store/a\nb\x1b[31m")
    run = craftsync("ls", "./store")
    assert run.lines[0].endswith(r"a\nb\x1b[31m")
    assert craftsync("ls", "./store", "--json").json[0]["path"] == "a\nb\x1b[31m"


def test_find_prints_names_that_the_other_commands_accept(craftsync: Craftsync) -> None:
    names = ["a\nb", "a\\nb", "plain"]
    for name in names:
        craftsync.write(f"store/{name}", f"content of {name}")
    assert craftsync("find", "./store").text == "".join(f"./store/{name}\n" for name in names)
    *found, end = craftsync("find", "-0", "./store").text.split("\0")
    assert (found, end) == ([f"./store/{name}" for name in names], "")
    content = craftsync("cat", *found).text
    assert all(f"content of {name}" in content for name in names)


@pytest.mark.parametrize(
    "words", [["ls", "./none"], ["rm", "./store/none"], ["history", "--folder", "none"]]
)
def test_json_prints_the_error_that_ended_the_command_once(
    craftsync: Craftsync, words: list[str]
) -> None:
    craftsync.write("store/a")
    run = craftsync(*words, "--json")
    (error,) = [line for line in run.json if line.get("type") == "error"]
    assert error.keys() == {"type", "message", "remedy", "exit_code"}
    assert (error["exit_code"], error["message"] in run.err) == (run.code, True)


def test_tree_with_json_names_the_commands_that_print_it(craftsync: Craftsync) -> None:
    run = craftsync("tree", "./store", "--json")
    assert (run.code, "find --json" in run.err) == (2, True)


@pytest.mark.parametrize("words", [["ls"], ["stat", "a"], ["get", "a", "-"], ["rm", "a"]])
def test_reading_a_missing_store_exits_3_and_creates_nothing(
    craftsync: Craftsync, words: list[str]
) -> None:
    run = craftsync(words[0], "./store", *words[1:])
    assert run.code == 3
    assert run.err.startswith("craftsync: ")
    assert not (craftsync.folder / "store").exists()


@pytest.mark.parametrize("words", [["stat", "./store", "a"], ["get", "./store", "a", "copy"]])
def test_missing_object_is_named(craftsync: Craftsync, words: list[str]) -> None:
    (craftsync.folder / "store").mkdir()
    run = craftsync(*words)
    assert run.code == 3
    assert re.match(r"craftsync: .*\ba\b", run.err)
    assert not (craftsync.folder / "copy").exists()


@pytest.mark.parametrize("file", ["missing.csv", "folder", "loop", "file/", "file/below"])
def test_put_of_a_non_file_exits_3_and_names_it(craftsync: Craftsync, file: str) -> None:
    craftsync.write("folder/a")
    craftsync.write("file")
    (craftsync.folder / "loop").symlink_to("loop")
    run = craftsync("put", file, "./store", "a")
    assert run.code == 3
    assert run.err.startswith(f"craftsync: {file} cannot be read (")
    assert ("craftsync push" in run.err) == (file == "folder")
    assert not (craftsync.folder / "store").exists()


@pytest.mark.parametrize("target", ["out/", "out/copy", "file/", "file/copy"])
def test_get_into_a_missing_folder_exits_3_and_writes_nothing(
    craftsync: Craftsync, target: str
) -> None:
    craftsync.write("file")
    craftsync.write("store/models/a", "stored")
    run = craftsync("get", "./store", "models/a", target)
    assert run.code == 3
    assert run.err.startswith(f"craftsync: {target} cannot be written (")
    assert not (craftsync.folder / "out").exists()
    assert (craftsync.folder / "file").read_text() == "content"


@pytest.mark.parametrize("target", ["out", "out/", ".", "~/out"])
def test_get_into_a_folder_keeps_the_name_of_the_object(craftsync: Craftsync, target: str) -> None:
    (craftsync.folder / "out").mkdir()
    craftsync.write("store/models/a", "stored")
    assert craftsync("get", "./store", "models/a", target).code == 0
    folder = "." if target == "." else "out"
    assert (craftsync.folder / folder / "a").read_text() == "stored"


@pytest.mark.parametrize(
    "words", [["stat", "./store", "models"], ["get", "./store", "models", "x"]]
)
def test_folder_given_as_an_object_exits_3_with_an_example(
    craftsync: Craftsync, words: list[str]
) -> None:
    craftsync.write("store/models/a")
    run = craftsync(*words)
    assert run.code == 3
    assert "such as ./store/models/a" in run.err


def test_closed_output_pipe_is_not_an_error(craftsync: Craftsync) -> None:
    for number in range(3000):
        craftsync.write(f"store/{number:04}-{'long' * 20}")
    process = craftsync.start("ls", "./store", "--json")
    assert process.stdin and process.stdout and process.stderr
    first = process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(timeout=60) == 141
    assert errors == b""
    assert json.loads(first)["path"].startswith("0000-")


@pytest.mark.parametrize("name", ["models", "models/", "modles"])
def test_rm_of_a_missing_object_deletes_nothing_and_fails(craftsync: Craftsync, name: str) -> None:
    craftsync.write("store/models/a")
    run = craftsync("rm", "./store", name)
    assert run.code == 3
    assert "object not found" in run.err
    assert ("models/a" in run.err) == name.startswith("models")
    assert craftsync.files("store") == {"models/a": "content"}


@pytest.mark.parametrize("words", [("ls",), ("pull", "root")])
def test_a_mistyped_folder_of_a_bucket_ends_with_3(
    craftsync: Craftsync, moto: S3Server, words: tuple[str, ...]
) -> None:
    craftsync.write("first/a")
    assert craftsync("push", "first", "s3://typos/models", **access(moto)).code == 0
    run = craftsync(*words, "s3://typos/modles", **access(moto))
    assert run.code == 3
    assert "s3://typos/modles" in run.err
    assert craftsync(*words, "s3://typos/models", **access(moto)).code == 0


@pytest.mark.parametrize("root", ["file", "file/below", "loop"])
def test_pull_into_an_invalid_folder_exits_3(craftsync: Craftsync, root: str) -> None:
    craftsync.write("file")
    (craftsync.folder / "loop").symlink_to("loop")
    craftsync.write("store/a")
    run = craftsync("pull", root, "./store")
    assert run.code == 3
    assert run.err.startswith(
        f"craftsync: The folder {craftsync.folder.resolve()}/{root} cannot be "
    )


def test_a_mistyped_source_of_a_migration_ends_with_3(craftsync: Craftsync, moto: S3Server) -> None:
    for _ in range(2):
        run = craftsync("migrate", "s3://typos/sources", "./target", **access(moto))
        assert run.code == 3
        assert "s3://typos/sources" in run.err


def test_an_empty_store_is_listed_and_pulled_without_complaint(
    craftsync: Craftsync, moto: S3Server
) -> None:
    (craftsync.folder / "store").mkdir()
    assert craftsync("ls", "./store").code == 0
    assert craftsync("pull", "root", "./store").code == 0
    moto.make_bucket("empty")
    assert craftsync("ls", "s3://empty", **access(moto)).code == 0
    assert craftsync("pull", "other", "s3://empty", **access(moto)).code == 0
    craftsync.write("first/a")
    assert craftsync("push", "first", "s3://empty/once", **access(moto)).code == 0
    (craftsync.folder / "first/a").unlink()
    words = ("push", "--delete", "--force-delete", "first", "s3://empty/once")
    assert craftsync(*words, **access(moto)).code == 0
    assert craftsync("ls", "s3://empty/once", **access(moto)).code == 0


@pytest.fixture(scope="module")
def moto(moto: S3Server) -> S3Server:
    moto.make_bucket("typos")
    return moto


def access(server: S3Server) -> dict[str, str]:
    return server.variables
