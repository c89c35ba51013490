"""`trash:` in the configuration bounds what the trash keeps of this client."""

from __future__ import annotations

import pytest

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
