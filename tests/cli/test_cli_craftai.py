"""Craft AI environments on the command line, against `craftsync serve`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Craftsync
from tests.support.serving import Serving, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("served"), token="a-secret-token") as server:
        yield server


@pytest.fixture
def store(craftsync: Craftsync, server: Serving, request: pytest.FixtureRequest) -> str:
    """The word for a folder of the environment that is this test's own."""
    lines = [
        f"export {name}='{value}'  # as in a project" for name, value in server.variables.items()
    ]
    craftsync.write(".env", "\n".join(lines))
    return f"craft-ai://{request.node.name}"


def test_a_folder_is_pushed_changed_and_pulled(craftsync: Craftsync, store: str) -> None:
    for number in range(30):
        craftsync.write(f"root/données/{number}.csv", f"été {number}")
    assert craftsync("push", "root", store).code == 0
    again = craftsync("sync", "root", store, "--json")
    assert again.summary["unchanged"] == 30
    assert len(again.json) == 1
    craftsync.write("root/données/1.csv", "changed")
    (craftsync.folder / "root/données/2.csv").unlink()
    assert craftsync("sync", "root", store).code == 0
    assert craftsync("pull", "copy", store).code == 0
    assert craftsync.files("copy") == craftsync.files("root")


def test_replaced_object_can_be_restored(craftsync: Craftsync, store: str) -> None:
    craftsync.config.write_text("trash: {store: all}\n")
    craftsync.write("root/a", "first")
    craftsync("push", "root", store)
    craftsync.write("root/a", "second")
    craftsync("push", "root", store)
    words = ("trash", "restore", "--overwrite", "a", "--root", "root", "--store", store)
    assert craftsync(*words).code == 0
    assert craftsync.files("root") == {"a": "first"}


def kept(craftsync: Craftsync, store: str) -> list[tuple[str, int]]:
    """Return path and size of what the store's trash holds, in order of path."""
    rows = craftsync("trash", "list", "--json", "--root", "root", "--store", store).json
    return sorted((row["path"], row["size"]) for row in rows if row["side"] == "store")


@pytest.mark.parametrize("size", [5, 9 * 1024 * 1024], ids=["small", "in parts"])
def test_a_replaced_upload_of_this_client_is_not_kept(
    craftsync: Craftsync, store: str, size: int
) -> None:
    for letter in "ab":
        craftsync.write("root/own", letter * size)
        assert craftsync("sync", "root", store).code == 0
    assert kept(craftsync, store) == []


def test_a_deleted_upload_of_this_client_is_kept(craftsync: Craftsync, store: str) -> None:
    craftsync.write("root/stays")
    craftsync.write("root/own", "12345")
    assert craftsync("sync", "root", store).code == 0
    (craftsync.folder / "root/own").unlink()
    assert craftsync("sync", "root", store).code == 0
    assert kept(craftsync, store) == [("own", 5)]
    assert craftsync("trash", "restore", "own", "--root", "root", "--store", store).code == 0
    assert craftsync.files("root")["own"] == "12345"


def test_a_version_of_others_is_kept_however_it_is_replaced(
    craftsync: Craftsync, store: str
) -> None:
    for path in ("pulled", "pushed", "put"):
        craftsync.write(f"root/{path}", "mine")
        craftsync.write(f"theirs/{path}", "of another client")
    assert craftsync("sync", "root", store).code == 0
    for path in ("pulled", "pushed", "put"):
        assert craftsync("put", f"theirs/{path}", store, path).code == 0
    # One was downloaded before it is replaced, one is replaced unseen, one by a single put.
    assert craftsync("put", "theirs/put", store, "put").code == 0
    assert craftsync("pull", "root", store, "--include", "pulled").code == 0
    craftsync.write("root/pulled", "mine again")
    craftsync.write("root/pushed", "mine again")
    assert craftsync("push", "root", store).code == 0
    found = kept(craftsync, store)
    assert ("pulled", 17) in found
    assert ("pushed", 17) in found
    assert ("put", 17) in found


def test_a_large_file_goes_up_and_down_in_parts(craftsync: Craftsync, store: str) -> None:
    content = random.Random(1).randbytes(40 * 1024 * 1024 + 1)
    craftsync.write("root/small")
    (craftsync.folder / "root" / "large.bin").write_bytes(content)
    assert craftsync("push", "root", store).code == 0
    assert craftsync("pull", "copy", store).code == 0
    assert (craftsync.folder / "copy" / "large.bin").read_bytes() == content


def test_both_versions_of_a_conflict_are_kept(craftsync: Craftsync, store: str) -> None:
    for root in ("root", "other"):
        craftsync.write(f"{root}/shared", "old")
        craftsync("sync", root, store)
    craftsync.write("other/shared", "theirs")
    assert craftsync("sync", "other", store).code == 0
    craftsync.write("root/shared", "mine is longer")
    assert craftsync("sync", "root", store).code == 4
    assert sorted(craftsync.files("root").values()) == ["mine is longer", "theirs"]


def test_the_five_functions_work_on_an_environment(craftsync: Craftsync, store: str) -> None:
    craftsync.write("iris.csv", "1,2,3")
    assert craftsync("put", "iris.csv", store, "data/iris.csv").code == 0
    (listed,) = craftsync("ls", "-R", store, "--json").json
    (found,) = craftsync("stat", store, "data/iris.csv", "--json").json
    assert listed == found
    assert (found["path"], found["size"]) == ("data/iris.csv", 5)
    assert craftsync("get", store, "data/iris.csv", "-").out == b"1,2,3"
    assert craftsync("rm", store, "data/iris.csv").code == 0
    assert craftsync("ls", store).out == b""


@pytest.mark.parametrize("kept", ["token_env: LAB_TOKEN", "token_file: token"])
def test_an_environment_of_the_configuration_needs_no_variables(
    craftsync: Craftsync, server: Serving, kept: str
) -> None:
    craftsync.write("token", f"{server.token}\n")
    craftsync.config.write_text(
        f"environments: {{lab: {{store: craft-ai, url: '{server.url}',"
        f" control_url: '{server.url}', {kept}}}}}"
    )
    craftsync.write("root/a", "content")
    folder = f"lab:{kept.partition(':')[0]}"
    assert craftsync("push", "root", folder, LAB_TOKEN=server.token).code == 0
    (listed,) = craftsync("ls", folder, "--json", LAB_TOKEN=server.token).json
    assert listed["path"] == "a"


def test_transport_sdk_syncs_as_the_api_does(craftsync: Craftsync, server: Serving) -> None:
    craftsync.config.write_text(
        "environments:\n"
        f"  api: {{store: craft-ai, url: '{server.url}', control_url: '{server.url}'}}\n"
        f"  sdk: {{store: craft-ai, url: '{server.url}', control_url: '{server.url}', transport: sdk}}\n"
    )
    caught = {"CRAFT_AI_SDK_TOKEN": server.token}
    for number in range(20):
        craftsync.write(f"root/données/{number}.csv", "x" * 400 * number)
    pushed = craftsync("push", "root", "sdk:through", **caught)
    assert pushed.code == 0
    for limit in ("transport: sdk", "rounded", "2 transfers at once"):
        assert limit in " ".join(pushed.err.split())
    again = craftsync("sync", "--json", "root", "sdk:through", **caught)
    assert (again.code, again.summary["unchanged"]) == (0, 20)
    craftsync.write("root/données/1.csv", "changed")
    (craftsync.folder / "root/données/2.csv").unlink()
    assert craftsync("sync", "root", "sdk:through", **caught).code == 0
    for environment in ("api", "sdk"):
        assert craftsync("pull", environment, f"{environment}:through", **caught).code == 0
        assert craftsync.files(environment) == craftsync.files("root")
    rows = craftsync("doctor", "sdk:through", "--json", **caught).json
    examined = {row["name"]: row for row in rows if row["type"] == "finding"}
    assert examined["craft-ai-sdk"]["level"] == "ok"
    assert examined["sdk:through: platform, upload"]["level"] == "ok"


def test_rejected_token_exits_3_and_is_never_printed(craftsync: Craftsync, store: str) -> None:
    craftsync.write("root/a")
    kept = (craftsync.folder / ".env").read_text()
    craftsync.write(".env", kept.replace("a-secret-token", "an-old-secret"))
    run = craftsync("push", "root", store)
    assert run.code == 3
    assert "does not accept the SDK token" in run.err
    assert "Copy the SDK token" in run.err
    assert "an-old-secret" not in run.err + run.text
    assert "Traceback" not in run.err


def test_the_token_is_written_nowhere(craftsync: Craftsync, server: Serving, store: str) -> None:
    craftsync.write("root/a")
    run = craftsync("push", "root", store, "-v")
    assert run.code == 0
    written = [
        path for path in craftsync.folder.rglob("*") if path.is_file() and path.name != ".env"
    ]
    assert any(Path("state") in path.relative_to(craftsync.folder).parents for path in written)
    assert not [path for path in written if server.token.encode() in path.read_bytes()]
    assert server.token not in run.err + run.text


def test_missing_environment_exits_5(craftsync: Craftsync, store: str) -> None:
    away = "http://127.0.0.1:9"
    run = craftsync("ls", store, CRAFT_AI_ENVIRONMENT_URL=away, CRAFT_AI_CONTROL_URL=away)
    assert run.code == 5
    assert "the connection was refused" in run.err


def test_missing_token_exits_2_and_names_its_variable(craftsync: Craftsync) -> None:
    run = craftsync("ls", "craft-ai://", CRAFT_AI_ENVIRONMENT_URL="http://127.0.0.1:9")
    assert run.code == 2
    assert "CRAFT_AI_SDK_TOKEN is not set" in run.err
    assert ".env file in this folder" in run.err


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server whose log shows whether anybody has asked it for anything."""
    with serving(tmp_path_factory.mktemp("hostile"), "-v", token="another") as server:
        yield server


@pytest.mark.parametrize("words", [["ls"], ["doctor"], ["push", "root"], ["migrate", "./other"]])
def test_a_control_url_from_a_dotenv_file_never_gets_another_token(
    craftsync: Craftsync, server: Serving, hostile: Serving, words: list[str]
) -> None:
    craftsync.write("token", server.token).chmod(0o600)
    craftsync.config.write_text(
        f"environments: {{prod: {{store: craft-ai, url: '{server.url}', token_file: token}}}}"
    )
    craftsync.write("root/a")
    craftsync.write("other/a")
    craftsync.write(".env", f"CRAFT_AI_CONTROL_URL={hostile.url}\n")
    # Where the token goes instead is the platform itself, which nothing here can reach.
    run = craftsync(*words, "prod", HTTPS_PROXY="http://127.0.0.1:9")
    assert "CRAFT_AI_CONTROL_URL in .env is ignored" in run.err
    assert hostile.log() == ""


def test_an_environment_url_from_a_dotenv_file_never_gets_another_token(
    craftsync: Craftsync, hostile: Serving
) -> None:
    craftsync.write(
        ".env",
        f"CRAFT_AI_ENVIRONMENT_URL={hostile.url}\nCRAFT_AI_CONTROL_URL={hostile.url}\n",
    )
    run = craftsync("ls", "craft-ai://", CRAFT_AI_SDK_TOKEN=hostile.token)
    assert run.code == 2
    assert "An address in .env is used only with a token in that file" in run.err
    assert hostile.log() == ""


def test_the_token_of_the_dotenv_file_goes_with_its_address(
    craftsync: Craftsync, store: str
) -> None:
    craftsync.write("root/a")
    other = {"CRAFT_AI_SDK_TOKEN": "that-of-another-environment"}
    assert craftsync("push", "root", store, **other).code == 0
    run = craftsync("ls", store, **other)
    assert (run.code, run.err) == (0, "")


def test_a_token_file_that_everybody_can_read_is_named(
    craftsync: Craftsync, server: Serving
) -> None:
    craftsync.write("token", server.token).chmod(0o644)
    craftsync.config.write_text(
        f"environments: {{lab: {{store: craft-ai, url: '{server.url}',"
        f" control_url: '{server.url}', token_file: token}}}}"
    )
    run = craftsync("ls", "lab")
    assert run.err.count("token: chmod 600") == 1
    assert server.token not in run.err


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "https://my env.x",
        "http://127.0.0.1:abc",
        "http://127.0.0.1:99999",
        "ftp://x",
        "https://a\tb",
    ],
)
@pytest.mark.parametrize("name", ["CRAFT_AI_ENVIRONMENT_URL", "CRAFT_AI_CONTROL_URL"])
def test_an_invalid_address_is_named(
    craftsync: Craftsync, server: Serving, name: str, address: str
) -> None:
    run = craftsync("ls", "craft-ai://", **(server.variables | {name: address}))
    assert run.code == 2
    assert run.err.startswith(f"craftsync: {name}: ")
    assert "is not the address of an environment" in run.err
    if name == "CRAFT_AI_ENVIRONMENT_URL":
        craftsync.config.write_text(
            f"environments: {{lab: {{store: craft-ai, url: {json.dumps(address)}}}}}"
        )
        run = craftsync("ls", "lab")
        assert run.code == 78
        assert "is not" in run.err


def test_spaces_around_an_address_are_ignored(craftsync: Craftsync, server: Serving) -> None:
    padded = {name: f" {value} " for name, value in server.variables.items()}
    assert craftsync("put", "-", "craft-ai://", "blanks/a", **padded).code == 0
