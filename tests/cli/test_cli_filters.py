"""Filters of the installed program: sizes, ages, lists, what is there already."""

from __future__ import annotations

import os
import time
from email.utils import formatdate
from pathlib import Path

import pytest

import craftsync as package
from craftsync.errors import UsageError
from tests.support.cli import Craftsync, Run, until
from tests.support.s3 import fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

STORE = "./store"
DAY = 86_400


def aged(file: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(file, (moment, moment))


def problems(run: Run) -> dict[str, str]:
    return {line["path"]: line["reason"] for line in run.json if line["type"] == "problem"}


@pytest.fixture
def sized(craftsync: Craftsync) -> Craftsync:
    for name, size in (("small", 1), ("middle", 2000), ("large", 3000)):
        craftsync.write(f"data/{name}", "x" * size)
    return craftsync


def test_a_file_that_grows_past_max_size_keeps_its_object(sized: Craftsync) -> None:
    run = sized("push", "--max-size", "2K", "data", STORE)
    assert run.code == 0, run.err
    assert set(sized.files("store")) == {"small", "middle"}
    assert "1 left out by filters" in run.text
    sized.write("data/middle", "y" * 4000)
    assert sized("push", "--max-size", "2K", "data", STORE).code == 0
    assert sized.files("store")["middle"] == "x" * 2000
    sized.write("data/middle", "z" * 100)
    assert sized("push", "--min-size", "200", "data", STORE).code == 0
    assert sized.files("store")["middle"] == "x" * 2000
    assert sized("sync", "data", STORE).code == 0
    assert sized.files("store") == sized.files("data")
    assert sized.files("data")["middle"] == "z" * 100


def test_what_was_last_synced_of_a_path_left_out_stays(sized: Craftsync) -> None:
    assert sized("sync", "data", STORE).code == 0
    (sized.folder / "data/large").unlink()
    for words in (("--existing",), ("--ignore-existing",)):
        assert sized("push", *words, "data", STORE).code == 0
    assert sized("push", "--max-size", "2K", "data", STORE).code == 0
    assert "large" in sized.files("store")
    run = sized("sync", "--json", "data", STORE)
    assert run.summary["deleted_remote"] == 1  # Its deletion was still known.


def test_deletes_that_wait_are_not_touched_by_a_filtered_run(craftsync: Craftsync) -> None:
    for number in range(30):
        craftsync.write(f"data/{number}", "x" * (number + 1))
    assert craftsync("push", "data", STORE).code == 0
    for number in range(28):
        (craftsync.folder / f"data/{number}").unlink()
    assert craftsync("push", "--delete", "data", STORE).code == 7
    held = craftsync("deletes", "list", "--root", "data", "--store", STORE).lines
    assert len(held) >= 28
    craftsync.write("data/29", "a new content")
    assert craftsync("push", "--min-size", "5", "data", STORE).code == 0
    assert craftsync("deletes", "list", "--root", "data", "--store", STORE).lines == held
    assert len(craftsync.files("store")) == 30


def test_a_filtered_run_is_not_recorded_as_the_last_success(sized: Craftsync) -> None:
    assert sized("push", "--max-size", "2K", "data", STORE).code == 0
    assert sized("status", "--json", "data", STORE).json[0]["last_success"] is None


def test_filters_refuse_sync_watch_and_delete_with_the_reason(craftsync: Craftsync) -> None:
    craftsync.write("data/a")
    refused = {
        ("sync", "--existing"): "cannot be used with sync",
        ("plan", "--max-age", "7d"): "--mode",
        ("watch", "--mode", "push", "--max-size", "5"): "not with watch",
        ("pull", "--delete", "--ignore-existing"): "cannot be used with --delete",
    }
    for command, reason in refused.items():
        run = craftsync(*command, "data", STORE)
        assert (run.code, reason in run.err) == (2, True), run.err
        assert any(f"{flag}: " in run.err for flag in command), run.err
    assert craftsync("migrate", "--delete", "--min-size", "5", "./data", "./other").code == 2
    assert craftsync("sync", "data", STORE, CRAFTSYNC_MAX_SIZE="5").code == 2
    assert not (craftsync.folder / "store").exists()


def test_age_filters_use_the_age_of_the_source(craftsync: Craftsync) -> None:
    for name, days in (("new", 0), ("old", 10), ("edited", 0)):
        aged(craftsync.write(f"data/{name}"), days)
    aged(craftsync.write("store/edited", "as it was, long ago"), 30)
    assert craftsync("push", "--max-age", "7d", "data", STORE).code == 0
    assert craftsync.files("store") == {"new": "content", "edited": "content"}
    assert craftsync("push", "--min-age", "7d", "data", STORE).code == 0
    aged(craftsync.folder / "store/old", 10)
    assert craftsync("pull", "--max-age", "1d12h", "copy", STORE).code == 0
    assert set(craftsync.files("copy")) == {"new", "edited"}


def test_existing_and_ignore_existing_check_the_written_side(
    craftsync: Craftsync,
) -> None:
    for name in ("both", "here"):
        craftsync.write(f"data/{name}", "of the folder")
    for name in ("both", "there"):
        craftsync.write(f"store/{name}", "of the store")
    assert craftsync("push", "--existing", "--ignore-existing", "data", STORE).code == 0
    assert craftsync("pull", "--ignore-existing", "data", STORE).code == 0
    assert craftsync.files("data") == {
        **{"both": "of the folder", "here": "of the folder", "there": "of the store"}
    }
    assert craftsync("push", "--existing", "data", STORE).code == 0
    assert set(craftsync.files("store")) == {"both", "there"}
    assert craftsync.files("store")["both"] == "of the folder"


LIST = "\ufeff# comment\r\n; another\r\n\r\n  ./a.txt  \r\ndocs/\r\nb//c.txt\r\nmissing\r\nonly\r\n"


def test_a_list_names_files_and_folders_and_reports_what_is_not_there(
    craftsync: Craftsync,
) -> None:
    for path in ("a.txt", "docs/x", "docs/deep/y", "b/c.txt", "b/d.txt", "only/z", "docs.txt"):
        craftsync.write(f"data/{path}")
    craftsync.write("data/.craftsyncignore", "y\n")
    (craftsync.folder / "list").write_text(LIST, newline="")
    run = craftsync("push", "--json", "--files-from", "list", "data", STORE)
    assert run.code == 1
    assert set(craftsync.files("store")) == {"a.txt", "docs/x", "b/c.txt"}
    assert problems(run) == {
        "missing": "named in --files-from, but the folder holds no file there",
        "only": "named in --files-from, but it is a folder: only/ stands for all in it",
    }
    ignored = craftsync("push", "--json", "--files-from", "-", "data", STORE, stdin=b"docs/deep/y")
    assert "an ignore file" in problems(ignored)["docs/deep/y"]
    pulled = craftsync("pull", "--files-from", "-", "-0", "copy", STORE, stdin=b"docs/x\0./a.txt\0")
    assert (pulled.code, set(craftsync.files("copy"))) == (0, {"a.txt", "docs/x"})
    nothing = craftsync("push", "--files-from", "-", "data", STORE)
    assert (nothing.code, "nothing to do" in nothing.text or "left out" in nothing.text) == (
        0,
        True,
    )


def test_an_absolute_path_in_a_list_has_to_be_in_the_folder(craftsync: Craftsync) -> None:
    file = craftsync.write("data/a b")
    craftsync.write("elsewhere")
    inside = f"{file}\n".encode()
    assert craftsync("push", "--files-from", "-", "data", STORE, stdin=inside).code == 0
    assert set(craftsync.files("store")) == {"a b"}
    for line in (str(craftsync.folder / "elsewhere"), "../elsewhere", "x/../../y", ".", "a\0b"):
        run = craftsync("push", "--files-from", "-", "data", STORE, stdin=line.encode())
        assert (run.code, "standard input, line 1" in run.err) == (2, True), (line, run.err)
    run = craftsync("push", "--files-from", "-", "data", STORE, stdin=b"\xff\n")
    assert (run.code, "is not UTF-8" in run.err) == (2, True)
    assert craftsync("push", "--files-from", "nowhere", "data", STORE).code == 2
    assert craftsync("push", "--from0", "data", STORE).code == 2


def test_plan_and_check_see_only_what_takes_part(sized: Craftsync) -> None:
    sized.write("store/large", "another")
    sized.write("store/there", "only in the store")
    assert sized("plan", "--mode", "push", "--max-size", "2K", "-o", "p", "data", STORE).code == 0
    assert sized("apply", "p").code == 0
    assert set(sized.files("store")) == {"small", "middle", "large", "there"}
    run = sized("check", "-v", "--max-size", "2K", "data", STORE)
    assert (run.code, sorted(run.lines[:3])) == (1, ["- there", "= middle", "= small"])
    run = sized("check", "-v", "--files-from", "-", "data", STORE, stdin=b"small\nnone\n")
    assert (run.code, sorted(run.lines[:2])) == (1, ["! none", "= small"])
    assert run.err == (
        "problem: none: named in --files-from, but neither side holds a file there\n"
    )
    assert sized("check", "--existing", "data", STORE).code == 2
    stores = sized(
        "check",
        "--max-size",
        "2K",
        "--exclude",
        "there",
        "file://" + str(sized.folder / "data"),
        STORE,
    )
    assert stores.code == 0, stores.text


def test_migrate_copies_what_a_filter_lets_through(sized: Craftsync) -> None:
    sized.write("new/middle", "kept")
    run = sized("migrate", "--min-size", "5", "--ignore-existing", "./data", "./new")
    assert run.code == 0, run.err
    assert sized.files("new") == {"middle": "kept", "large": "x" * 3000}
    run = sized("migrate", "--json", "--files-from", "-", "./data", "./new", stdin=b"small\ngone\n")
    assert (run.code, set(problems(run))) == (1, {"gone"})
    assert "small" in sized.files("new")
    assert sized("migrate", "--files-from", "-", "./data", "./new", stdin=b"/small").code == 2


def test_python_takes_the_same_filters(
    craftsync: Craftsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in craftsync.environment.items():
        monkeypatch.setenv(name, value)
    small = craftsync.write("data/a", "1")
    craftsync.write("data/b", "12345")
    root, store = small.parent, craftsync.folder / "store"
    with (craftsync.folder / "list").open("w+") as listed:
        listed.write("a\nb\n")
        listed.seek(0)
        report = package.push(root, store, files_from=listed, max_size=3, existing=False)
    assert (report.uploaded, report.filtered) == (1, 1)
    with pytest.raises(UsageError, match="cannot be used with sync"):
        package.sync(root, store, max_size=5)
    with pytest.raises(ValueError, match="--max-age"):
        package.push(root, store, max_age="soon")


def test_age_of_an_object_follows_the_clock_of_its_store(craftsync: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.endpoint,
        }
        began, ahead = fake.clock(), [3650 * DAY]
        fake.clock = lambda: began + ahead[0] * 10**9
        bucket = fake.bucket("bucket")
        bucket._clock = fake.clock
        aged(craftsync.write("data/old"), 1000)
        assert craftsync("push", "data", "s3://bucket").code == 0
        ahead[0] += 10 * DAY
        aged(craftsync.write("data/new"), 1000)
        assert craftsync("push", "data", "s3://bucket").code == 0
        silent = craftsync("pull", "--max-age", "7d", "copy", "s3://bucket")
        assert "does not say what time it is" in silent.err
        date = formatdate(fake.clock() / 10**9, usegmt=True)
        fake.script = lambda _: (
            lambda answer: answer._replace(headers=(*answer.headers, ("Date", date)))
        )
        assert craftsync("pull", "--max-age", "7d", "copy", "s3://bucket").code == 0
    assert set(craftsync.files("copy")) == {"new"}


def test_a_short_list_of_files_lists_no_bucket(craftsync: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.endpoint,
        }
        for path in ("a", "b", "folder/c", "folder/d"):
            craftsync.write(f"data/{path}")
        assert craftsync("push", "data", "s3://bucket").code == 0
        craftsync.write("data/a", "changed")
        craftsync.write("data/b", "changed")
        fake.requests.clear()
        words = ("--json", "--files-from", "-", "data", "s3://bucket")
        run = craftsync("push", *words, stdin=b"a\nfolder\nnothing\n")
        assert (run.code, run.summary["uploaded"]) == (1, 1)
        assert set(problems(run)) == {"folder", "nothing"}
        assert "folder/ stands for all" in problems(run)["folder"]
        assert not [one for one in fake.requests if "list-type=2" in one.target]
        pulled = craftsync(
            "pull", "--files-from", "-", "copy", "s3://bucket", stdin=b"a\nfolder/c\n"
        )
        assert pulled.code == 0, pulled.err
    assert craftsync.files("copy") == {"a": "changed", "folder/c": "content"}


def test_a_filtered_run_leaves_an_unfinished_upload_to_be_resumed(craftsync: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.endpoint,
        }
        craftsync.write("data/large", "x" * (17 << 20))
        uploads = fake.bucket("bucket").uploads

        def begun() -> list[str]:
            return [one for one, upload in list(uploads.items()) if upload.key == "large"]

        process = craftsync.start("push", "--bwlimit", "4M", "data", "s3://bucket")
        until(lambda: any(uploads[one].parts for one in begun()), "the first part")
        process.kill()
        process.communicate()
        (upload,) = begun()
        craftsync.write("data/small")
        assert craftsync("push", "--max-size", "1K", "data", "s3://bucket").code == 0
        assert begun() == [upload]
        fake.requests.clear()
        assert craftsync("push", "data", "s3://bucket").code == 0
        assert any(f"uploadId={upload}" in request.target for request in fake.requests)
