"""`pause`, `resume`, `stop`, `rescan`, `bwlimit` and SIGHUP, on a running daemon."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from craftsync.daemon.control import ask, folder_of
from craftsync.errors import UsageError
from tests.support.cli import DEADLINE, SCRIPT, Craftsync, until
from tests.support.daemons import running


@pytest.fixture
def pair(craftsync: Craftsync, tmp_path: Path) -> tuple[Path, Path]:
    """Name a root and a directory store `data` in the configuration."""
    root, store = tmp_path / "root", tmp_path / "store"
    for folder in (root, store):
        folder.mkdir()
    (root / "first").write_text("1")
    configure(craftsync, "")
    return root, store


def configure(craftsync: Craftsync, keys: str, top: str = "") -> None:
    here = craftsync.folder
    craftsync.config.write_text(
        f"environments: {{store: {{store: directory, path: {here}/store}}}}\n"
        f"folders: {{data: {{root: {here}/root, environment: store{keys}}}}}\n{top}"
    )


def configure_also(craftsync: Craftsync, name: str, store: str) -> None:
    """Add a folder of this name to the configuration, with a place in the same store."""
    text = craftsync.config.read_text()
    added = f"{name}: {{root: {craftsync.folder}/{name}, environment: 'store:{store}'}}, "
    craftsync.config.write_text(text.replace("folders: {", f"folders: {{{added}"))


def test_paused_folder_transfers_nothing_until_resumed(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        assert craftsync("pause").code == 0
        assert "craftsync resume" in daemon.until_state("paused")["reason"]
        (root / "second").write_text("2")
        daemon.until_status(lambda shown: shown["pending"] == 1, "the change to be noticed")
        assert not (store / "second").exists()
        assert craftsync("resume").code == 0
        until((store / "second").exists, "the second file")


def test_a_rate_too_large_for_a_float_is_refused(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        folder = folder_of(craftsync.folder / "state", str(root), str(store))
        with pytest.raises(UsageError, match="upload must be bytes per second"):
            ask(folder, "bwlimit", upload=10**400)
        assert craftsync("bwlimit", "9" * 400).code == 2
        assert daemon.status()["bwlimit"] == {"upload": None, "download": None}


def test_pause_survives_a_restart_of_the_daemon(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        craftsync("pause")
        daemon.process.kill()
    (root / "second").write_text("2")
    with running(craftsync) as daemon:
        daemon.until_state("paused")
        assert not (store / "second").exists()
        craftsync("resume")
        until((store / "second").exists, "the second file")


def test_pause_during_a_transfer_leaves_no_part_and_resume_completes(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    (root / "large").write_bytes(bytes(24 << 20))
    with running(craftsync, "--bwlimit", "1M") as daemon:
        daemon.until_state("transferring")
        craftsync("pause")
        daemon.until_state("paused")
        assert not (store / "large").exists()
        craftsync("bwlimit", "off")
        craftsync("resume")
        until((store / "large").exists, "the large file")
    assert (store / "large").stat().st_size == 24 << 20


def test_the_limit_can_be_changed_while_a_transfer_waits_for_it(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    (root / "large").write_bytes(bytes(8 << 20))
    with running(craftsync, "--bwlimit", "1K") as daemon:
        assert daemon.until_state("transferring")["bwlimit"] == {"upload": 1024, "download": 1024}
        assert craftsync("bwlimit", "off:2M").lines == [
            f"{root}: up no limit, down 2097152 bytes/s"
        ]
        until((store / "large").exists, "the large file")
        assert daemon.status()["bwlimit"] == {"upload": None, "download": 2 << 20}
        craftsync("bwlimit", "default")
        assert daemon.status()["bwlimit"] == {"upload": 1024, "download": 1024}


@pytest.mark.parametrize("rate", ["fast", "-1", "0.0", "1M:2M:3M"])
def test_invalid_bwlimit_is_rejected(craftsync: Craftsync, rate: str) -> None:
    run = craftsync("bwlimit", "--", rate)
    assert run.code == 2
    assert rate in run.err


def test_stop_returns_once_root_and_store_are_free_again(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    _, store = pair
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        assert craftsync("stop").lines == [f"{pair[0]}: stopped"]
        assert daemon.process.poll() == 0
        assert craftsync("sync", "data").code == 0
    assert craftsync("stop").lines == [f"{pair[0]}: was not running"]


def test_rescan_triggers_a_scan_at_once(craftsync: Craftsync, pair: tuple[Path, Path]) -> None:
    root, store = pair
    with running(craftsync, "--poll", "3600", "--rescan", "3600"):
        until((store / "first").exists, "the first run")
        (store / "there").write_text("2")
        assert craftsync("rescan").code == 0
        until((root / "there").exists, "the object")


def test_a_pause_is_shown_and_ended_without_a_daemon(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    paused = craftsync("pause")
    assert paused.lines == [f"{root}: paused; no daemon runs, and the next one starts paused"]
    facts = json.loads(craftsync("status", "--json").out)
    line = f"paused since {facts['paused_since']}"
    assert (facts["state"], facts["paused_since"][:2]) == ("stopped", "20")
    assert f"  {line}: resume with craftsync resume --folder data" in craftsync("status").lines
    assert f"(no daemon runs; {line})" in craftsync("status", "--check").text
    assert craftsync("sync").code == 0, "a pause stops the daemon only"
    (root / "second").write_text("2")
    with running(craftsync) as daemon:
        daemon.until_logged(f"{line}: resume with craftsync resume --folder data")
        assert daemon.until_state("paused")["paused_since"] == facts["paused_since"]
        assert craftsync("stop").code == 0
    assert craftsync("resume").lines[0].startswith(f"{root}: no longer paused; no daemon runs")
    assert json.loads(craftsync("status", "--json").out)["paused_since"] is None
    assert not (store / "second").exists()
    with running(craftsync):
        until((store / "second").exists, "the second file")


def test_a_pause_of_an_unknown_folder_is_not_saved(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    run = craftsync("pause", "root", "./mistyped")
    assert (run.code, "No daemon runs" in run.err) == (1, True)
    assert not (craftsync.folder / "state/control").exists()


@pytest.mark.parametrize("command", ["resume", "rescan"])
def test_control_commands_without_a_daemon_fail(
    craftsync: Craftsync, pair: tuple[Path, Path], command: str
) -> None:
    run = craftsync(command)
    assert run.code == 1
    assert "No daemon runs" in run.err
    assert "craftsync watch" in run.err


def test_control_commands_reach_the_folders_after_one_that_refuses(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    configure(craftsync, f"}}, more: {{root: {tmp_path}/more, environment: 'store:more'")
    for name in ("more", "store/more"):
        (tmp_path / name).mkdir()
    with running(craftsync, "--poll", "3600", "--rescan", "3600") as daemon:
        daemon.until_state("watching", "data")
        daemon.until_state("watching", "more")
        assert craftsync("pause", "data").code == 0
        run = craftsync("rescan")
        assert (run.code, run.lines) == (2, [f"{tmp_path}/more: scan started"])
        assert "The daemon refuses: the folder is paused since" in run.err
        control = make_unusable(folder_of(tmp_path / "state", str(root), str(store)))
        failed = (
            f"{root}: The control socket in {control} cannot be used: Not a directory."
            " The folder must belong to you, on a filesystem that supports sockets."
        )
        run = craftsync("stop")
        assert (run.code, run.err.splitlines()) == (7, [failed])
        assert run.lines == [f"{tmp_path}/more: stopped"]
        assert daemon.process.poll() is None, "the daemon still has the other folder"
    run = craftsync("pause")
    assert (run.code, run.err.splitlines()) == (7, [failed])
    assert run.lines == [f"{tmp_path}/more: paused; no daemon runs, and the next one starts paused"]


def make_unusable(control: Path) -> Path:
    """Put a file in the place of a control folder: no permission would stop these tests where root runs them."""
    control.parent.mkdir(parents=True, exist_ok=True)
    if control.exists():
        control.rename(control.with_name("aside"))
    control.write_text("")
    return control


def test_control_command_for_several_folders_exits_with_the_most_serious_code(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    configure(craftsync, f"}}, more: {{root: {tmp_path}/more, environment: 'store:more'")
    for name in ("more", "store/more"):
        (tmp_path / name).mkdir()
    with running(craftsync, "data") as daemon:
        until((store / "first").exists, "the first run")
        assert craftsync("pause", "data").code == 0
        control = make_unusable(folder_of(tmp_path / "state", f"{tmp_path}/more", f"{store}/more"))
        run = craftsync("rescan")
        refused, unusable = run.err.splitlines()
        assert (run.code, run.lines) == (7, [])
        assert refused.startswith(f"{root}: The daemon refuses: the folder is paused since")
        assert unusable.startswith(f"{tmp_path}/more: The control socket in {control} cannot be")
        assert unusable.endswith(
            " The folder must belong to you, on a filesystem that supports sockets."
        )
        run = craftsync("stop")
        assert (run.code, run.lines) == (7, [f"{root}: stopped"])
        assert daemon.process.poll() == 0, (
            "stop waits for the daemon, although the other folder failed"
        )
    run = craftsync("rescan")
    assert (run.code, run.err.splitlines()[0]) == (7, unusable)
    assert run.err.splitlines()[1].startswith(f"No daemon runs for {root}. Start one with")


def test_second_daemon_is_rejected_with_the_process_id(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    with running(craftsync) as daemon:
        daemon.until_state("watching")
        run = craftsync("watch")
        assert run.code == 5
        assert f"process {daemon.process.pid}" in run.err
        assert daemon.status()["state"] == "watching"


def test_run_over_a_watched_folder_names_the_daemon_process(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    with running(craftsync) as daemon:
        daemon.until_state("watching")
        for store in ("data", f"{pair[0]} ./another"):
            run = craftsync("sync", *store.split())
            assert run.code == 5
            assert f"process {daemon.process.pid}" in run.err


def test_sighup_reads_the_configuration_again_and_an_invalid_one_changes_nothing(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        configure(craftsync, ", mode: sideways")
        daemon.hang_up()
        daemon.until_logged("'sideways' is not a mode")
        (store / "there").write_text("2")
        until((root / "there").exists, "an object, which comes in the old mode only")
        configure(craftsync, ", mode: push")
        daemon.hang_up()
        daemon.until_status(lambda shown: shown["mode"] == "push", "the new mode")
        assert daemon.process.poll() is None


def test_sighup_reloads_even_if_the_parent_ignores_it(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    _, store = pair
    with running(craftsync, under=("nohup",)) as daemon:
        until((store / "first").exists, "the first run")
        configure(craftsync, ", mode: push")
        daemon.hang_up()
        daemon.until_status(lambda shown: shown["mode"] == "push", "the new mode")


def test_sighup_starts_new_folders_and_leaves_the_same_ones_alone(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    _, store = pair
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        daemon.until_status(lambda shown: shown["totals"]["uploaded"] == 1, "its figures", "data")
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "file").write_text("3")
        configure_also(craftsync, "more", "more")
        daemon.hang_up()
        until((store / "more" / "file").exists, "the file of the new folder")
        assert daemon.status("data")["totals"]["uploaded"] == 1
        craftsync("stop", "more")
        assert daemon.status("data")["state"] != "stopped"
        assert daemon.status("more")["state"] == "stopped"


def test_reload_reports_whether_the_configuration_was_accepted(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    with running(craftsync) as daemon:
        until((pair[1] / "first").exists, "the first run")
        configure(craftsync, ", mode: sideways")
        run = craftsync("reload")
        assert (run.code, "'sideways' is not a mode" in run.err) == (78, True)
        assert daemon.process.poll() is None
        configure(craftsync, ", mode: push")
        assert craftsync("reload").lines == [
            f"process {daemon.process.pid}: configuration read again"
        ]
        daemon.until_status(lambda shown: shown["mode"] == "push", "the new mode")
    run = craftsync("reload")
    assert (run.code, "No daemon runs" in run.err) == (1, True)


def test_reload_applies_a_folders_changed_trash(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    words = ("trash", "list", "--json", "--folder", "data")
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        for content in ("second", "third"):
            (root / "first").write_text(content)
            until(lambda content=content: (store / "first").read_text() == content, content)  # type: ignore[misc]
        assert [entry["path"] for entry in craftsync(*words).json] == ["first", "first"]
        configure(craftsync, ", trash: {max_size: 1}")
        assert craftsync("reload").code == 0
        until(lambda: craftsync(*words).json == [], "the removal of both versions")
        assert daemon.process.poll() is None


def test_each_process_writes_its_own_metrics_file(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    configure(
        craftsync,
        f"}}, more: {{root: {tmp_path}/more, environment: 'store:more'",
        "metrics: figures/craftsync.prom\n",
    )
    with craftsync.start("watch", "data") as one, craftsync.start("watch", "more") as other:
        figures = tmp_path / "figures"
        for name in ("data", "more"):
            file = figures / f"craftsync-{name}.prom"
            until(lambda file=file: file.exists() and "craftsync_up{" in file.read_text(), name)  # type: ignore[misc]
        assert not (figures / "craftsync.prom").exists()
        for process in (one, other):
            process.terminate()
            process.communicate(timeout=DEADLINE)


def test_stopped_folder_stays_stopped_after_a_reload(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    _, store = pair
    (tmp_path / "more").mkdir()
    configure(craftsync, f"}}, more: {{root: {tmp_path}/more, environment: 'store:more'")
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run")
        daemon.until_state("watching", "more")
        assert craftsync("stop", "more").code == 0
        configure(
            craftsync, f", mode: push}}, more: {{root: {tmp_path}/more, environment: 'store:more'"
        )
        daemon.hang_up()
        daemon.until_status(lambda shown: shown["mode"] == "push", "the new mode", "data")
        assert daemon.status("more")["state"] == "stopped"
        assert "more: stopped" in daemon.log
        assert daemon.end() == 0
    with running(craftsync) as daemon:
        daemon.until_state("watching", "more")


def test_daemon_waits_outside_its_time_windows(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    _, store = pair
    opens = another_day()
    configure(craftsync, f', windows: ["{opens:%a} 12:00-12:01"]')
    reason = f"outside its windows, continues on {opens:%a} at 12:00"
    with running(craftsync) as daemon:
        facts = daemon.until_state("paused")
        assert (facts["reason"], facts["paused_since"]) == (reason, None)
        assert facts["paused_until"] == f"{opens.astimezone(UTC):%FT%H:%M:%SZ}"
        assert f"  {reason}" in craftsync("status").lines
        for words in (("status", "--check"), ("wait", "--timeout", "0.1s")):
            run = craftsync(*words)
            assert (run.code, run.text.startswith(f"data: paused ({reason}): ")) == (5, True)
        refused = craftsync("rescan")
        assert (refused.code, f"the folder is {reason}." in refused.err) == (2, True)
        daemon.until_logged(f"{reason}\n")
        assert not (store / "first").exists()
        craftsync("pause")
        facts = daemon.status()
        assert (facts["state"], facts["paused_until"]) == ("paused", None)
        assert "craftsync resume" in facts["reason"]
        craftsync("resume")
        assert daemon.status()["reason"] == reason
        configure(craftsync, ', windows: ["00:00-24:00"]')
        daemon.hang_up()
        until((store / "first").exists, "the first run")


def another_day() -> datetime:
    """Return the noon, local time, of a day that is half a week away."""
    return (datetime.now() + timedelta(days=3)).replace(hour=12, minute=0, second=0, microsecond=0)


def test_unusable_control_folder_halts_only_its_own_folder(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    configure_also(craftsync, "bad", "x")
    for name in ("bad", "store/x"):
        (tmp_path / name).mkdir()
    control = make_unusable(folder_of(tmp_path / "state", f"{tmp_path}/bad", f"{store}/x"))
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run of the other")
        daemon.until_logged("bad: halted")
        run = craftsync("status")
        assert (run.code, f"{control} cannot be used" in run.text) == (7, True)
        assert "data: ~/root" in run.text
        assert craftsync("reload").code == 0
        assert craftsync("stop", "data").lines == [f"{root}: stopped"]
        assert daemon.process.poll() is None, "it tries the other folder again"
        assert daemon.end() == 0


def test_broken_folder_halts_and_the_others_continue(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    configure_also(craftsync, "gone", "x")
    with running(craftsync) as daemon:
        until((store / "first").exists, "the first run of the other")
        assert f"{tmp_path}/gone" in daemon.until_state("halted", "gone")["reason"]
        (root / "second").write_text("2")
        until((store / "second").exists, "the second file of the other")
        assert daemon.end() == 0


def test_folder_linked_twice_is_watched_once_with_a_reason(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, _ = pair
    configure(craftsync, f"}}, twice: {{root: {root}, environment: 'store:two'")

    def halted() -> list[str]:
        found = json.loads(craftsync("status", "--json").out)
        return [facts["reason"] for facts in found if facts["state"] == "halted"]

    with running(craftsync):
        until(halted, "one of the two to halt")
        (reason,) = halted()
    assert f"This craftsync already keeps {root} in sync with another store." in reason


def test_notify_command_runs_without_a_shell(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    hook = craftsync.write("hook", '#!/bin/sh\nenv | grep CRAFTSYNC_NOTIFY > "$1"\n')
    hook.chmod(0o755)
    noted = tmp_path / "noted; $(touch never)"
    (store / "first").write_text("another")
    configure(craftsync, "", f"notify: {json.dumps([str(hook), str(noted)])}\n")
    with running(craftsync):
        until(lambda: noted.exists() and noted.read_text().count("\n") == 6, "the call")
    variables = dict(line.split("=", 1) for line in noted.read_text().splitlines())
    assert variables["CRAFTSYNC_NOTIFY_EVENT"] == "conflict"
    assert variables["CRAFTSYNC_NOTIFY_ROOT"] == str(root)
    assert variables["CRAFTSYNC_NOTIFY_PATH"] == "first"
    assert variables["CRAFTSYNC_NOTIFY_COUNT"] == "1"


def test_notify_command_output_stays_out_of_json(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    store = pair[1]
    noted = tmp_path / "noted"
    (store / "first").write_text("another")
    program = f"echo not JSON; touch {noted}"
    configure(craftsync, "", f"notify: {json.dumps(['/bin/sh', '-c', program])}\n")
    with craftsync.start("watch", "--json") as process:
        until(noted.exists, "the call")
        process.terminate()
        lines, log = process.communicate(timeout=DEADLINE)
    assert [json.loads(line)["type"] for line in lines.splitlines()] == ["conflict"]
    assert b"not JSON" in log


def test_metrics_file_has_the_figures_of_each_folder(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = pair
    file = tmp_path / "figures" / "craftsync.prom"
    configure(craftsync, "", f"metrics: {file}\n")
    labels = f'{{root="{root}",store="{store}"}}'
    with running(craftsync):
        until((store / "first").exists, "the first run")
        until(file.exists, "the figures")
        until(lambda: f"craftsync_up{labels} 1" in file.read_text(), "the pair in the figures")
        text = file.read_text()
        assert f"craftsync_conflicts{labels} 0" in text
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(names) == len(set(names)) > 10


def test_the_log_can_be_json(craftsync: Craftsync, pair: tuple[Path, Path]) -> None:
    root, _ = pair
    with running(craftsync, "--log-json") as daemon:
        daemon.until_logged("upload first")
        daemon.end()
        lines = [json.loads(line) for line in daemon.log.splitlines()]
    [upload] = [line for line in lines if line.get("event", {}).get("action") == "upload"]
    assert upload["level"] == "info"
    assert upload["root"] == str(root)
    assert upload["event"]["path"] == "first"


def test_journal_lines_have_their_severity(craftsync: Craftsync, pair: tuple[Path, Path]) -> None:
    root, store = pair
    (store / "first").write_text("another")
    words = shlex.join(["watch", str(root), str(store)])
    # As systemd does: the variable names the file that stderr is.
    script = f'exec 2>journal; export JOURNAL_STREAM=$(stat -L -c %d:%i journal); exec "$0" {words}'
    pid = os.spawnve(
        os.P_NOWAIT,
        "/bin/sh",
        ["sh", "-c", f"cd {shlex.quote(str(craftsync.folder))}; {script}", str(SCRIPT)],
        craftsync.environment,
    )
    try:
        journal = craftsync.folder / "journal"
        until(lambda: journal.exists() and "conflict" in journal.read_text(), "the conflict")
        assert craftsync("stop", str(root), str(store)).code == 0
    finally:
        os.waitpid(pid, 0)
    lines = journal.read_text().splitlines()
    assert any(line.startswith(f"<4>{root}: conflict: first") for line in lines)
    assert lines[-1] == f"<6>{root}: stopped"
