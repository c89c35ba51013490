"""`craftsync init`: a pair is added to the configuration, and nothing that is there is changed."""

from __future__ import annotations

import os
import pty
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from craftsync.config import file as config
from craftsync.config.file import CraftAiEnvironment, DirectoryEnvironment, S3Environment
from craftsync.state.history import anything_noted
from craftsync.stores.craftai import CONTROL_URL
from tests.support.cli import Craftsync, Process
from tests.support.servers import S3Server
from tests.support.serving import Serving, serving

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture
def fresh(craftsync: Craftsync) -> Craftsync:
    """Give a user who has no configuration yet."""
    craftsync.config.unlink()
    return craftsync


def loaded(craftsync: Craftsync) -> config.Config:
    return config.load(craftsync.config)


def test_a_first_call_makes_a_configuration_that_works(fresh: Craftsync) -> None:
    fresh.write("data/a")
    run = fresh("init", "data", "./store")
    assert run.code == 0, run.err
    assert "craftsync service install" in run.text
    assert stat.S_IMODE(fresh.config.stat().st_mode) == 0o600
    assert fresh.config.read_text().startswith("# The configuration of craftsync")
    assert fresh("sync", "data").code == 0
    assert fresh.files("store") == {"a": "content"}


def test_init_creates_missing_folders(
    fresh: Craftsync,
) -> None:
    assert fresh("init", "~/new/data", "./store").code == 0
    assert (fresh.folder / "new/data").is_dir()
    assert (fresh.folder / "store").is_dir()
    assert fresh("doctor").code == 0
    assert loaded(fresh).folders["data"].root == fresh.folder / "new/data"


KEPT = (
    "Replaced and deleted versions, and the history, are kept for 30 days;"
    " to keep them longer, change trash:"
)


def assert_limited(craftsync: Craftsync, text: str, *, limited: bool = True) -> None:
    """Check that the folder `data` keeps versions for 30 days, and that this is printed; or neither."""
    own = config.read_yaml(craftsync.config.read_text())["folders"]["data"].get("trash")
    line = f"{KEPT} {{keep: 30d}} in {craftsync.config}."
    assert (own, line in text.splitlines(), KEPT in text) == (
        ({"keep": "30d"}, True, True) if limited else (None, False, False)
    )


def test_a_new_folder_keeps_versions_for_30_days_and_init_prints_it(fresh: Craftsync) -> None:
    run = fresh("init", "data", "./store")
    assert ", trash: {keep: 30d}}" in fresh.config.read_text()
    assert_limited(fresh, run.text)
    assert loaded(fresh).folders["data"].retention.words == "30d"
    assert fresh("sync", "data").code == 0
    (status,) = fresh("status", "--json", "data").json
    assert status["trash"]["keep"] == "30d"
    (status,) = fresh("status", "--json", "data", "./store").json
    assert status["trash"]["keep"] == "30d"


@pytest.mark.parametrize("state", ["whole", "damaged", "under a link"])
def test_init_sets_no_limit_for_a_synced_folder(craftsync: Craftsync, state: str) -> None:
    craftsync.write("data/a")
    assert craftsync("sync", "data", "./store").code == 0
    (database,) = (craftsync.folder / "state/pairs").glob("*/state.db")
    root, store = "data", "./store"
    if state == "damaged":
        database.write_bytes(b"damaged" * 1000)
    if state == "under a link":
        root, store = "linked", "./linked-store"
        (craftsync.folder / "linked").symlink_to("data")
        (craftsync.folder / "linked-store").symlink_to("store")
    run = craftsync("init", "data", root, store)
    assert run.code == 0, run.err
    assert_limited(craftsync, run.text, limited=False)


def test_a_folder_synced_with_another_store_is_new_with_this_one(craftsync: Craftsync) -> None:
    craftsync.write("data/a")
    assert craftsync("sync", "data", "./other").code == 0
    assert_limited(craftsync, craftsync("init", "data", "./store").text)


@pytest.mark.parametrize(
    ("trash", "limited"),
    [("{keep: 90d}", False), ("{keep: forever}", False), ("{max_size: 1G}", True)],
)
def test_init_leaves_a_configured_keep_alone(
    craftsync: Craftsync, trash: str, limited: bool
) -> None:
    craftsync.config.write_text(f"trash: {trash}\n")
    run = craftsync("init", "data", "./store")
    assert_limited(craftsync, run.text, limited=limited)


@pytest.mark.parametrize("noted", ["in this store", "in another"])
def test_init_sets_no_limit_if_a_command_kept_versions_in_the_store(
    craftsync: Craftsync, noted: str
) -> None:
    store = "store" if noted == "in this store" else "other"
    craftsync.write(f"{store}/a")
    assert craftsync("rm", f"./{store}/a", "--store", f"./{store}").code == 0
    run = craftsync("init", "data", "./store")
    assert run.code == 0, run.err
    assert_limited(craftsync, run.text, limited=noted == "in another")


@pytest.mark.parametrize("known", ["by its state", "by the configuration"])
def test_init_sets_no_limit_if_another_folder_is_linked_to_the_store(
    craftsync: Craftsync, known: str
) -> None:
    craftsync.write("first/a")
    pair = ("first", "./store")
    if known == "by the configuration":
        craftsync.config.write_text(
            "environments:\n  shared: {store: directory, path: store}\n"
            "folders:\n  first: {root: first, environment: shared}\n"
        )
    else:
        assert craftsync("sync", *pair).code == 0
        assert craftsync("rm", "./store/a", "--store", "./store").code == 0
        assert craftsync("sync", *pair).code == 0
        assert not anything_noted(craftsync.folder / "state")
    run = craftsync("init", "data", "./store")
    assert run.code == 0, run.err
    assert_limited(craftsync, run.text, limited=False)


def test_init_sets_no_limit_if_the_store_of_another_folder_is_unknown(
    craftsync: Craftsync,
) -> None:
    craftsync.config.write_text(
        "environments:\n  shared: {store: directory, path: shared}\n"
        "folders:\n  first: {root: first, environment: 'shared:../store'}\n"
    )
    run = craftsync("init", "data", "./store")
    assert run.code == 0, run.err
    assert_limited(craftsync, run.text, limited=False)


def test_each_kind_of_store_becomes_an_environment(fresh: Craftsync) -> None:
    calls = {
        "plain": ("plain", "./a folder"),
        "bucket": ("bucket", "s3://my-bucket/some/prefix", "--profile", "prod"),
        "ai": ("ai", "craft-ai://models"),
        "known": ("known", "bucket:2026"),
    }
    url = "https://my-env.mlops-platform.craft.ai"
    for name, words in calls.items():
        run = fresh("init", "--no-test", name, *words, CRAFT_AI_ENVIRONMENT_URL=url)
        assert run.code == 0, run.err
    found = loaded(fresh)
    assert found.environments == {
        "plain": DirectoryEnvironment(fresh.folder / "a folder"),
        "bucket": S3Environment("my-bucket", "some/prefix", profile="prod"),
        "ai": CraftAiEnvironment(url),
    }
    assert {name: folder.environment for name, folder in found.folders.items()} == {
        "plain": "plain",
        "bucket": "bucket",
        "ai": "ai:models",
        "known": "bucket:2026",
    }


@pytest.mark.parametrize(
    "before",
    [
        EXAMPLE.read_text(),
        "environments: # names\n\n    # one\n    old: {store: directory, path: x}\n",
        "folders:\n  old: {root: r, environment: old}\nenvironments:\n  old: {store: directory, path: x}",
        "notify: [a]\n",
        "",
    ],
)
def test_init_keeps_existing_configuration(craftsync: Craftsync, before: str) -> None:
    craftsync.config.write_text(before)
    craftsync.config.chmod(0o640)
    old = loaded(craftsync)
    assert craftsync("init", "mine", "data", "./store").code == 0
    new = loaded(craftsync)
    assert new.folders.items() - old.folders.items() == {("mine", new.folders["mine"])}
    assert new.environments.items() >= old.environments.items()
    assert (new.metrics, new.notify) == (old.metrics, old.notify)
    lines = craftsync.config.read_text().splitlines()
    assert [line for line in before.splitlines() if line not in lines] == []
    assert stat.S_IMODE(craftsync.config.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("old", "data", "./store"), 2, "already has a folder 'old'"),
        (("a:b", "data", "./store"), 2, "'a:b' is not a valid NAME"),
        (("data", "./data/store"), 2, "lies inside the linked folder"),
        (("config.yaml", "./store"), 2, "config.yaml is not a folder"),
        (("config.yaml/below", "./store"), 2, "config.yaml is not a folder"),
        (("data", "./config.yaml"), 2, "config.yaml is not a folder"),
        (("data", "nowhere"), 2, "'nowhere' is not an environment"),
        (("data",), 2, "Give [NAME] ROOT STORE"),
        (("twice", "r", "./store"), 2, "is the same folder as"),
        (("r/below", "./store"), 2, "lies inside"),
        ((".", "/elsewhere"), 2, "contains"),
        ((), 2, "Give [NAME] ROOT STORE"),
    ],
)
def test_invalid_init_arguments_change_nothing(
    craftsync: Craftsync, words: tuple[str, ...], code: int, said: str
) -> None:
    before = (
        "environments: {old: {store: directory, path: x}}\nfolders:\n"
        "  old: {root: r, environment: old}\n"
    )
    craftsync.config.write_text(before)
    run = craftsync("init", *words)
    assert (run.code, said in run.err) == (code, True), run.err
    assert craftsync.config.read_text() == before
    assert not (craftsync.folder / "data").exists()


def test_init_prints_what_to_add_to_an_unextendable_file(craftsync: Craftsync) -> None:
    before = "environments: {old: {store: directory, path: x}}\n"
    craftsync.config.write_text(before)
    run = craftsync("init", "data", "./store")
    assert run.code == 78
    by_hand = run.err[run.err.index("Add this by hand:") :].splitlines()
    assert by_hand[1:3] == [
        "environments:",
        f"  data: {{store: directory, path: {craftsync.folder}/store}}",
    ]
    assert craftsync.config.read_text() == before


def test_invalid_configuration_file_is_not_changed(craftsync: Craftsync) -> None:
    craftsync.config.write_text("folders: nonsense\n")
    assert craftsync("init", "data", "./store").code == 78
    assert craftsync.config.read_text() == "folders: nonsense\n"


def test_symlinked_configuration_stays_a_symlink(craftsync: Craftsync) -> None:
    target = craftsync.write("dotfiles/craftsync.yaml", "")
    craftsync.config.unlink()
    craftsync.config.symlink_to(target)
    assert craftsync("init", "data", "./store").code == 0
    assert craftsync.config.is_symlink()
    assert "data" in config.load(target).folders


@contextmanager
def asked(fresh: Craftsync, *words: str) -> Iterator[tuple[int, Process]]:
    """Run `init` on a terminal; give the screen, which is typed at and read, and the process."""
    screen, terminal = pty.openpty()
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with fresh.started("init", *words, **streams) as process:
        try:
            yield screen, process
        finally:
            process.kill()
    for end in (screen, terminal):
        os.close(end)


def test_ctrl_c_at_a_prompt_exits_130(fresh: Craftsync) -> None:
    with asked(fresh) as (screen, process):
        shown = b""
        while b"Folder to keep in sync" not in shown:
            shown += os.read(screen, 65536)
        for _ in range(60):
            # Python does not hear a signal that comes between the question and the wait for its answer.
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        assert process.returncode == 130


def test_init_prompts_on_a_terminal(fresh: Craftsync) -> None:
    with asked(fresh) as (screen, process):
        os.write(screen, b"work/exp\nn\nwork/data\ny\n./store\ny\nmine\n")
        assert process.wait(60) == 0
        shown = os.read(screen, 65536).decode()
    assert "Folder to keep in sync" in shown
    assert f"{fresh.folder}/work/exp does not exist. Create it?" in shown.replace("\r\n", "")
    assert loaded(fresh).folders["mine"].root == fresh.folder / "work/data"
    assert (fresh.folder / "store").is_dir()
    assert not (fresh.folder / "work/exp").exists()


def test_a_refused_answer_is_prompted_for_again_and_loses_no_other(fresh: Craftsync) -> None:
    with asked(fresh) as (screen, process):
        os.write(screen, b"data\ny\nnowhere\n./data/store\n./store\ny\na:b\nmine\n")
        assert process.wait(60) == 0
        shown = os.read(screen, 65536).decode()
    for problem in ("'nowhere' is not an environment", "lies inside", "'a:b' is not a valid NAME"):
        assert problem in shown
    assert "[nowhere]" not in shown
    assert loaded(fresh).folders["mine"].root == fresh.folder / "data"


def test_init_repeats_only_the_refused_question(fresh: Craftsync) -> None:
    fresh.write("file")
    with asked(fresh, "mine", "data", "./file") as (screen, process):
        os.write(screen, b"y\n./store\ny\n")
        assert process.wait(60) == 0
        shown = os.read(screen, 65536).decode()
    assert "file is not a folder" in shown
    assert "Folder to keep in sync" not in shown
    assert loaded(fresh).folders["mine"].root == fresh.folder / "data"


def test_interrupted_init_prints_the_answers_so_far(fresh: Craftsync) -> None:
    with asked(fresh) as (screen, process):
        os.write(screen, b"data\ny\nnowhere\n\x04")
        assert process.wait(60) != 0
        shown = os.read(screen, 65536).decode()
    assert f"To continue with these answers: craftsync init {fresh.folder}/data" in shown
    assert not fresh.config.exists()


@pytest.fixture
def bucket(fresh: Craftsync, moto: S3Server) -> str:
    """Give a bucket that the program reaches with the variables of its user."""
    fresh.environment |= moto.variables
    moto.make_bucket("initial")
    return "initial"


def test_init_tests_the_store_before_it_is_written(fresh: Craftsync, bucket: str) -> None:
    run = fresh("init", "data", f"s3://{bucket}/pre")
    assert run.code == 0, run.err
    assert run.err.splitlines()[0] == f"Testing s3://{bucket}/pre …"
    assert "not used by craftsync yet" in run.err
    assert "an object was written, read back and deleted" in run.err
    assert fresh("ls", "-R", f"s3://{bucket}").text == ""
    assert_limited(fresh, run.text)
    assert fresh("sync", "data").code == 0


@pytest.mark.parametrize(("place", "limited"), [("pre", False), ("other", True)])
def test_init_finds_versions_that_a_command_kept_in_a_bucket(
    fresh: Craftsync, bucket: str, place: str, limited: bool
) -> None:
    store = f"s3://{bucket}/{place}"
    fresh.config.write_text("")
    assert (
        fresh("put", "-", f"s3://{bucket}/pre/a", "--store", f"s3://{bucket}/pre", stdin=b"1").code
        == 0
    )
    assert fresh("rm", f"s3://{bucket}/pre/a", "--store", f"s3://{bucket}/pre").code == 0
    assert_limited(fresh, fresh("init", "data", store).text, limited=limited)


def test_unreachable_store_is_not_written_to_the_configuration(
    fresh: Craftsync, bucket: str
) -> None:
    words = ("init", "data", f"s3://{bucket}-typo")
    run = fresh(*words)
    assert (run.code, "--no-test" in run.err) == (3, True), run.err
    assert f"s3://{bucket}-typo" in run.err.splitlines()[1]
    assert not fresh.config.exists()
    assert not (fresh.folder / "data").exists()
    assert fresh(*words, "--no-test").code == 0
    assert "data" in loaded(fresh).folders


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("served"), token="a-token") as server:
        yield server


def test_init_keeps_the_control_address_of_the_variables(fresh: Craftsync, server: Serving) -> None:
    run = fresh("init", "data", "craft-ai://datasets", **server.variables)
    assert run.code == 0, run.err
    assert f"data is {fresh.folder}/data with craft-ai+{server.url}/datasets" in run.text
    assert loaded(fresh).environments["data"] == CraftAiEnvironment(server.url, server.url)
    fresh.write("data/a")
    synced = fresh("sync", "data", CRAFT_AI_SDK_TOKEN=server.token)
    assert synced.code == 0, synced.err


def test_the_own_control_address_of_the_platform_is_not_written(fresh: Craftsync) -> None:
    url = "https://my-env.mlops-platform.craft.ai"
    own = {"CRAFT_AI_ENVIRONMENT_URL": url, "CRAFT_AI_CONTROL_URL": CONTROL_URL}
    assert fresh("init", "--no-test", "data", "craft-ai://", **own).code == 0
    assert loaded(fresh).environments["data"] == CraftAiEnvironment(url)


DEV = "environments:\n  dev: {store: craft-ai, url: https://dev.mlops-platform.craft.ai}\n"


def test_a_second_environment_needs_a_token_variable_of_its_own(
    fresh: Craftsync, server: Serving
) -> None:
    fresh.config.write_text(DEV)
    words = ("init", "prod", "data", "craft-ai://")
    run = fresh(*words, **server.variables)
    assert (
        run.code,
        "CRAFT_AI_SDK_TOKEN holds the token of another environment, dev" in run.err,
    ) == (2, True), run.err
    assert "--token-env NAME" in run.err
    secret = fresh(*words, "--token-env", "eyJ.a.secret", **server.variables)
    assert (secret.code, "secret" in secret.err) == (2, False), secret.err
    named = {**server.variables, "CRAFT_AI_SDK_TOKEN": "of-dev", "PROD_TOKEN": server.token}
    assert fresh(*words, "--token-env", "PROD_TOKEN", **named).code == 0
    assert loaded(fresh).environments["prod"] == CraftAiEnvironment(
        server.url, server.url, "PROD_TOKEN"
    )
    assert fresh("ls", "prod", PROD_TOKEN=server.token).code == 0


def test_init_prompts_for_the_variable_of_a_second_token(fresh: Craftsync, server: Serving) -> None:
    fresh.config.write_text(DEV)
    fresh.write("data/a")
    fresh.environment |= {**server.variables, "PROD_TOKEN": server.token}
    with asked(fresh, "prod", "data", "craft-ai://") as (screen, process):
        os.write(screen, b"no.variable\nPROD_TOKEN\n")
        assert process.wait(60) == 0
        shown = os.read(screen, 65536).decode()
    assert "CRAFT_AI_SDK_TOKEN holds the token of dev" in shown
    assert "not a variable name" in shown
    assert loaded(fresh).environments["prod"].token_env == "PROD_TOKEN"


def test_a_refused_token_is_named_by_variable_or_file(
    craftsync: Craftsync, server: Serving
) -> None:
    token = craftsync.write("token", "wrong")
    keys = f"store: craft-ai, url: {server.url}, control_url: {server.url}"
    craftsync.config.write_text(
        f"environments:\n  dev: {{{keys}, token_env: DEV_TOKEN}}\n"
        f"  prod: {{{keys}, token_file: {token}}}\n"
    )
    of_variable = craftsync("ls", "dev", DEV_TOKEN="wrong").err
    assert "the SDK token of the variable DEV_TOKEN" in of_variable
    assert f"craft-ai+{server.url}" in of_variable
    assert f"the SDK token in {token}" in craftsync("ls", "prod").err
    assert ".." not in of_variable
