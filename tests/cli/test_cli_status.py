"""`craftsync status`: from the daemon, from the state database, and on a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craftsync import __version__
from tests.support.cli import Craftsync, until
from tests.support.daemons import running
from tests.support.terminal import on_a_terminal

FIELDS = {
    *("state", "root", "store", "mode", "pid", "pending", "conflicts", "held", "problems"),
    *("last_success", "watch", "version"),
}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    root, store = tmp_path / "root", tmp_path / "store"
    for folder in (root, store):
        folder.mkdir()
    (root / "first").write_text("1")
    return str(root), str(store)


def test_status_queries_a_running_daemon(craftsync: Craftsync, pair: tuple[str, str]) -> None:
    with running(craftsync, *pair) as daemon:
        until(Path(pair[1], "first").exists, "the first run")
        facts = daemon.until_state("watching", *pair)
    assert facts.keys() >= FIELDS
    assert (facts["root"], facts["store"], facts["mode"]) == (*pair, "two-way")
    assert facts["pid"] == daemon.process.pid
    assert facts["version"] == __version__
    assert facts["watch"] == {"healthy": True, "reason": None}
    assert facts["last_success"].endswith("Z")
    assert [facts[name] for name in ("pending", "conflicts", "held", "problems")] == [0] * 4


def test_store_outage_is_not_a_problem_once_it_is_over(
    craftsync: Craftsync, pair: tuple[str, str]
) -> None:
    root, store = map(Path, pair)
    with running(craftsync, *pair) as daemon:
        until((store / "first").exists, "the first run")
        store.rename(store.with_name("elsewhere"))
        (root / "second").write_text("2")
        assert "next try in" in daemon.until_state("offline", *pair)["reason"]
        store.with_name("elsewhere").rename(store)
        until((store / "second").exists, "what had changed meanwhile")
        facts = daemon.until_state("watching", *pair)
    assert (facts["problems"], facts["waiting"]) == (0, [])


def test_store_outage_is_logged_once(craftsync: Craftsync, pair: tuple[str, str]) -> None:
    store, reasons = Path(pair[1]), set()

    def tries() -> int:
        reasons.add(daemon.status(*pair)["reason"])
        return len(reasons - {None})

    with running(craftsync, *pair) as daemon:
        until((store / "first").exists, "the first run")
        store.rename(store.with_name("elsewhere"))
        until(lambda: tries() >= 2, "two tries, each with another wait")
        assert daemon.log.count("offline, next try") == 1
        lines = craftsync("status", *pair).lines
        assert ("offline" in lines[0], "  problems: 0" in lines) == (True, False)
        store.with_name("elsewhere").rename(store)
        daemon.until_state("watching", *pair)
        assert daemon.log.count("back online") == 1


def test_status_explains_a_halt_with_a_remedy(craftsync: Craftsync, pair: tuple[str, str]) -> None:
    other = craftsync.folder / "other"
    other.mkdir()
    craftsync.config.write_text(
        f"environments: {{s: {{store: directory, path: {pair[1]}}}}}\nfolders:\n"
        f"  lost: {{root: {pair[0]}, environment: 's:one'}}\n"
        f"  fine: {{root: {other}, environment: 's:two'}}\n"
    )
    with running(craftsync) as daemon:
        until((Path(pair[1]) / "one/first").exists, "the first run")
        Path(pair[0]).rename(craftsync.folder / "elsewhere")
        daemon.until_state("halted", "lost")
        lines = craftsync("status", "lost").lines
    assert "that its disk is mounted" in lines[1]
    assert (
        lines[2] == "  it is tried again every minute; craftsync rescan --folder lost tries it now"
    )
    assert "no daemon keeps it in sync" in craftsync("status", "fine").lines[1]


def test_status_after_a_crash_comes_from_the_state(
    craftsync: Craftsync, pair: tuple[str, str]
) -> None:
    with running(craftsync, *pair) as daemon:
        until(Path(pair[1], "first").exists, "the first run")
        daemon.until_state("watching", *pair)
        daemon.process.kill()
    run = craftsync("status", "--json", *pair)
    facts = json.loads(run.out)
    assert facts.keys() >= FIELDS
    assert (facts["state"], facts["pid"]) == ("stopped", None)
    assert facts["last_success"]


def test_without_a_daemon_pending_is_unknown(craftsync: Craftsync, pair: tuple[str, str]) -> None:
    assert craftsync("sync", *pair).code == 0
    Path(pair[0], "first").write_text("changed since")
    assert json.loads(craftsync("status", "--json", *pair).out)["pending"] is None
    (line,) = (line for line in craftsync("status", *pair).lines if line.startswith("  pending"))
    assert line.startswith("  pending: unknown without a scan; craftsync plan ")


def test_status_without_daemon_reports_missing_folders_beside_others(
    craftsync: Craftsync,
) -> None:
    here, names = craftsync.folder, ("fine", "rootless", "storeless")
    craftsync.config.write_text(
        "environments:\n"
        + "".join(f"  s-{name}: {{store: directory, path: s-{name}}}\n" for name in names)
        + "folders:\n"
        + "".join(f"  {name}: {{root: {name}, environment: s-{name}}}\n" for name in names)
        + "  never: {root: never, environment: s-fine}\n"
    )
    for name in names:
        craftsync.write(f"{name}/file")
        assert craftsync("sync", name).code == 0
    (here / "rootless").rename(here / "moved")
    (here / "s-storeless").rename(here / "moved-too")
    run = craftsync("status", "--json")
    assert run.code == 0, run.err
    fine, rootless, storeless, never = json.loads(run.out)
    assert fine["reason"] is None
    assert f"{here}/rootless cannot be used" in rootless["reason"]
    assert "that its disk is mounted" in rootless["reason"]
    assert storeless["reason"].startswith("The store is not there.")
    assert all(facts["last_success"] for facts in (fine, rootless, storeless))
    assert (never["last_success"], never["mode"]) == (None, None)
    assert f"{here}/never cannot be used" in never["reason"]
    assert craftsync("status", "mistyped", "./s-fine").code == 3


def test_status_names_pending_decisions_until_settled(
    craftsync: Craftsync, pair: tuple[str, str]
) -> None:
    root, store = map(Path, pair)
    for number in range(50):
        (root / f"many-{number}").write_text("x")
    with running(craftsync, *pair) as daemon:
        until(lambda: len(list(store.glob("many-*"))) == 50, "the first run")
        daemon.until_state("watching", *pair)
        for number in range(50):
            (root / f"many-{number}").unlink()
        daemon.until_status(lambda shown: shown["held"] > 0, "the deletes to be held", *pair)
        (root / "other").write_text("goes on")
        until((store / "other").exists, "the rest to go on")
        facts = daemon.status(*pair)
        assert facts["held"] == len(list(store.glob("many-*")))
        assert {issue["type"] for issue in facts["waiting"]} == {"held"}
        lines = craftsync("status", *pair).lines
        below = lines[lines.index(f"  held: {facts['held']}") + 1]
        assert below.startswith(f"    held: {facts['waiting'][0]['path']}: ")
        reported = daemon.log.count(" in the store held: ")
        assert reported
        assert craftsync("rescan", *pair).code == 0
        (root / "last").write_text("")
        until((store / "last").exists, "a run after the full one")
        # One line for all that are held, never one a path, and none for those that were reported.
        assert daemon.log.count(" in the store held: ") == reported
        assert f"{facts['waiting'][0]['path']}:" not in daemon.log


def drawn(craftsync: Craftsync, *words: str) -> str:
    """Return what a call prints when its output is a terminal."""
    with on_a_terminal(craftsync, 120, *words) as terminal:
        assert terminal.end() == 0, terminal.sent
    return terminal.sent


def test_status_is_drawn_on_a_terminal_and_plain_elsewhere(
    craftsync: Craftsync, pair: tuple[str, str]
) -> None:
    craftsync("sync", *pair)
    picture = drawn(craftsync, "status", *pair)
    assert "last in sync" in picture
    assert "In sync" not in picture, "nobody has looked since"
    assert "\x1b[" in picture
    with running(craftsync, *pair) as daemon:
        daemon.until_state("watching", *pair)
        assert "In sync" in drawn(craftsync, "status", *pair)
    plain = craftsync("status", *pair).text
    assert "last success" in plain
    assert "\x1b[" not in plain


def test_status_shows_the_progress_of_a_transfer(
    craftsync: Craftsync, pair: tuple[str, str]
) -> None:
    Path(pair[0], "large").write_bytes(bytes(24 << 20))
    with running(craftsync, "--bwlimit", "1M", *pair) as daemon:
        daemon.until_state("transferring", *pair)
        picture = drawn(craftsync, "status", *pair)
    assert "moving: " in picture
    assert "of 24.0 MiB" in picture
    assert "not in sync yet" in picture


def test_status_escapes_control_characters_in_names(craftsync: Craftsync, tmp_path: Path) -> None:
    root, store = tmp_path / "ro\x1b[2Jot[red]", tmp_path / "store"
    root.mkdir()
    store.mkdir()
    craftsync("sync", str(root), str(store))
    picture = drawn(craftsync, "status", str(root), str(store))
    assert "\x1b[2J" not in picture
    assert "\\x1b[2Jot[red]" in picture


def test_status_json_of_several_folders_is_a_list(craftsync: Craftsync, tmp_path: Path) -> None:
    for name in ("one", "two", "store"):
        (tmp_path / name).mkdir()
    craftsync.config.write_text(
        f"environments: {{s: {{store: directory, path: {tmp_path}/store}}}}\nfolders:\n"
        f"  one: {{root: {tmp_path}/one, environment: 's:one'}}\n"
        f"  two: {{root: {tmp_path}/two, environment: 's:two'}}\n"
    )
    for name in ("one", "two"):
        assert craftsync("sync", name).code == 0
    found = json.loads(craftsync("status", "--json").out)
    assert [facts["root"] for facts in found] == [f"{tmp_path}/one", f"{tmp_path}/two"]


def test_status_without_arguments_shows_every_known_folder(
    craftsync: Craftsync,
) -> None:
    for name in ("configured", "by-hand", "watched"):
        craftsync.write(f"{name}/file")
    craftsync.config.write_text(
        f"environments: {{one: {{store: directory, path: {craftsync.folder}/one}}}}\n"
        f"folders: {{data: {{root: {craftsync.folder}/configured, environment: one}}}}\n"
    )
    assert craftsync("sync", "data").code == 0
    assert craftsync("sync", "by-hand", "./two").code == 0
    (craftsync.folder / "three").mkdir()
    with running(craftsync, "watched", "./three") as daemon:
        daemon.until_state("watching", "watched", "./three")
        found = {
            Path(one["root"]).name: one for one in json.loads(craftsync("status", "--json").out)
        }
        assert set(found) == {"configured", "by-hand", "watched"}
        assert found["watched"]["pid"] is not None
        assert found["by-hand"]["state"] == "stopped"
    craftsync.folder /= "by-hand"
    assert Path(json.loads(craftsync("status", "--json").out)["root"]).name == "by-hand"


def test_status_without_arguments_or_folders_is_an_error(craftsync: Craftsync) -> None:
    run = craftsync("status")
    assert (run.code, "Give --root ROOT --store STORE" in run.err) == (2, True)
