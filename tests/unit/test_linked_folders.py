"""Linked folders: from the arguments of a command to a folder and a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsync import linked_folders
from craftsync.config import pairs
from craftsync.config.options import PairOptions
from craftsync.config.places import DirectoryLocation
from craftsync.core.model import Mode
from craftsync.core.retention import Retention, StoreTrash
from craftsync.errors import UsageError
from craftsync.state import PairState

ONE = """
environments: {archive: {store: directory, path: archive}}
folders: {datasets: {root: datasets, environment: archive, mode: push}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(folder: Path, content: str) -> PairOptions:
    file = folder / "config.yaml"
    file.write_text(content)
    return {"config": file, "state_dir": folder / "state"}


def two_folders(folder: Path) -> PairOptions:
    return configured(
        folder,
        "environments: {archive: {store: directory, path: archive}}\n"
        "folders:\n"
        "  datasets: {root: datasets, environment: 'archive:datasets'}\n"
        "  models: {root: models, environment: 'archive:models'}\n",
    )


def remember(folder: Path, root: Path, store: Path) -> None:
    """Create what a run over the pair creates."""
    (root / ".craftsync").mkdir(parents=True, exist_ok=True)
    PairState.open(folder / "state", str(root), str(store), new_id=lambda: "1").close()


def test_two_arguments_are_folder_and_store(here: Path) -> None:
    asked = configured(here, ONE)
    assert linked_folders.resolve(["data", "./store"], asked) == pairs.Pair(
        here / "data", DirectoryLocation(here / "store")
    )


def test_trash_is_unlimited_if_the_store_of_the_configured_folder_is_invalid(here: Path) -> None:
    """That folder may be this one, and keep its versions forever."""
    asked = configured(
        here,
        "environments: {archive: {store: directory, path: archive}}\n"
        "folders:\n"
        "  datasets: {root: datasets, environment: 'archive:../store', trash: {keep: forever}}\n"
        "trash: {keep: 1h, max_size: 1, store: 'off'}\n",
    )
    for pair in (
        linked_folders.resolve(["./datasets", "./store"], asked),
        pairs.remembered(str(here / "datasets"), str(here / "store"), asked),
    ):
        assert pair.retention == Retention(store=StoreTrash.ALL)
    assert linked_folders.resolve(["./other", "./store"], asked).retention.is_bounded


def test_one_argument_is_a_configured_folder_with_its_settings(here: Path) -> None:
    pair = linked_folders.resolve(["datasets"], configured(here, ONE))
    assert (pair.root, pair.location) == (here / "datasets", DirectoryLocation(here / "archive"))
    assert pair.settings.mode is Mode.PUSH


def test_no_argument_means_the_only_configured_folder(here: Path) -> None:
    assert linked_folders.resolve([], configured(here, ONE)).root == here / "datasets"


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        ([], "not clear which folder is meant (in the configuration: datasets, models)", "ROOT"),
        (["dataset"], "(known: datasets, models)", "Did you mean datasets?"),
        (["a", "./b", "c"], "Too many arguments", "ROOT STORE"),
    ],
)
def test_arguments_that_name_no_linked_folder_are_rejected(
    words: list[str], message: str, remedy: str, here: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        linked_folders.resolve(words, two_folders(here))
    assert message in str(caught.value)
    assert remedy in caught.value.remedy


def test_status_without_arguments_covers_every_folder(here: Path) -> None:
    found = linked_folders.every([], two_folders(here))
    assert [pair.root.name for pair in found] == ["datasets", "models"]


def test_path_belongs_to_the_linked_folder_around_it(here: Path) -> None:
    remember(here, here / "data", here / "store")
    pair, inside = linked_folders.around("data/a/été.csv", [], {"state_dir": here / "state"})
    assert (pair.root, pair.location) == (here / "data", DirectoryLocation(here / "store"))
    assert inside == "a/été.csv"


def test_inside_a_folder_paths_are_relative_to_the_current_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(here, here / "data", here / "store")
    (here / "data" / "sub").mkdir()
    monkeypatch.chdir(here / "data" / "sub")
    _, inside = linked_folders.around("a.csv", [], {"state_dir": here / "state"})
    assert inside == "sub/a.csv"


def test_innermost_linked_folder_wins(here: Path) -> None:
    remember(here, here / "data", here / "outer")
    remember(here, here / "data" / "sub", here / "inner")
    pair, inside = linked_folders.around("data/sub/a.csv", [], {"state_dir": here / "state"})
    assert (pair.location, inside) == (DirectoryLocation(here / "inner"), "a.csv")


def test_folder_with_several_stores_needs_one_named(here: Path) -> None:
    remember(here, here / "data", here / "one")
    remember(here, here / "data", here / "two")
    with pytest.raises(UsageError, match="several stores") as caught:
        linked_folders.around("data/a.csv", [], {"state_dir": here / "state"})
    assert "--store" in caught.value.remedy


def test_named_folder_takes_paths_relative_to_it(here: Path) -> None:
    asked = two_folders(here)
    assert linked_folders.around("a.csv", ["models"], asked)[1] == "a.csv"
    assert linked_folders.around("models/a.csv", ["models"], asked)[1] == "a.csv"
    assert linked_folders.around(str(here / "models" / "a.csv"), ["models"], asked)[1] == "a.csv"


def test_path_outside_all_folders_belongs_to_the_only_configured_one(
    here: Path,
) -> None:
    pair, inside = linked_folders.around("a.csv", [], configured(here, ONE))
    assert (pair.root, inside) == (here / "datasets", "a.csv")


def test_symlink_is_followed_on_the_way_but_not_at_the_end(here: Path) -> None:
    remember(here, here / "data", here / "store")
    (here / "way").symlink_to("data")
    (here / "data" / "link.csv").symlink_to("/etc/hostname")
    pair, inside = linked_folders.around("way/link.csv", [], {"state_dir": here / "state"})
    assert (pair.root, inside) == (here / "data", "link.csv")
