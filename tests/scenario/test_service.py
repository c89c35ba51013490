"""The service under a real systemd: started, killed, starved, stopped, taken away."""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.cli import service
from craftsync.config import file as config
from craftsync.errors import UsageError
from tests.support.cli import SCRIPT, Craftsync, until
from tests.support.serving import TOKEN, serving
from tests.support.systemd import UserManager, user_manager

pytestmark = pytest.mark.on_disk

UNITS = Path(__file__).parents[2] / "systemd"
USER, SYSTEM = UNITS / "craftsync.service", UNITS / "craftsync@.service"

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture
def craftsync(tmp_path: Path) -> Craftsync:
    """Give a user with one folder in the configuration; `data` is kept in sync with `store`."""
    craftsync = Craftsync(tmp_path)
    for name in ("data", "store"):
        (tmp_path / name).mkdir()
    configure(craftsync)
    return craftsync


@pytest.fixture
def manager(craftsync: Craftsync) -> Iterator[UserManager]:
    with user_manager(craftsync) as manager:
        yield manager


def configure(craftsync: Craftsync, keys: str = "") -> None:
    here = craftsync.folder
    craftsync.config.write_text(
        f"environments: {{store: {{store: directory, path: {here}/store}}}}\n"
        f"folders: {{data: {{root: {here}/data, environment: store{keys}}}}}\n"
    )


def arrives(craftsync: Craftsync, name: str) -> None:
    """Make a file in the root, and wait until the store has it."""
    craftsync.write(f"data/{name}")
    until((craftsync.folder / "store" / name).exists, f"{name} to arrive")


def installed(craftsync: Craftsync) -> None:
    run = craftsync("service", "install")
    assert run.code == 0, run.err
    assert "journalctl --user --unit craftsync.service" in run.text


def test_service_runs_after_install_and_is_removed_by_uninstall(
    craftsync: Craftsync, manager: UserManager
) -> None:
    installed(craftsync)
    assert manager.shows("SubState") == "running"
    assert manager.systemctl("is-enabled", "craftsync") == "enabled"
    arrives(craftsync, "first")
    manager.until_shows("StatusText", "1 watching")
    run = craftsync("service", "status")
    assert (run.code, "active (running)" in run.text) == (0, True)
    assert craftsync("service", "uninstall").code == 0
    assert manager.shows("LoadState") == "not-found"
    assert not list((craftsync.folder / ".config/systemd/user").glob("craftsync.service*"))
    assert craftsync("service", "status").code == 1
    assert (craftsync.folder / "store" / "first").exists()


def test_killed_service_is_restarted(craftsync: Craftsync, manager: UserManager) -> None:
    manager.set_up("RestartSec=0.1")
    installed(craftsync)
    arrives(craftsync, "first")
    os.kill(manager.pid, signal.SIGKILL)
    manager.until_shows("NRestarts", "1")
    arrives(craftsync, "second")


def test_hung_service_is_killed_and_restarted(craftsync: Craftsync, manager: UserManager) -> None:
    manager.set_up("RestartSec=0.1", "WatchdogSec=4", "TimeoutAbortSec=1")
    installed(craftsync)
    arrives(craftsync, "first")
    hung = manager.pid
    assert hung
    os.kill(hung, signal.SIGSTOP)
    # On a busy machine the next one may be killed, too, before it has begun.
    until(lambda: manager.pid not in (0, hung), "another process")
    arrives(craftsync, "second")


def test_watchdog_is_notified_during_a_long_transfer(
    craftsync: Craftsync, manager: UserManager
) -> None:
    configure(craftsync, ", bwlimit: 100K")
    (craftsync.folder / "data/large").write_bytes(bytes(24 << 20))
    installed(craftsync)
    manager.until_shows("StatusText", "1 transferring")
    notices = set[str]()

    def is_notified_again() -> bool:
        notices.add(manager.shows("WatchdogTimestampMonotonic"))
        return len(notices) > 2

    until(is_notified_again, "notices during the transfer")
    assert manager.shows("StatusText") == "1 transferring"
    assert not (craftsync.folder / "store/large").exists()
    assert manager.shows("NRestarts") == "0"


def test_service_stopped_in_a_transfer_resumes_when_started(
    craftsync: Craftsync, manager: UserManager
) -> None:
    configure(craftsync, ", bwlimit: 1M")
    (craftsync.folder / "data/large").write_bytes(bytes(24 << 20))
    installed(craftsync)
    manager.until_shows("StatusText", "1 transferring")
    manager.systemctl("stop", "craftsync")
    assert (manager.shows("Result"), manager.shows("ExecMainStatus")) == ("success", "0")
    assert not (craftsync.folder / "store/large").exists()
    configure(craftsync)
    manager.systemctl("start", "craftsync")
    until((craftsync.folder / "store/large").exists, "the large file")


def test_a_reload_with_an_invalid_configuration_fails_and_keeps_the_old_one(
    craftsync: Craftsync, manager: UserManager
) -> None:
    installed(craftsync)
    pid = manager.pid
    configure(craftsync, ", mode: sideways")
    reload = ["systemctl", "--user", "reload", "craftsync"]
    assert subprocess.run(reload, env=craftsync.environment, check=False).returncode != 0
    assert manager.shows("ActiveState") == "active"
    until(lambda: "'sideways' is not a mode" in manager.shows("StatusText"), "the refusal")
    arrives(craftsync, "first")
    configure(craftsync, ", mode: push")
    manager.systemctl("reload", "craftsync")
    until(lambda: "refused" not in manager.shows("StatusText"), "the new configuration")
    arrives(craftsync, "second")
    assert manager.pid == pid


def test_service_with_an_invalid_configuration_is_not_restarted(
    craftsync: Craftsync, manager: UserManager
) -> None:
    installed(craftsync)
    manager.set_up("RestartSec=0.1")
    craftsync.config.write_text("folders: nonsense")
    manager.systemctl("restart", "craftsync", check=False)
    assert manager.shows("ActiveState") == "failed"
    assert manager.shows("ExecMainStatus") == "78"
    assert manager.shows("NRestarts") == "0"


def test_service_halts_while_the_folder_is_missing(
    craftsync: Craftsync, manager: UserManager
) -> None:
    installed(craftsync)
    arrives(craftsync, "first")
    pid = manager.pid
    (craftsync.folder / "data").rename(craftsync.folder / "elsewhere")
    until(lambda: manager.shows("StatusText").startswith("1 halted"), "the halt")
    assert (craftsync.folder / "store/first").exists()
    (craftsync.folder / "elsewhere").rename(craftsync.folder / "data")
    assert craftsync("rescan").code == 0
    arrives(craftsync, "second")
    assert manager.pid == pid


KERNEL = (
    "MemoryDenyWriteExecute=",
    "SystemCallFilter=",
    "RestrictAddressFamilies=",
    "PrivateUsers=",
)


@pytest.fixture
def platform(craftsync: Craftsync) -> Iterator[None]:
    """Serve the store as the platform does, and keep the folder in sync with that."""
    with serving(craftsync.folder / "store") as server:
        access = f"store: craft-ai, url: '{server.url}', control_url: '{server.url}'"
        craftsync.config.write_text(
            f"environments: {{dev: {{{access}}}}}\n"
            f"folders: {{data: {{root: {craftsync.folder}/data, environment: dev}}}}\n"
        )
        yield


def test_system_service_works_within_its_sandbox(
    craftsync: Craftsync, platform: None, manager: UserManager
) -> None:
    """Those of its lines that a user's manager can bring about too, with the store that needs most."""
    lines = [line for line in SYSTEM.read_text().splitlines() if line.startswith(KERNEL)]
    assert len(lines) == 5
    manager.set_up(f"Environment=CRAFT_AI_SDK_TOKEN={TOKEN}", *lines)
    installed(craftsync)
    arrives(craftsync, "first")


def test_a_token_may_come_as_a_credential_of_systemd(
    craftsync: Craftsync, platform: None, manager: UserManager
) -> None:
    credential = f"LoadCredential=CRAFT_AI_SDK_TOKEN:{craftsync.write('token', TOKEN)}"
    if not manager.hands_over(credential, "CRAFT_AI_SDK_TOKEN"):
        pytest.skip("this machine lets systemd mount nothing, so it hands over no credentials")
    manager.set_up(credential)
    installed(craftsync)
    arrives(craftsync, "first")


def test_service_with_another_state_folder_prints_how_to_query_it(
    craftsync: Craftsync, manager: UserManager
) -> None:
    run = craftsync("service", "install", "--state-dir", "my state")
    assert run.code == 0, run.err
    (line,) = (line for line in run.lines if line.startswith("Its status:"))
    words = shlex.split(line.partition("craftsync ")[2])
    assert words == ["--state-dir", f"{craftsync.folder}/my state", "status"]
    until(lambda: "watching" in craftsync(*words).text, "the service to be found")


def test_a_configuration_that_the_owner_of_the_folder_cannot_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "etc" / "config.yaml"
    file.parent.mkdir(mode=0o700)
    file.touch(0o600)
    monkeypatch.setattr(service, "_SYSTEM_CONFIG", file)
    nobody = pwd.getpwnam("nobody")
    for place, mode in ((file, 0o644), (file.parent, 0o755)):
        with pytest.raises(UsageError, match=f"{place} cannot be read by nobody") as caught:
            service._refuse_unreadable(nobody)
        assert "chmod a+rX" in caught.value.remedy
        place.chmod(mode)
    service._refuse_unreadable(nobody)


def test_nothing_is_installed_for_a_configuration_without_folders(craftsync: Craftsync) -> None:
    craftsync.config.write_text("")
    run = craftsync("service", "install")
    assert run.code == 78
    assert "No folder is configured" in run.err
    assert "craftsync init" in run.err
    assert not (craftsync.folder / ".config").exists()


def test_service_install_without_systemd_fails_and_leaves_nothing(craftsync: Craftsync) -> None:
    run = craftsync("service", "install", XDG_RUNTIME_DIR=str(craftsync.folder / "none"))
    assert run.code == 1
    assert "systemd is not available" in run.err
    assert "craftsync watch" in run.err
    assert not (craftsync.folder / ".config").exists()


def test_user_service_rejects_a_folder_argument(craftsync: Craftsync) -> None:
    run = craftsync("service", "install", "data")
    assert run.code == 2
    assert "--system" in run.err


@needs_analyze
def test_systemd_units_are_valid(tmp_path: Path) -> None:
    assert verified(tmp_path / USER.name, USER, "--user") == ""
    assert verified(tmp_path / SYSTEM.name, SYSTEM) == ""


@needs_analyze
def test_system_service_has_a_low_exposure_level(tmp_path: Path) -> None:
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(SYSTEM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", run.stdout)
    assert level, run.stderr
    assert float(level[1]) <= 3.0


@needs_analyze
def test_system_service_runs_as_the_folder_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed for real it needs a machine that was booted by systemd; its files do not."""
    root, store, units = tmp_path / "my 100% data", tmp_path / "store", tmp_path / "units"
    for folder in (root, store, units):
        folder.mkdir()
    file = tmp_path / "config.yaml"
    file.write_text(
        f"environments: {{store: {{store: directory, path: {store}}}}}\n"
        f"folders: {{data: {{root: {root}, environment: store}}}}\n"
    )
    monkeypatch.setattr(service, "_SYSTEM_CONFIG", file)
    monkeypatch.setattr(service, "_SYSTEM_UNITS", units)
    monkeypatch.setattr("sys.argv", [str(SCRIPT)])
    unit = service.unit_of(None, True)
    for place, content in unit.files({}):
        place.parent.mkdir(exist_ok=True)
        place.write_text(content)
    drop_in = (units / "craftsync@data.service.d" / "craftsync.conf").read_text().splitlines()
    assert drop_in == [
        "[Service]",
        f"User={getpass.getuser()}",
        f'ReadWritePaths="{tmp_path}/my 100%% data"',
        f"ReadWritePaths={store}",
    ]
    assert verified(units / "craftsync@data.service", units / "craftsync@.service") == ""


@needs_analyze
def test_system_service_can_write_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data", "store"):
        (tmp_path / name).mkdir()
    file, figures = tmp_path / "config.yaml", tmp_path / "figures"
    file.write_text(
        "environments: {store: {store: directory, path: store}}\n"
        "folders: {data: {root: data, environment: store}}\n"
        "metrics: figures/craftsync.prom\n"
    )
    monkeypatch.setattr(service, "_SYSTEM_CONFIG", file)
    monkeypatch.setattr(service, "_SYSTEM_UNITS", tmp_path / "units")
    with pytest.raises(UsageError, match=f"metrics: {figures} is not a folder"):
        list(service.unit_of(None, True).files({}))
    figures.mkdir()
    *_, (_, drop_in) = service.unit_of(None, True).files({})
    assert f"ReadWritePaths={figures}" in drop_in.splitlines()


def test_service_install_fails_when_metrics_cannot_be_written(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError, match="nobody, the owner of the linked folder, can write to"):
        service._refuse_unwritable(nobody, tmp_path)
    tmp_path.chmod(0o777)
    service._refuse_unwritable(nobody, tmp_path)


def test_configuration_on_the_service_page_is_valid() -> None:
    shown = (UNITS.parent / "docs/service.md").read_text().partition("<!-- the daemon's keys")[2]
    text = shown.partition("```yaml\n")[2].partition("```")[0]
    loaded = config.parse(text, Path("/etc/craftsync/config.yaml"))
    assert loaded.folders["datasets"].given["windows"]
    assert loaded.metrics
    assert loaded.metrics_addr == ("127.0.0.1", 9469)
    assert loaded.notify


def verified(unit: Path, content: Path, *words: str) -> str:
    """Return what systemd finds wrong with a unit file of this content."""
    unit.write_text(content.read_text().replace("/usr/bin/craftsync", str(SCRIPT)))
    run = subprocess.run(
        ["systemd-analyze", "verify", *words, str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout + run.stderr
