"""`config`: what is configured is printed, and an entry is removed without touching the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craftsync.config import file as configuration
from tests.support.cli import Craftsync

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"

CONFIG = """\
# mine
environments:
  # the disk
  disk: {store: directory, path: backup}
  bucket:
    store: s3
    bucket: b   # not ours
                # alone
  # the last
  spare: {store: directory, path: spare}
folders:
  data:
    root: data
    environment: disk:2026
    exclude: ["*.tmp", "a, b"]
  models: {root: models, environment: disk}
trash: {keep: 30d}
"""


@pytest.fixture
def configured(craftsync: Craftsync) -> Craftsync:
    craftsync.config.write_text(CONFIG)
    return craftsync


def entries(craftsync: Craftsync, *words: str) -> list[dict[str, object]]:
    run = craftsync("config", *words, "--json")
    assert run.code == 0, run.err
    return [json.loads(line) for line in run.text.splitlines()]


def test_config_list_shows_environments_and_folders(configured: Craftsync) -> None:
    folder = configured.folder
    run = configured("config", "list")
    assert (run.code, run.text.splitlines()) == (
        0,
        [
            f"{configured.config}:",
            f"  environment disk  {folder}/backup",
            "  environment bucket  s3://b",
            f"  environment spare  {folder}/spare",
            f"  folder      data  {folder}/data ⇄ disk:2026",
            f"  folder      models  {folder}/models ⇄ disk",
        ],
    )
    assert entries(configured, "list")[3] == {
        "type": "folder",
        "name": "data",
        "root": f"{folder}/data",
        "environment": "disk:2026",
        "store": f"{folder}/backup/2026",
    }


def test_config_list_reports_a_missing_configuration(craftsync: Craftsync) -> None:
    craftsync.config.unlink()
    run = craftsync("config", "list", CRAFTSYNC_CONFIG="")
    assert (run.code, run.text.startswith("Nothing in ")) == (0, True)


def test_config_show_prints_yaml_with_defaults_as_comments(configured: Craftsync) -> None:
    lines = configured("config", "show", "data").text.splitlines()
    assert lines[:4] == ["folders:", "  data:", "    root: data", '    environment: "disk:2026"']
    assert '    exclude: ["*.tmp", "a, b"]' in lines
    assert "    # conflict: both" in lines
    assert not [line for line in lines if "delete:" in line and "max_delete" not in line]
    shown = configuration.read_yaml("\n".join(lines))
    assert shown["folders"]["data"] == configuration.read_yaml(CONFIG)["folders"]["data"]
    keys = {str(entry["key"]): entry for entry in entries(configured, "show", "bucket")}
    assert (keys["store"]["value"], keys["bucket"]["given"]) == ("s3", True)
    assert (keys["region"]["value"], keys["region"]["given"]) == ("what boto3 finds", False)


def test_config_show_prints_a_folders_own_trash(configured: Craftsync) -> None:
    assert "    # trash: the top-level trash" in configured("config", "show", "data").lines
    folder = "  models: {root: models, environment: disk"
    limited = f"{folder}, trash: {{keep: 90d, max_size: 1G}}"
    configured.config.write_text(CONFIG.replace(folder, limited))
    assert "    trash: {keep: 90d, max_size: 1G}" in configured("config", "show", "models").lines
    keys = {entry["key"]: entry for entry in entries(configured, "show", "models")}
    assert keys["trash"] == {
        **{"type": "folder", "name": "models", "key": "trash", "given": True},
        "value": {"keep": "90d", "max_size": "1G"},
    }


@pytest.mark.parametrize(
    ("name", "section", "removed"),
    [
        ("data", "folders", CONFIG[CONFIG.index("  data:") : CONFIG.index("  models:")]),
        ("models", "folders", "  models: {root: models, environment: disk}\n"),
        (
            "bucket",
            "environments",
            CONFIG[CONFIG.index("  bucket:") : CONFIG.index("  # the last")],
        ),
        ("spare", "environments", "  spare: {store: directory, path: spare}\n"),
    ],
)
def test_config_remove_takes_one_entry_and_leaves_every_other_line(
    configured: Craftsync, name: str, section: str, removed: str
) -> None:
    run = configured("config", "remove", name)
    assert run.code == 0, run.err
    assert run.text.startswith(f"Removed the {section.removesuffix('s')} {name} from ")
    assert configured.config.read_text() == CONFIG.replace(removed, "")


def test_config_remove_undoes_init(craftsync: Craftsync) -> None:
    craftsync.config.write_text("")
    craftsync("init", "mine", "data", "./store")
    folder = craftsync("config", "remove", "mine")
    assert "craftsync config remove mine" in folder.text
    assert craftsync("config", "remove", "mine").text.startswith("Removed the environment mine")
    assert configuration.load(craftsync.config) == configuration.Config()
    assert craftsync("init", "mine", "data", "./store").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("remove", "disk"), "disk is the store of data, models"),
        (("remove", "dat"), "Did you mean data?"),
        (("show", "buket"), "Did you mean bucket?"),
    ],
)
def test_config_command_rejects_invalid_arguments(
    configured: Craftsync, words: tuple[str, ...], message: str
) -> None:
    run = configured("config", *words)
    assert (run.code, message in run.err) == (2, True), run.err
    assert configured.config.read_text() == CONFIG


def test_config_remove_leaves_a_file_it_cannot_change_line_by_line(craftsync: Craftsync) -> None:
    flow = (
        "environments: {disk: {store: directory, path: x}}\n"
        "folders: {a: {root: a, environment: disk}, b: {root: b, environment: disk}}\n"
    )
    craftsync.config.write_text(flow)
    run = craftsync("config", "remove", "a")
    assert (run.code, "Remove a from folders by hand" in run.err) == (78, True), run.err
    assert craftsync.config.read_text() == flow


def test_config_example_prints_the_example(craftsync: Craftsync) -> None:
    assert craftsync("config", "example").text == EXAMPLE.read_text("utf-8")


def test_config_add_makes_an_environment_without_a_folder(craftsync: Craftsync) -> None:
    craftsync.write("archive/models/a", "content")
    unknown = craftsync("ls", "dev")
    assert (unknown.code, "craftsync config add NAME STORE" in unknown.err) == (2, True)
    shown = craftsync("config", "add", "dev", "./archive", "-n")
    assert (shown.code, craftsync.config.read_text()) == (0, "")
    line = f"  dev: {{store: directory, path: {craftsync.folder}/archive}}"
    assert shown.text.splitlines()[:2] == ["environments:", line]
    added = craftsync("config", "add", "dev", "./archive")
    assert (added.code, "Testing" in added.err) == (0, True), added.err
    assert line in craftsync.config.read_text()
    assert craftsync("cat", "dev:models/a").text == "content"
    again = craftsync("config", "add", "dev", "./other")
    assert (again.code, "already has an environment 'dev'" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a:b", "./store"), "is not a valid NAME"),
        (("..", "./store"), "is not a valid NAME"),
        (("dev", "nowhere"), "'nowhere' is not an environment"),
        (("dev", "./store", "--token-env", "DEV"), "--token-env is for"),
        (("dev", "craft-ai://models", "--no-test"), "write dev:models"),
    ],
)
def test_config_add_refuses_what_cannot_be_an_environment(
    craftsync: Craftsync, words: tuple[str, ...], said: str
) -> None:
    run = craftsync("config", "add", *words, CRAFT_AI_ENVIRONMENT_URL="https://e.example")
    assert (run.code, said in run.err) == (2, True), run.err
    assert craftsync.config.read_text() == ""
