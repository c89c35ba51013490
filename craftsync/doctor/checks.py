"""Checks of the machine, of a folder, and of the platform's responses.

A check that needs files uses `.craftsync`, if it exists.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

from craftsync import __version__
from craftsync.config.file import Config, CraftAiEnvironment
from craftsync.config.options import Transport
from craftsync.config.places import CraftAiLocation
from craftsync.config.secrets import TOKEN_ENV, in_dotenv
from craftsync.core.model import OWN_FOLDER
from craftsync.doctor.report import Check, Finding, Level, note, ok, warning
from craftsync.errors import ConfigError, RootError, StateError
from craftsync.install_hint import install_command, pip_command
from craftsync.local import exclusive_rename, linux
from craftsync.open_store import access_to
from craftsync.wording import counted

_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "lustre", "ncpfs", "nfs"),
    *("nfs4", "smb3", "smbfs"),
    *("fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}


def filesystem_type(folder: Path) -> str:
    """Return the filesystem type of a folder, such as "ext4" or "nfs4"."""
    place = os.path.realpath(folder)
    kind, depth = "unknown", -1
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split(" ")[4])
        # A later mount over the same point hides the earlier one.
        if _contains(point, place) and len(point) >= depth:
            kind, depth = after.split(" ")[0], len(point)
    return kind


def is_network(kind: str) -> bool:
    """Return whether other machines can change files on a filesystem of this type."""
    return kind in _NETWORK


def _contains(point: str, place: str) -> bool:
    return place == point or place.startswith(point.rstrip("/") + "/")


def _unescaped(field: str) -> str:
    """Return a field with its octal escapes (of blanks and backslashes) decoded."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


_LOW_SPACE = 256 << 20
"""Bytes; a download needs space for the new file beside the old one."""


def _folder(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        raise RootError(
            f"{folder} does not exist, or is not a folder",
            remedy="Check that its disk is mounted. If it is new, create it; `pull` does so, too.",
        )
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield ok("folder", f"{folder} can be read and written")
    else:
        yield warning(
            "folder",
            f"{folder} cannot be read or cannot be written",
            "Change its owner or permissions; a folder that can only be read can still be pushed.",
        )


def _filesystem(folder: Path) -> Iterator[Finding]:
    kind = filesystem_type(folder)
    if is_network(kind):
        yield warning(
            "filesystem",
            f"{kind}, a network filesystem: changes by other machines are not noticed at once",
            "Run craftsync on the machine with the disk, or shorten `rescan`.",
        )
    else:
        yield ok("filesystem", kind)


def _room(folder: Path) -> Iterator[Finding]:
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    # Btrfs and others create inodes on demand, and report none.
    without_inodes = facts.f_files > 0 and facts.f_favail == 0
    if free < _LOW_SPACE or without_inodes:
        yield warning(
            "room", f"{free >> 20} MiB are left", "Free some space before large files arrive."
        )
    else:
        yield ok(
            "room", f"{free >> 30} GiB are left" if free >> 30 else f"{free >> 20} MiB are left"
        )


def _unnamed_files(folder: Path) -> Iterator[Finding]:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as error:
        yield note(
            "unnamed files",
            f"not supported here ({error.strerror}): temporary files get names in {OWN_FOLDER}/tmp",
        )
    else:
        yield ok("unnamed files", "a crash leaves no half-written file behind (O_TMPFILE)")


def _timestamps(folder: Path) -> Iterator[Finding]:
    with _opened(folder) as descriptor:
        step = exclusive_rename.timestamp_granularity_ns(descriptor)
    if step >= 1_000_000_000:
        yield note(
            "timestamps",
            f"two changes within {step // 1_000_000_000} s may get the same time:"
            " files that changed that recently are read again",
        )
    else:
        yield ok("timestamps", f"fine enough to tell changes {step // 1_000_000} ms apart")


def _durability(folder: Path) -> Iterator[Finding]:
    with _opened(folder) as descriptor:
        linux.syncfs(descriptor)
    yield ok("durability", "written data can be flushed to the disk (syncfs)")


def _names(folder: Path) -> Iterator[Finding]:
    own = folder / OWN_FOLDER
    if own.is_symlink() or not own.is_dir():
        yield note("names", f"not tested: craftsync has not used {folder} yet")
        return
    with TemporaryDirectory(prefix="doctor-", dir=own) as trial:
        yield from _tried_names(Path(trial))


def _tried_names(trial: Path) -> Iterator[Finding]:
    for name in ("a", "\u00e9", "b"):
        (trial / name).write_bytes(b"")
    if (trial / "A").exists() or (trial / unicodedata.normalize("NFD", "\u00e9")).exists():
        yield warning(
            "names",
            "names that differ only in case, or in the encoding of an accent, are the same file here",
            "Avoid such names in the store, or use a filesystem that distinguishes them.",
        )
    else:
        yield ok(
            "names",
            "names that differ only in case, or in the encoding of an accent, are different files",
        )
    with _opened(trial) as descriptor:
        if exclusive_rename.can_exchange(descriptor, "a", "b"):
            yield ok("swapping", "a file is replaced in one step (renameat2)")
        else:
            yield note(
                "swapping",
                "a file is not replaced in one step: what another program saves at the instant when"
                " craftsync replaces the same file can be lost",
                "Use a local Linux filesystem if other programs write at the same time.",
            )


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


DISK_CHECKS: tuple[Check[Path], ...] = (
    *(_filesystem, _room, _unnamed_files, _timestamps, _durability, _names),
)
"""Checks of any folder with the user's files."""

ROOT_CHECKS: tuple[Check[Path], ...] = (_folder, *DISK_CHECKS)


def count_folders(root: Path, *, most: int) -> int:
    """Return the number of folders in a root, including itself but not craftsync's own; stop at `most`."""
    waiting, count = [str(root)], 0
    while waiting and count < most:
        count += 1
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            waiting += [
                entry.path
                for entry in entries
                if entry.name != OWN_FOLDER and entry.is_dir(follow_symlinks=False)
            ]
    return count


_INOTIFY = Path("/proc/sys/fs/inotify")
_ENOUGH_WATCHES = 524_288
_MOST_FOLDERS = 2_000_000
_ENOUGH_FILES = 1024
"""Open files. Sixteen transfers with their folders need about two hundred."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The settings of this machine to examine. `broken` is why the configuration could not be read."""

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
            f"Install craftsync again: {install_command()}",
            exit_code=1,
        )


def _craft_ai_sdk(machine: Machine) -> Iterator[Finding]:
    """Check the platform's SDK, if it is used."""
    environments = machine.config.environments.values()
    if not any(getattr(each, "transport", None) is Transport.SDK for each in environments):
        return
    found = _version_of("craft-ai-sdk")
    if found is None:
        yield warning(
            "craft-ai-sdk",
            "not installed, but transport: sdk needs it",
            f"Install it with: {install_command('sdk')}",
        )
        return
    from craftsync.stores.craftai.sdk import NEWEST_TESTED, OLDEST_TESTED

    oldest, newest = (".".join(map(str, each)) for each in (OLDEST_TESTED, NEWEST_TESTED))
    if OLDEST_TESTED <= _number(found) <= NEWEST_TESTED:
        yield ok("craft-ai-sdk", f"{found}, within the tested {oldest} to {newest}")
    else:
        yield warning(
            "craft-ai-sdk",
            f"{found} is outside the range that craftsync is tested with ({oldest} to {newest})",
            f"If something fails: {pip_command(f'craft-ai-sdk=={newest}.*')}",
        )


def _config(machine: Machine) -> Iterator[Finding]:
    if machine.broken:
        raise machine.broken
    environments, folders = machine.config.environments, machine.config.folders
    if environments or folders:
        named = counted(len(environments), "environment"), counted(len(folders), "folder")
        yield ok("config", ", ".join(named))
    else:
        yield note(
            "config",
            "missing or empty: each command must name its folder and store",
            "craftsync init gives them a name; craftsync config example prints every option.",
        )


def _secrets(machine: Machine) -> Iterator[Finding]:
    for name, environment in machine.config.environments.items():
        if not isinstance(environment, CraftAiEnvironment) or environment.token_file is None:
            continue
        file = environment.token_file
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            yield warning(f"token of {name}", f"other users can read {file}", f"chmod 600 {file}")
    file = Path(".env")
    if in_dotenv(TOKEN_ENV, None) and stat.S_IMODE(file.stat().st_mode) & 0o077:
        yield warning("token in .env", f"other users can read {file.absolute()}", "chmod 600 .env")


def _state_folder(machine: Machine) -> Iterator[Finding]:
    folder = machine.state_dir
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise StateError(
            f"{folder} cannot be written",
            remedy="Change its owner, or name another with --state-dir or CRAFTSYNC_STATE_DIR.",
        )
    kind = filesystem_type(existing)
    if is_network(kind):
        yield warning(
            "state folder",
            f"{folder} is on {kind}, a network filesystem, whose locks a database cannot trust",
            "Name a folder on a local disk with --state-dir or CRAFTSYNC_STATE_DIR.",
        )
    else:
        made = "" if existing == folder else ", created when needed"
        yield ok("state folder", f"{folder} on {kind}{made}")


def _watches(machine: Machine) -> Iterator[Finding]:
    allowed = _limit("max_user_watches")
    folders = sum(count_folders(root, most=_MOST_FOLDERS) for root in machine.roots)
    detail = f"each user can watch {allowed} folders; the examined linked folders contain {folders}"
    # Editors and desktops use the same quota.
    if folders > 0.8 * allowed:
        yield warning(
            "watches", detail, _sysctl("max_user_watches", max(2 * folders, _ENOUGH_WATCHES))
        )
    else:
        yield ok("watches", detail)


def _watch_instances(machine: Machine) -> Iterator[Finding]:
    allowed, needed = _limit("max_user_instances"), len(machine.roots)
    detail = f"each user can have {allowed} watchers; craftsync needs one for each linked folder, here {needed}"
    if needed > allowed // 2:
        yield warning("watchers", detail, _sysctl("max_user_instances", 4 * needed))
    else:
        yield ok("watchers", detail)


def _watch_queue(machine: Machine) -> Iterator[Finding]:
    allowed = _limit("max_queued_events")
    detail = f"{allowed} events can be queued; if more arrive at once, the whole folder is scanned"
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
            f"at most {shown}, so runs make fewer transfers at once",
            f"Raise the hard limit to {_ENOUGH_FILES} (LimitNOFILE= of a unit, ulimit -Hn): a watched"
            " folder needs about a dozen, each transfer two",
        )
    else:
        yield ok("open files", f"at most {shown}")


MACHINE_CHECKS: tuple[Check[Machine], ...] = (
    *(_versions, _craft_ai_sdk, _config, _secrets, _state_folder),
    *(_watches, _watch_instances, _watch_queue, _open_files),
)


def _required() -> list[str]:
    """Return craftsync's required packages from its metadata."""
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
    return f"sudo sysctl {setting}; to make it permanent, write that setting to /etc/sysctl.d/craftsync.conf"


def _contract(location: CraftAiLocation) -> Iterator[Finding]:
    """Report changes of the platform's API, as warnings, because `transport: sdk` still works."""
    from craftsync.stores.craftai.contract import check_contract

    for found in check_contract(access_to(location)):
        level = Level.OK if found.ok else Level.NOTE
        if not found.ok and found.remedy:
            level = Level.WARNING
        yield Finding(f"platform, {found.name}", level, found.detail, found.remedy)


CONTRACT_CHECKS: tuple[Check[CraftAiLocation], ...] = (_contract,)
