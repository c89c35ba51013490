"""`trash:` in the configuration bounds what the trash keeps of this client."""

from __future__ import annotations

import pytest

from craftsync.state.history import Outside
from tests.support.cli import Craftsync


@pytest.fixture
def edited(craftsync: Craftsync) -> Craftsync:
    """A folder of which the store keeps one replaced version."""
    for content in ("old", "newer"):
        craftsync.write("data/a", content)
        assert craftsync("sync", "data", "./store").code == 0
    return craftsync


def listed(craftsync: Craftsync) -> list[str]:
    run = craftsync("trash", "list", "--json", "--root", "data", "--store", "./store")
    return [entry["path"] for entry in run.json]


def test_run_ends_by_purging_beyond_max_size(edited: Craftsync) -> None:
    edited("sync", "data", "./store")
    assert listed(edited) == ["a"]
    edited.config.write_text("trash: {max_size: 1}\n")
    assert edited("sync", "data", "./store").code == 0
    assert listed(edited) == []
    assert edited.files("data") == edited.files("store") == {"a": "newer"}


def test_another_client_purges_none_of_this_clients_trash(edited: Craftsync) -> None:
    edited.config.write_text("trash: {max_size: 1}\n")
    (edited.folder / "other").mkdir()
    words = ("--state-dir", "of-another-client")
    assert edited("sync", "other", "./store", *words).code == 0
    assert listed(edited) == ["a"]


def test_recent_versions_stay(edited: Craftsync) -> None:
    edited.config.write_text("trash: {keep: 12h, max_size: 1GB}\n")
    edited("sync", "data", "./store")
    assert listed(edited) == ["a"]


def test_status_and_doctor_report_trash_size_and_its_options(
    edited: Craftsync,
) -> None:
    bound = "to limit that, set `trash: {keep: 30d}`"
    holds = f"1 version put there with this state folder, 3 bytes, kept forever; {bound}"
    (status,) = edited("status", "--json", "data", "./store").json
    assert status["trash"] == {
        **{"files": 1, "bytes": 3},
        **{"keep": "forever", "max_size": None, "suspended": None},
    }
    assert f"  trash: {holds}" in edited("status", "data", "./store").lines
    pair = ("--root", "data", "--store", "./store")
    assert (
        edited("trash", "list", *pair).lines[-1]
        == f"in all, without those of other clients: {holds}"
    )
    folder = (
        "environments: {e: {store: directory, path: ./store}}\n"
        "folders: {f: {root: ./data, environment: e}}\n"
    )
    edited.config.write_text(folder)
    assert "note     f: trash: holds 1 version (3 bytes)" in edited("doctor").text
    assert "`trash: {keep: 30d}`" in edited("doctor").text
    edited.config.write_text(f"{folder}trash: {{keep: 30d}}\n")
    assert "ok       f: trash: holds 1 version " in edited("doctor").text
    (status,) = edited("status", "--json", "f").json
    assert status["trash"]["keep"] == "30d"


def test_trash_max_size_is_reported(
    edited: Craftsync,
) -> None:
    edited.config.write_text("trash: {max_size: 2K}\n")
    holds = "1 version put there with this state folder, 3 bytes, kept up to 2.0 KiB in all"
    assert f"  trash: {holds}" in edited("status", "data", "./store").lines
    (status,) = edited("status", "--json", "data", "./store").json
    assert status["trash"]["max_size"] == 2048
    edited.config.write_text("trash: {keep: 30d, max_size: 2K}\n")
    holds = (
        "1 version put there with this state folder, 3 bytes, kept for 30d, up to 2.0 KiB in all"
    )
    assert edited("trash", "list", "--root", "data", "--store", "./store").lines[-1] == (
        f"in all, without those of other clients: {holds}"
    )


def aged(craftsync: Craftsync, folder: str) -> None:
    """Sync a folder, and replace an object of its store; this version was kept long ago."""
    craftsync.write(f"{folder}/a", "old")
    assert craftsync("sync", folder).code == 0
    store = craftsync.folder / f"store-{folder}"
    assert craftsync("put", "-", f"{store}/a", "--store", str(store), stdin=b"newer").code == 0
    outside = Outside(craftsync.folder / "state", str(store))
    with outside.taken() as noted:
        pass
    outside.note([version for version, _ in noted], 0)


def linked(names: dict[str, str], top: str = "") -> str:
    """Return a configuration with these folders, each with a store of its own and these keys."""
    stores = "".join(f"  {name}: {{store: directory, path: store-{name}}}\n" for name in names)
    folders = "".join(
        f"  {name}: {{root: {name}, environment: {name}, {keys}}}\n" for name, keys in names.items()
    )
    return f"environments:\n{stores}folders:\n{folders}{top}"


def replace_once(craftsync: Craftsync, folders: dict[str, str]) -> None:
    """Configure these folders, and replace an object of each store."""
    craftsync.config.write_text(linked(folders))
    for name in folders:
        for content in ("old", "newer"):
            craftsync.write(f"{name}/a", content)
            assert craftsync("sync", name).code == 0


@pytest.mark.parametrize("named", [True, False], ids=["by name", "by folder and store"])
@pytest.mark.parametrize(
    ("limited", "unlimited", "top"),
    [
        ("trash: {keep: 30d}", "mode: two-way", ""),
        ("mode: two-way", "trash: {keep: forever}", "trash: {keep: 30d}\n"),
        ("trash: {max_size: 1}", "trash: {max_size: 1G}", ""),
    ],
    ids=["own keep", "own forever", "own max_size"],
)
def test_a_folders_own_trash_limits_only_that_folder(
    craftsync: Craftsync, limited: str, unlimited: str, top: str, named: bool
) -> None:
    folders = {"limited": limited, "unlimited": unlimited}
    craftsync.config.write_text(linked(dict.fromkeys(folders, "mode: two-way")))
    for name in folders:
        aged(craftsync, name)
    craftsync.config.write_text(linked(folders, top))
    left = {}
    for name in folders:
        pair = [name] if named else [name, f"./store-{name}"]
        for _ in range(2):
            assert craftsync("sync", *pair).code == 0
        found = craftsync("trash", "list", "--json", "--folder", name).json
        left[name] = [entry["path"] for entry in found if entry["side"] == "store"]
    assert left == {"limited": [], "unlimited": ["a"]}
    assert craftsync.files("limited") == craftsync.files("unlimited") == {"a": "newer"}


def test_a_folders_own_trash_selects_what_its_store_keeps(craftsync: Craftsync) -> None:
    folders = {"kept": "trash: {store: all}", "off": "trash: {store: off}"}
    replace_once(craftsync, folders)
    found = {
        name: [
            entry["path"] for entry in craftsync("trash", "list", "--json", "--folder", name).json
        ]
        for name in folders
    }
    assert found == {"kept": ["a"], "off": []}


def test_doctor_reports_each_folders_own_limits(craftsync: Craftsync) -> None:
    folders = {"limited": "trash: {keep: 30d}", "unlimited": "mode: two-way"}
    replace_once(craftsync, folders)
    found = craftsync("doctor").text
    holds = "holds 1 version (3 bytes) that this client replaced or deleted"
    assert f"ok       limited: trash: {holds}, kept 30d" in found
    assert f"note     unlimited: trash: {holds}, kept forever" in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{keep: 30}", "trash.keep: 30 is not a duration"),
        ("{keep: 0d}", "trash.keep: '0d' is not a duration"),
        ("{max_size: many}", "trash.max_size: 'many' is not a size"),
        ("{kep: 30d}", "Did you mean keep?"),
        ("forever", "is not a section"),
    ],
)
def test_an_invalid_bound_is_refused_with_the_key_and_the_remedy(
    craftsync: Craftsync, words: str, message: str
) -> None:
    craftsync.config.write_text(f"trash: {words}\n")
    run = craftsync("sync", "data", "./store")
    assert run.code == 78
    assert message in run.err
