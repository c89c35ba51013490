"""`service`: install `craftsync watch` as a systemd service, and remove it."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from craftsync import linked_folders
from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import say
from craftsync.config import file as configuration
from craftsync.config.places import DirectoryLocation
from craftsync.errors import ConfigError, CraftsyncError, UsageError

_UNIT, _TEMPLATE = "craftsync.service", "craftsync@.service"
_PACKAGED = "/usr/bin/craftsync"
"""The placeholder for the program in the unit files."""
_SYSTEM_CONFIG = Path("/etc/craftsync/config.yaml")
_SYSTEM_STATE = "/var/lib/craftsync"
_SYSTEM_UNITS = Path("/etc/systemd/system")

_INSTANCE = re.compile(r"[A-Za-z0-9_.-]+")

_which = common.all_of(
    click.argument("folder", required=False),
    click.option(
        "--system",
        is_flag=True,
        help=f"The service of the machine for one FOLDER of {_SYSTEM_CONFIG}.",
    ),
)


@click.group(cls=Group)
def service() -> None:
    """Run craftsync in the background, as a systemd service.

    \b
    Examples:
      craftsync service install
      sudo craftsync service install --system datasets
      craftsync service status
    """


@service.command(cls=common.Command)
@_which
def install(folder: str | None, system: bool, **flags: Any) -> None:
    """Write the unit file, and start the service now and at each start-up."""
    unit = unit_of(folder, system)
    unit.check_config(flags["config"])
    unit.ask("show", "--property=Version")
    for file, content in unit.files(flags):
        _write(file, content)
    unit.ask("daemon-reload")
    unit.ask("enable", unit.name)
    unit.ask("restart", unit.name)
    say(f"{unit.name} runs, and starts with {'the machine' if system else 'your session'}.")
    for line in unit.hints(flags):
        say(line)


@service.command(cls=common.Command)
@_which
def uninstall(folder: str | None, system: bool, **flags: Any) -> None:
    """Stop the service and remove its unit file; folders, stores and state stay."""
    unit = unit_of(folder, system)
    unit.ask("show", "--property=Version")
    if not unit.is_installed:
        raise CraftsyncError(f"{unit.name} is not installed.")
    unit.ask("disable", "--now", unit.name)
    for file in unit.own_files():
        file.unlink()
        say(f"removed {file}")
    with suppress(OSError):
        unit.drop_in.parent.rmdir()
    unit.ask("daemon-reload")


@service.command(cls=common.Command)
@_which
def status(folder: str | None, system: bool, **flags: Any) -> int:
    """Print systemd's status of the service; `craftsync status` prints that of the folders."""
    unit = unit_of(folder, system)
    unit.ask("show", "--property=Version")
    command = [*unit.systemctl, "--no-pager", "status", unit.name]
    return 1 if subprocess.run(command, check=False).returncode else 0


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd service: that of the user or, with `folder`, one of the machine."""

    folder: str | None

    @property
    def name(self) -> str:
        return f"craftsync@{self.folder}.service" if self.folder else _UNIT

    @property
    def systemctl(self) -> list[str]:
        return ["systemctl"] if self.folder else ["systemctl", "--user"]

    @property
    def place(self) -> Path:
        """The path of its unit file."""
        if self.folder:
            return _SYSTEM_UNITS / _TEMPLATE
        home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return Path(home).expanduser() / "systemd" / "user" / _UNIT

    @property
    def drop_in(self) -> Path:
        """The path of its drop-in file, with the settings of this service alone."""
        return self.place.with_name(f"{self.name}.d") / "craftsync.conf"

    @property
    def is_installed(self) -> bool:
        return (self.drop_in if self.folder else self.place).exists()

    def own_files(self) -> list[Path]:
        """Return the files that `uninstall` removes; a template stays, as other folders may use it."""
        served = set(self.place.parent.glob("craftsync@*.service.d/craftsync.conf"))
        alone = not self.folder or served <= {self.drop_in}
        return [file for file in (self.drop_in, *([self.place] * alone)) if file.exists()]

    def ask(self, *words: str) -> None:
        """Call systemctl; raises `CraftsyncError` with its message if it fails."""
        try:
            done = subprocess.run(
                [*self.systemctl, *words], capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise _no_systemd("systemctl was not found") from error
        output = (done.stderr or done.stdout).strip()
        if done.returncode and ("connect to bus" in output or "not been booted" in output):
            raise _no_systemd(output)
        if done.returncode:
            raise CraftsyncError(
                f"systemctl {' '.join(words)}: {output}",
                remedy=f"For the log of the service, run {self.journal}.",
            )

    @property
    def journal(self) -> str:
        return f"journalctl {'' if self.folder else '--user '}--unit {self.name}"

    def check_config(self, named: str | None) -> None:
        """Raise `ConfigError` if the configuration of the service has no folder."""
        config = configuration.load(_SYSTEM_CONFIG if self.folder else named)
        if not config.folders:
            raise ConfigError(
                "No folder is configured, so there is nothing to keep in sync.",
                remedy="Add one with craftsync init ROOT STORE.",
            )

    def files(self, flags: dict[str, Any]) -> Iterator[tuple[Path, str]]:
        """Yield the files of the service with their content."""
        text = _unit_file(_TEMPLATE if self.folder else _UNIT)
        yield self.place, text.replace(_PACKAGED, _program())
        if self.folder:
            yield self.drop_in, _system_drop_in(self.folder)
        elif settings := _user_settings(flags):
            yield self.drop_in, settings
        else:
            self.drop_in.unlink(missing_ok=True)

    def hints(self, flags: dict[str, Any]) -> Iterator[str]:
        """Yield hints to print after the installation."""
        yield f"Its log:     {self.journal} --follow"
        if self.folder:
            options = f"--config {_SYSTEM_CONFIG} --state-dir {_SYSTEM_STATE}/{self.folder}"
            yield f"Its status:  craftsync {options} status {self.folder}"
            return
        yield f"Its status:  {shlex.join(['craftsync', *_places(flags), 'status'])}"
        user = pwd.getpwuid(os.getuid()).pw_name
        if not Path("/var/lib/systemd/linger", user).exists():
            yield f"To keep it running while you are not logged in: sudo loginctl enable-linger {user}"


def unit_of(folder: str | None, system: bool) -> Unit:
    """Return the service that the arguments name; raises `UsageError` for an unknown folder."""
    if not system:
        if folder is not None:
            raise UsageError(
                "A user's service keeps every configured folder in sync.",
                remedy=f"If {folder} is not configured, add it with craftsync init; then run craftsync"
                " service install without a folder. --system installs a service of the machine"
                " for one folder.",
            )
        return Unit(None)
    known = list(configuration.load(_SYSTEM_CONFIG).folders)
    name = folder or (known[0] if len(known) == 1 else "")
    if name not in known:
        raise UsageError(
            f"{name!r} is not a folder of {_SYSTEM_CONFIG} (known: {', '.join(known) or 'none'}).",
            remedy="Give a known name, or add a folder: "
            f"sudo craftsync --config {_SYSTEM_CONFIG} init NAME ROOT STORE",
        )
    if not _INSTANCE.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a service.",
            remedy="Give the folder a name of letters without accents, digits, dots and dashes.",
        )
    return Unit(name)


def _places(flags: dict[str, Any]) -> Iterator[str]:
    """Yield the flags for the same configuration and state."""
    for flag, name in (("--config", "config"), ("--state-dir", "state_dir")):
        if flags[name] and flags[name] != os.environ.get(f"CRAFTSYNC_{name.upper()}"):
            yield from (flag, os.path.abspath(os.path.expanduser(flags[name])))


def _user_settings(flags: dict[str, Any]) -> str:
    """Return a drop-in with the configuration and state folder of this call."""
    named = {"CRAFTSYNC_CONFIG": flags["config"], "CRAFTSYNC_STATE_DIR": flags["state_dir"]}
    lines = [
        f"Environment={_quoted(f'{name}={os.path.abspath(os.path.expanduser(value))}')}"
        for name in named
        if (value := named[name] or os.environ.get(name))
    ]
    return "\n".join(["[Service]", *lines, ""]) if lines else ""


def _system_drop_in(name: str) -> str:
    """Return a drop-in with the user of the service, and the folders it may write to."""
    pair = linked_folders.resolve([name], {"config": _SYSTEM_CONFIG})
    writable = [pair.root]
    if isinstance(pair.location, DirectoryLocation):
        writable.append(pair.location.path)
    for path in writable:
        if not path.is_dir():
            raise UsageError(
                f"{path} does not exist.", remedy="Create it, owned by the user of the service."
            )
    owner = pwd.getpwuid(pair.root.stat().st_uid)
    _refuse_unreadable(owner)
    figures = configuration.load(_SYSTEM_CONFIG).metrics
    if figures is not None:
        _refuse_unwritable(owner, figures.parent)
        writable.append(figures.parent)
    paths = [f"ReadWritePaths={_quoted(str(path))}" for path in writable]
    return "\n".join(["[Service]", f"User={owner.pw_name}", *paths, ""])


def _refuse_unreadable(owner: pwd.struct_passwd) -> None:
    """Raise `UsageError` unless the service can read its configuration as that user."""
    for place, bit in ((_SYSTEM_CONFIG, stat.S_IROTH), (_SYSTEM_CONFIG.parent, stat.S_IXOTH)):
        found = place.stat()
        if found.st_uid != owner.pw_uid and not found.st_mode & (bit | (bit << 3)):
            raise UsageError(
                f"{place} cannot be read by {owner.pw_name}, who owns the folder.",
                remedy=f"sudo chmod a+rX {_SYSTEM_CONFIG.parent} {_SYSTEM_CONFIG}"
                " (a configuration holds no secret).",
            )


def _refuse_unwritable(owner: pwd.struct_passwd, folder: Path) -> None:
    """Raise `UsageError` unless the service can write its metrics file as that user."""
    found = folder.stat() if folder.is_dir() else None
    groups = os.getgrouplist(owner.pw_name, owner.pw_gid)
    if found is None or not (
        owner.pw_uid == 0
        or (found.st_uid == owner.pw_uid and found.st_mode & stat.S_IWUSR)
        or (found.st_gid in groups and found.st_mode & stat.S_IWGRP)
        or found.st_mode & stat.S_IWOTH
    ):
        raise UsageError(
            f"metrics: {folder} is not a folder that {owner.pw_name}, the owner of the linked folder, can write to.",
            remedy=f"sudo install -d -o {owner.pw_name} {folder}, or name another file.",
        )


def _unit_file(name: str) -> str:
    """Return a unit file: next to the package in a checkout, inside it when installed."""
    package = Path(__file__).parents[1]
    for folder in (package / "systemd", package.parent / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8")
    raise CraftsyncError(
        f"The unit file {name} is missing from this installation.",
        remedy="Reinstall craftsync.",
    )


def _program() -> str:
    """Return the path of this program for a unit file."""
    called = shutil.which(sys.argv[0]) or sys.argv[0]
    return _quoted(os.path.abspath(called).replace("$", "$$"))


def _quoted(word: str) -> str:
    """Return a word quoted for a unit file (systemd.syntax(7); "%" as in systemd.unit(5), "Specifiers")."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{plain}"' if re.search(r"[\s\"'\\;]", plain) else plain


def _write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, "utf-8")
    say(f"wrote {file}")


def _no_systemd(reason: str) -> CraftsyncError:
    return CraftsyncError(
        f"systemd is not available: {reason}.",
        remedy="Start craftsync watch with the service manager of this machine.",
    )
