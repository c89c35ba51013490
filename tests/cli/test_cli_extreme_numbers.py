"""Times, sizes and inode numbers that 64 bits with a sign cannot hold: trouble of one path at most."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.cli import Craftsync, Run, until
from tests.support.fake_s3 import Answer, Request, proxied
from tests.support.servers import S3Server
from tests.support.serving import serving

YEAR_2300 = 10_413_792_000
LAST_SECOND = (2**63 - 1) // 10**9
"""2262-04-11, the last second whose nanoseconds fit."""


@pytest.fixture
def access(moto: S3Server, craftsync: Craftsync) -> S3Server:
    craftsync.environment |= {
        "AWS_ACCESS_KEY_ID": moto.access_key,
        "AWS_SECRET_ACCESS_KEY": moto.secret_key,
        "AWS_REGION": "us-east-1",
    }
    return moto


def dated(craftsync: Craftsync, path: str, seconds: int) -> None:
    os.utime(craftsync.write(path), (seconds, seconds))


@pytest.mark.parametrize("seconds", [YEAR_2300, 2**33, -1, 0, LAST_SECOND + 1])
def test_a_file_with_an_extreme_time_is_synced_and_then_unchanged(
    craftsync: Craftsync, seconds: int
) -> None:
    dated(craftsync, "root/camera.jpg", seconds)
    craftsync.write("root/good")
    first = craftsync("sync", "--json", "root", "./store")
    assert (first.code, first.summary["uploaded"]) == (0, 2)
    again = craftsync("sync", "--json", "root", "./store")
    assert (again.code, again.summary["uploaded"], again.summary["unchanged"]) == (0, 0, 2)
    dated(craftsync, "root/camera.jpg", seconds)
    (craftsync.folder / "root/camera.jpg").write_text("edited")
    os.utime(craftsync.folder / "root/camera.jpg", (seconds, seconds))
    assert craftsync("sync", "root", "./store").code == 0
    assert craftsync.files("store")["camera.jpg"] == "edited"
    (craftsync.folder / "store/camera.jpg").write_text("edited in the store")
    assert craftsync("sync", "root", "./store").code == 0
    assert craftsync.files("root")["camera.jpg"] == "edited in the store"
    (craftsync.folder / "root/camera.jpg").unlink()
    assert craftsync("sync", "root", "./store").code == 0
    assert set(craftsync.files("store")) == {"good"}


def test_a_file_after_2262_is_migrated(craftsync: Craftsync) -> None:
    dated(craftsync, "one/camera.jpg", YEAR_2300)
    assert craftsync("migrate", "./one", "./two").code == 0
    assert set(craftsync.files("two")) == {"camera.jpg"}
    assert craftsync("check", "./one", "./two").code == 0


def test_watch_survives_a_file_after_2262(craftsync: Craftsync) -> None:
    craftsync.write("root/first")
    running = craftsync.start("watch", "root", "./store")
    try:
        until(lambda: "first" in craftsync.files("store"), "the first file in the store")
        dated(craftsync, "later", YEAR_2300)
        (craftsync.folder / "later").rename(craftsync.folder / "root/later")
        until(lambda: "later" in craftsync.files("store"), "the file dated 2300 in the store")
        craftsync.write("root/second")
        until(lambda: "second" in craftsync.files("store"), "the next file in the store")
    finally:
        running.terminate()
        running.communicate()


@pytest.mark.parametrize("mtime", ["10413792000.0", "-99999999999999.5", "9" * 40])
def test_an_object_with_an_extreme_mtime_is_downloaded(
    craftsync: Craftsync, access: S3Server, mtime: str
) -> None:
    access.make_bucket("mtimes")
    client = access.client()
    client.put_object(Bucket="mtimes", Key="far", Body=b"far", Metadata={"mtime": mtime})
    client.put_object(Bucket="mtimes", Key="good", Body=b"good")
    client.close()
    words = ("pull", "--json", "--endpoint-url", access.endpoint, "root", "s3://mtimes")
    run = craftsync(*words)
    assert (run.code, run.summary["downloaded"]) == (0, 2)
    assert craftsync.files("root") == {"far": "far", "good": "good"}
    assert craftsync(*words).summary["downloaded"] == 0


def relisted(old: bytes, new: bytes) -> Callable[[Request], Callable[[Answer], Answer] | None]:
    """Return a script that words each listing a little differently."""

    def script(request: Request) -> Callable[[Answer], Answer] | None:
        if "list-type" not in request.query:
            return None
        return lambda answer: answer._replace(body=answer.body.replace(old, new))

    return script


@pytest.mark.parametrize("size", [2**63, 2**80])
def test_listed_size_beyond_63_bits_is_a_problem_of_its_path(
    craftsync: Craftsync, access: S3Server, size: int
) -> None:
    access.make_bucket("sizes")
    craftsync.write("root/huge", "seven77")
    craftsync.write("root/other", "others")
    words = ("--endpoint-url", access.endpoint)
    assert craftsync("push", *words, "root", f"s3://sizes/{size}").code == 0
    with proxied(access, relisted(b"<Size>7</Size>", b"<Size>%d</Size>" % size)) as (server, _):
        words = ("sync", "--json", "--endpoint-url", server.endpoint)
        run = craftsync(*words, "root", f"s3://sizes/{size}")
    assert run.code == 1
    (problem,) = (line for line in run.json if line["type"] == "problem")
    assert problem["path"] == "huge"
    assert str(size) in problem["reason"]
    assert craftsync.files("root") == {"huge": "seven77", "other": "others"}


@pytest.mark.parametrize("year", [b"0001", b"1969", b"9999"])
def test_an_object_time_long_ago_or_far_ahead_is_only_a_time(
    craftsync: Craftsync, access: S3Server, year: bytes
) -> None:
    access.make_bucket("times")
    craftsync.write("root/a")
    where = f"s3://times/{year.decode()}"
    assert craftsync("push", "--endpoint-url", access.endpoint, "root", where).code == 0
    with proxied(access, relisted(b"<LastModified>20", b"<LastModified>")) as (server, proxy):
        proxy.script = relisted(b"<LastModified>2026", b"<LastModified>" + year)
        words = ("--endpoint-url", server.endpoint)
        assert craftsync("ls", *words, where).code == 0
        run = craftsync("pull", "--json", *words, "new", where)
    assert (run.code, run.summary["downloaded"]) == (0, 1)
    assert craftsync.files("new") == {"a": "content"}


TIMES = {"epoch": 0, "before": -1, "1901": -(2**31), "last": LAST_SECOND, "beyond": YEAR_2300}


def seconds(craftsync: Craftsync, folder: str) -> dict[str, int]:
    """Return the whole seconds of the time each file has."""
    return {
        file.name: file.stat().st_mtime_ns // 10**9
        for file in (craftsync.folder / folder).iterdir()
        if file.is_file()
    }


def extremes(craftsync: Craftsync, folder: str) -> dict[str, int]:
    """Put a file of each extreme time into a folder; return the times that arrive, as far as 64 bits hold them."""
    for name, moment in TIMES.items():
        dated(craftsync, f"{folder}/{name}", moment)
    found = seconds(craftsync, folder)
    assert found == TIMES, "this filesystem holds other times"
    return {name: min(moment, LAST_SECOND) for name, moment in found.items()}


def settled(run: Run, count: int, **changes: int) -> None:
    """Check that a run ended well and did only this."""
    assert run.code == 0, run.err
    names = ("uploaded", "downloaded", "copied", "adopted", "conflicts", "problems")
    assert {name: run.summary[name] for name in names} == dict.fromkeys(names, 0) | changes
    if not changes:
        assert run.summary["unchanged"] == count


def test_extreme_times_travel_through_a_bucket(craftsync: Craftsync, access: S3Server) -> None:
    access.make_bucket("extremes")
    expected, count = extremes(craftsync, "root"), len(TIMES)
    words, bucket = ("--json", "--endpoint-url", access.endpoint), "s3://extremes/synced"
    settled(craftsync("sync", *words, "root", bucket), count, uploaded=count)
    settled(craftsync("sync", *words, "root", bucket), count)
    settled(craftsync("pull", *words, "copy", bucket), count, downloaded=count)
    settled(craftsync("sync", *words, "copy", bucket), count)
    assert seconds(craftsync, "copy") == expected
    for name in TIMES:
        dated(craftsync, f"copy/{name}", TIMES[name])
        (craftsync.folder / "copy" / name).write_text("edited")
        os.utime(craftsync.folder / "copy" / name, (TIMES[name], TIMES[name]))
    settled(craftsync("sync", *words, "copy", bucket), count, uploaded=count)
    settled(craftsync("sync", *words, "root", bucket), count, downloaded=count)
    assert set(craftsync.files("root").values()) == {"edited"}


@pytest.mark.parametrize("way", [(), ("--stream",)], ids=["by the server", "through memory"])
def test_extreme_times_are_kept_by_a_migration(
    craftsync: Craftsync, access: S3Server, way: tuple[str, ...]
) -> None:
    access.make_bucket("moved")
    expected, count = extremes(craftsync, "root"), len(TIMES)
    words, top = ("--json", "--endpoint-url", access.endpoint, *way), f"s3://moved/{len(way)}"
    for source, target in (("./root", f"{top}/a"), (f"{top}/a", f"{top}/b"), (f"{top}/b", "./end")):
        settled(craftsync("migrate", *words, source, target), count, copied=count)
        settled(craftsync("migrate", *words, source, target), count)
    assert seconds(craftsync, "end") == expected


def test_extreme_times_of_an_environment_are_only_times(craftsync: Craftsync) -> None:
    expected, count = extremes(craftsync, "served"), len(TIMES)
    with serving(craftsync.folder / "served") as server:
        craftsync.environment |= server.variables
        listed = {row["path"]: row for row in craftsync("ls", "--json", "craft-ai://").json}
        assert listed["epoch"]["last_modified"] == "1970-01-01T00:00:00Z"
        assert listed["before"]["last_modified"] == "1969-12-31T23:59:59Z"
        settled(craftsync("pull", "--json", "root", "craft-ai://"), count, downloaded=count)
        settled(craftsync("sync", "--json", "root", "craft-ai://"), count)
        settled(craftsync("push", "--json", "root", "craft-ai://again"), count, uploaded=count)
        settled(craftsync("push", "--json", "root", "craft-ai://again"), count)
        for source, target in (("craft-ai://again", "./end"), ("./root", "craft-ai://more")):
            settled(craftsync("migrate", "--json", source, target), count, copied=count)
            settled(craftsync("migrate", "--json", source, target), count)
    assert seconds(craftsync, "root") == expected


@pytest.mark.parametrize(
    "words",
    [
        ("trash", "purge", "--yes", "--older-than", "nan"),
        ("trash", "purge", "--yes", "--older-than", "1e400"),
        ("trash", "purge", "--yes", "--older-than", "800000"),
        ("trash", "restore", "--run", "9" * 20),
        ("history", "--limit", "9" * 20),
    ],
)
def test_an_extreme_number_of_the_trash_or_history_exits_2(
    craftsync: Craftsync, words: tuple[str, ...]
) -> None:
    craftsync.write("root/a")
    assert craftsync("sync", "root", "./store").code == 0
    refused(craftsync(*words, "--root", "root", "--store", "./store"), words[-2])


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("--stats", "99999999999999999999d"),
        ("--stats", "1e308w"),
        ("--min-size", "9" * 400),
        ("--max-age", "999999999w"),
        ("--max-delete", "9" * 5000),
        ("--transfers", "9" * 5000),
        ("--bwlimit", "9" * 400),
    ],
)
def test_an_extreme_number_of_a_run_exits_2(craftsync: Craftsync, option: str, number: str) -> None:
    craftsync.write("root/a")
    refused(craftsync("push", option, number, "root", "./store"), option)


def test_an_extreme_time_to_keep_the_trash_exits_78(craftsync: Craftsync) -> None:
    craftsync.config.write_text("trash: {keep: 999999w}")
    craftsync.write("root/a")
    run = craftsync("sync", "root", "./store")
    assert (run.code, "Traceback" in run.err) == (78, False)
    assert "keep" in run.err and "100 years" in run.err


def refused(run: Run, option: str) -> None:
    assert (run.code, "Traceback" in run.err) == (2, False), run.err
    assert option in run.err
