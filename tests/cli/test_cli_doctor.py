"""`doctor`, as the installed program: what it finds, what it leaves behind, how it ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.cli import Craftsync, Run
from tests.support.fake_s3 import error
from tests.support.s3 import PERSONALITIES, fake_s3
from tests.support.s3.bucket import Stored
from tests.support.servers import S3Server, free_port
from tests.support.serving import serving

Findings = dict[str, dict[str, Any]]


def findings(run: Run) -> Findings:
    """Return the findings of a `--json` run by their names, each of which comes once."""
    lines = [line for line in run.json if line["type"] == "finding"]
    assert len({line["name"] for line in lines}) == len(lines)
    assert run.summary["command"] == "doctor"
    assert run.summary["exit_code"] == run.code
    assert run.err == ""
    return {line["name"]: line for line in lines}


def levels(found: Findings, level: str) -> list[str]:
    return [name for name, line in found.items() if line["level"] == level]


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def in_bucket(server: S3Server, bucket: str) -> set[str]:
    client = server.client()
    try:
        return {entry["Key"] for entry in client.list_objects(Bucket=bucket).get("Contents", ())}
    finally:
        client.close()


def aws(server: S3Server, **others: str) -> dict[str, str]:
    return server.variables | others


def test_without_a_store_machine_config_roots_and_environments_are_examined(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/sub/a")
    craftsync.write("archive/b")
    craftsync.config.write_text(
        "environments: {archive: {store: directory, path: archive}}\n"
        "folders: {datasets: {root: root, environment: archive}}\n"
    )
    run = craftsync("doctor", "--json")
    found = findings(run)
    assert run.code == 0
    for name in ("versions", "config", "state folder", "watches", "open files"):
        assert found[name]["level"] == "ok", found[name]
    assert "craftsync 0" in found["versions"]["detail"]
    assert found["config"]["detail"] == "1 environment, 1 folder"
    assert found["watches"]["detail"].endswith("contain 2")
    assert {"datasets: filesystem", "archive: writing", "archive: clock"} <= found.keys()
    assert levels(found, "error") == levels(found, "warning") == []


def test_doctor_prints_each_finding_with_its_remedy(
    craftsync: Craftsync,
) -> None:
    run = craftsync("doctor", "./missing")
    assert run.code == 3
    lines = run.lines
    (place,) = (number for number, line in enumerate(lines) if line.startswith("error"))
    assert lines[place].startswith("error    ./missing: reachable: ")
    assert lines[place + 1].startswith("         Check the path")
    assert ", 1 error; " in lines[-1]


def test_doctor_leaves_an_unused_store_unchanged(craftsync: Craftsync) -> None:
    craftsync.write("store/a")
    found = findings(craftsync("doctor", "./store", "--json"))
    assert found["./store: writing"]["level"] == "ok"
    assert tree(craftsync.folder / "store") == ["a"]
    assert not (craftsync.folder / "state").exists()


def files(folder: Path) -> list[str]:
    """Return all files but the lock of a directory store, which its first use makes."""
    return [
        name
        for name in tree(folder)
        if (folder / name).is_file() and not name.endswith("/commit-lock")
    ]


def test_doctor_changes_nothing_in_a_linked_folder(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    craftsync.config.write_text(
        "environments: {archive: {store: directory, path: archive}}\n"
        "folders: {datasets: {root: root, environment: archive}}\n"
    )
    assert craftsync("sync").code == 0
    before = files(craftsync.folder)
    found = findings(craftsync("doctor", "--json"))
    assert {"datasets: swapping", "archive: swapping"} <= found.keys()
    assert files(craftsync.folder) == before
    assert craftsync("sync", "--json").summary["unchanged"] == 1


def test_a_configuration_that_cannot_be_read_is_the_gravest_error(craftsync: Craftsync) -> None:
    craftsync.config.write_text("environmets: {}\n")
    run = craftsync("doctor", "./missing", "--json")
    found = findings(run)
    assert run.code == 78
    assert levels(found, "error") == ["config", "./missing: reachable"]
    assert "environments" in found["config"]["remedy"]
    assert run.summary["problems"] == 2


def test_every_store_of_the_config_is_examined_even_if_one_is_missing(
    craftsync: Craftsync,
) -> None:
    craftsync.write("there/a")
    craftsync.config.write_text(
        "environments:\n"
        "  gone: {store: directory, path: gone}\n"
        "  there: {store: directory, path: there}\n"
        "folders: {datasets: {root: no-root, environment: there}}\n"
    )
    run = craftsync("doctor", "--json")
    found = findings(run)
    assert run.code == 3
    assert found["gone: reachable"]["level"] == "error"
    assert found["datasets: folder"]["level"] == "error"
    assert found["there: writing"]["level"] == "ok"


def test_doctor_rejects_an_unknown_store_with_a_remedy(craftsync: Craftsync) -> None:
    run = craftsync("doctor", "nowhere", "--json")
    assert run.code == 2
    assert "./nowhere" in findings(run)["nowhere"]["remedy"]


def test_doctor_reports_an_unusable_state_folder(craftsync: Craftsync) -> None:
    craftsync.write("file")
    craftsync.write("store/a")
    run = craftsync("doctor", "./store", "--json", "--state-dir", "file/state")
    assert run.code == 7
    assert "--state-dir" in findings(run)["state folder"]["remedy"]


def test_a_token_others_can_read_is_a_warning(craftsync: Craftsync) -> None:
    craftsync.write("token", "secret").chmod(0o644)
    craftsync.config.write_text(
        "environments: {dev: {store: craft-ai, url: 'http://127.0.0.1:9', token_file: token}}\n"
    )
    found = findings(craftsync("doctor", ".", "--json"))
    assert found["token of dev"]["level"] == "warning"
    assert "chmod 600" in found["token of dev"]["remedy"]
    assert "secret" not in str(found)


def test_doctor_tests_the_guarantees_of_a_bucket_and_cleans_up(
    craftsync: Craftsync, moto: S3Server
) -> None:
    moto.make_bucket("examined")
    run = craftsync("doctor", "s3://examined/some/prefix", "--json", **aws(moto))
    found = findings(run)
    assert run.code == 0
    for fact in ("conditional create", "conditional replace", "md5 versions", "metadata"):
        assert found[f"s3://examined/some/prefix: {fact}"]["level"] == "ok"
    assert found["s3://examined/some/prefix: keeps versions"]["level"] == "note"
    assert in_bucket(moto, "examined") == set()


def test_doctor_detects_servers_that_ignore_conditions(
    craftsync: Craftsync,
) -> None:
    (craftsync.folder / "served").mkdir()
    with servers.rclone(craftsync.folder / "served") as server:
        server.make_bucket("bucket")
        run = craftsync("doctor", "s3://bucket", "--json", **aws(server))
    found = findings(run)
    assert run.code == 0
    create = found["s3://bucket: conditional create"]
    assert create["level"] == "warning"
    assert "If-None-Match" in create["remedy"]
    assert found["s3://bucket: folders"]["level"] == "note"


def test_missing_bucket_and_unreachable_server_exit_differently(
    craftsync: Craftsync, moto: S3Server
) -> None:
    missing = craftsync("doctor", "s3://never-made", "--json", **aws(moto))
    assert missing.code == 3
    assert levels(findings(missing), "error") == ["s3://never-made: reachable"]
    nobody = S3Server("nobody", f"http://127.0.0.1:{free_port()}")
    silent = craftsync("doctor", "s3://bucket", "--json", **aws(nobody))
    assert silent.code == 5
    assert levels(findings(silent), "error") == ["s3://bucket: reachable"]


def test_keys_no_folder_can_hold_are_a_warning(craftsync: Craftsync, moto: S3Server) -> None:
    moto.make_bucket("odd-keys")
    client = moto.client()
    client.put_object(Bucket="odd-keys", Key="a//b", Body=b"x")
    client.close()
    found = findings(craftsync("doctor", "s3://odd-keys", "--json", **aws(moto)))
    assert found["s3://odd-keys: keys"]["level"] == "warning"
    assert "a//b" in found["s3://odd-keys: keys"]["detail"]


def test_doctor_does_not_disturb_a_running_push(craftsync: Craftsync) -> None:
    for number in range(200):
        craftsync.write(f"root/{number}")
    craftsync.write("store/.keep")
    for _ in range(3):
        shutil.rmtree(craftsync.folder / "store" / ".craftsync", ignore_errors=True)
        shutil.rmtree(craftsync.folder / "state", ignore_errors=True)
        pushing = craftsync.start("push", "root", "./store")
        examined = craftsync("doctor", "./store", "--json")
        pushing.communicate(timeout=60)
        assert pushing.returncode == 0
        assert examined.code == 0
        assert (craftsync.folder / "store" / ".craftsync" / "store-id").exists()


def test_doctor_tests_the_platform_of_an_environment_and_cleans_up(
    craftsync: Craftsync,
) -> None:
    craftsync.write("served/datasets/a")
    with serving(craftsync.folder / "served") as server:
        run = craftsync("doctor", "craft-ai://datasets", "--json", **server.variables)
        wrong = {**server.variables, "CRAFT_AI_SDK_TOKEN": "another"}
        denied = craftsync("doctor", "craft-ai://", "--json", **wrong)
        silent = server.variables
    found = findings(run)
    assert run.code == 0
    for name in ("platform, token", "platform, listing", "reachable", "writing"):
        assert found[f"craft-ai://datasets: {name}"]["level"] == "ok", found
    assert found["craft-ai://datasets: conditional replace"]["level"] == "warning"
    assert found["craft-ai://datasets: metadata"]["level"] == "note"
    assert craftsync("ls", "-R", "./served").text.endswith("datasets/a\n")
    assert len(craftsync("ls", "-R", "./served").lines) == 1
    assert denied.code == 3
    assert levels(findings(denied), "error") == ["craft-ai://: reachable"]
    gone = craftsync("doctor", "craft-ai://", "--json", **silent)
    assert gone.code == 5
    assert "another" not in denied.text and server.token not in run.text


def test_missing_token_remedy_lists_where_it_is_read_from(craftsync: Craftsync) -> None:
    run = craftsync(
        "doctor", "craft-ai://", "--json", CRAFT_AI_ENVIRONMENT_URL="http://127.0.0.1:9"
    )
    assert run.code == 2
    (name,) = levels(findings(run), "error")
    assert "CRAFT_AI_SDK_TOKEN" in findings(run)[name]["remedy"]


@pytest.mark.parametrize("most", [1000, 1], ids=["one page", "many pages"])
def test_doctor_lists_unfinished_uploads_with_a_lifecycle_rule(
    craftsync: Craftsync, most: int
) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        bucket = fake.bucket("bucket")
        for key, hours in (("p/b c&d", 1), ("p/.craftsync/probe/x/in-parts", 2), ("q", 3)):
            upload = bucket.upload(key, bucket.begin(key, Stored(b"", "", 0, "")))
            upload.initiated_ns = 1_700_000_000 * 10**9 - hours * 3600 * 10**9
            bucket.part(PERSONALITIES["plain"], upload, 1, bytes(1000))
        fake.most_listed = most
        run = craftsync("doctor", "s3://bucket/p", "--json", **aws(server))
        found = findings(run)["s3://bucket/p: unfinished uploads"]
        assert found["level"] == "note" and run.code == 0
        assert found["detail"] == (
            "2, 2.0 KiB, the oldest '.craftsync/probe/x/in-parts', begun 2023-11-14T20:13:20Z"
        )
        assert "AbortIncompleteMultipartUpload" in found["remedy"]
        craftsync.write("root/b c&d")
        assert craftsync("sync", "root", "s3://bucket/p", **aws(server)).code == 0
        assert len(bucket.uploads) == 3


def test_doctor_reports_no_unfinished_uploads(craftsync: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, _):
        found = findings(craftsync("doctor", "s3://bucket", "--json", **aws(server)))
    assert found["s3://bucket: unfinished uploads"]["detail"] == "none"


@pytest.mark.parametrize("status", [403, 501])
def test_doctor_notes_a_server_that_cannot_list_uploads(craftsync: Craftsync, status: int) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        code = "AccessDenied" if status == 403 else "NotImplemented"
        refused = error(status, code)
        fake.script = lambda request: (
            refused if "uploads=&" in f"{request.target}&" and request.method == "GET" else None
        )
        run = craftsync("doctor", "s3://bucket", "--json", **aws(server))
    found = findings(run)["s3://bucket: unfinished uploads"]
    assert (run.code, found["level"]) == (0, "note")
    assert code in found["detail"]


def test_doctor_prints_a_warning_of_several_stores_once(craftsync: Craftsync) -> None:
    craftsync.write("served/a")
    with serving(craftsync.folder / "served") as server:
        url = server.variables["CRAFT_AI_ENVIRONMENT_URL"]
        control = server.variables["CRAFT_AI_CONTROL_URL"]
        place = f"{{store: craft-ai, url: '{url}', control_url: '{control}'}}"
        craftsync.config.write_text(f"environments:\n  one: {place}\n  two: {place}\n")
        text = craftsync("doctor", **server.variables).text
    assert text.count("just before an object is replaced is overwritten") == 1
    assert "The warnings above also apply to: two (" in text
