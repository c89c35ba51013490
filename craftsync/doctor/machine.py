"""Checks of this machine: versions, limits, the folder of the state databases, the configuration."""

from __future__ import annotations

import os
import platform
import re
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from craftsync import __version__
from craftsync.config.file import Config, CraftAiEnvironment
from craftsync.config.secrets import TOKEN_ENV, in_dotenv
from craftsync.doctor import mounts
from craftsync.doctor.findings import Check, Finding, Level, note, ok, warning
from craftsync.doctor.folder import count_folders
from craftsync.errors import ConfigError, StateError

_INOTIFY = Path("/proc/sys/fs/inotify")
_ENOUGH_WATCHES = 524_288
_MOST_FOLDERS = 2_000_000
_ENOUGH_FILES = 1024
"""Open files. Sixteen transfers and the folders around them need some two hundred."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is examined of this machine, beside itself. `broken` is why the configuration is empty."""

    config: Config
    broken: ConfigError | None
    state_dir: Path
    roots: tuple[Path, ...]
    """The folders that would be watched."""


def _versions(machine: Machine) -> Iterator[Finding]:
    found = {name: _version_of(name) for name in _required()}
    missing = [name for name, number in found.items() if number is None]
    parts = [f"craftsync {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {number}" for name, number in found.items() if number]
    yield ok("versions", f"{', '.join(parts)}; Linux {platform.release()}")
    if missing:
        yield Finding(
            "libraries",
            Level.ERROR,
            f"{', '.join(missing)} is not installed",
            "Install craftsync again: pip install --force-reinstall craftsync",
            exit_code=1,
        )


def _craft_ai_sdk(machine: Machine) -> Iterator[Finding]:
    found = _version_of("craft-ai-sdk")
    if found is None:
        yield note(
            "craft-ai-sdk",
            "not installed; only Craft AI environments need it",
            "pip install 'craftsync[craft-ai]'",
        )
        return
    from craftsync.stores.craftai.contract import NEWEST_TESTED, OLDEST_TESTED

    oldest, newest = (".".join(map(str, each)) for each in (OLDEST_TESTED, NEWEST_TESTED))
    if OLDEST_TESTED <= _number(found) <= NEWEST_TESTED:
        yield ok("craft-ai-sdk", f"{found}, within the tested {oldest} to {newest}")
    else:
        yield warning(
            "craft-ai-sdk",
            f"{found} is outside of what craftsync is tested with ({oldest} to {newest})",
            f"If something fails: pip install 'craft-ai-sdk=={newest}.*'",
        )


def _config(machine: Machine) -> Iterator[Finding]:
    if machine.broken:
        raise machine.broken
    environments, folders = machine.config.environments, machine.config.folders
    if environments or folders:
        yield ok("config", f"{len(environments)} environments, {len(folders)} folders")
    else:
        yield note(
            "config",
            "there is none, or it is empty: stores and roots are named in each command",
            "config.example.yaml shows how to give them names.",
        )


def _secrets(machine: Machine) -> Iterator[Finding]:
    for name, environment in machine.config.environments.items():
        if not isinstance(environment, CraftAiEnvironment) or environment.token_file is None:
            continue
        file = environment.token_file
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            yield warning(f"token of {name}", f"others can read {file}", f"chmod 600 {file}")
    file = Path(".env")
    if in_dotenv(TOKEN_ENV, None) and stat.S_IMODE(file.stat().st_mode) & 0o077:
        yield warning("token in .env", f"others can read {file.absolute()}", "chmod 600 .env")


def _state_folder(machine: Machine) -> Iterator[Finding]:
    folder = machine.state_dir
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise StateError(
            f"{folder} cannot be written",
            remedy="Change its owner, or name another with --state-dir or CRAFTSYNC_STATE_DIR.",
        )
    kind = mounts.kind_of(there)
    if mounts.is_network(kind):
        yield warning(
            "state folder",
            f"{folder} lies on {kind}, a network filesystem, whose locks a database cannot trust",
            "Name a folder on a local disk with --state-dir or CRAFTSYNC_STATE_DIR.",
        )
    else:
        made = "" if there == folder else ", made when it is needed"
        yield ok("state folder", f"{folder} on {kind}{made}")


def _watches(machine: Machine) -> Iterator[Finding]:
    allowed = _limit("max_user_watches")
    folders = sum(count_folders(root, most=_MOST_FOLDERS) for root in machine.roots)
    detail = f"{allowed} folders can be watched by each user; the roots examined have {folders}"
    # Editors and desktops take from the same number.
    if folders > 0.8 * allowed:
        yield warning(
            "watches", detail, _sysctl("max_user_watches", max(2 * folders, _ENOUGH_WATCHES))
        )
    else:
        yield ok("watches", detail)


def _watch_instances(machine: Machine) -> Iterator[Finding]:
    allowed, needed = _limit("max_user_instances"), len(machine.roots)
    detail = f"{allowed} watchers for each user; craftsync needs one for each root, here {needed}"
    if needed > allowed // 2:
        yield warning("watchers", detail, _sysctl("max_user_instances", 4 * needed))
    else:
        yield ok("watchers", detail)


def _watch_queue(machine: Machine) -> Iterator[Finding]:
    allowed = _limit("max_queued_events")
    detail = f"{allowed} events can wait; when more come at once, the whole root is scanned"
    if allowed < 16_384:
        yield warning("watch queue", detail, _sysctl("max_queued_events", 16_384))
    else:
        yield ok("watch queue", detail)


def _open_files(machine: Machine) -> Iterator[Finding]:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    shown = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    if soft != resource.RLIM_INFINITY and soft < _ENOUGH_FILES:
        yield warning(
            "open files",
            f"at most {shown}, which a run shares out: fewer transfers at once",
            f"raise the hard limit to {_ENOUGH_FILES} (LimitNOFILE= of a unit, ulimit -Hn): a folder that"
            " is watched needs about a dozen, each transfer two",
        )
    else:
        yield ok("open files", f"at most {shown}")


CHECKS: tuple[Check[Machine], ...] = (
    *(_versions, _craft_ai_sdk, _config, _secrets, _state_folder),
    *(_watches, _watch_instances, _watch_queue, _open_files),
)


def _required() -> list[str]:
    """Return the packages craftsync cannot do without, as its own metadata names them."""
    wanted = (text for text in requires("craftsync") or () if "extra ==" not in text)
    return [re.split(r"[^\w.-]", text)[0] for text in wanted]


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())


def _limit(name: str) -> int:
    return int((_INOTIFY / name).read_text())


def _sysctl(name: str, value: int) -> str:
    setting = f"fs.inotify.{name}={value}"
    return f"sudo sysctl {setting}; to keep it, put that setting into /etc/sysctl.d/craftsync.conf"
