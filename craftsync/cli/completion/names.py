"""Completions of a word: from the configuration, the disk, or one level of a store."""

from __future__ import annotations

import configparser
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from craftsync import linked_folders
from craftsync.cli import params as common
from craftsync.cli import watch
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.config.file import Config, S3Environment
from craftsync.config.options import PairOptions
from craftsync.config.places import DirectoryLocation, Location
from craftsync.core.model import OWN_FOLDER, Mode, OnConflict, Subfolder
from craftsync.errors import CraftsyncError
from craftsync.local.files import replacing

if TYPE_CHECKING:
    from craftsync.state import PairState

_LIMIT_SECONDS = 3.0
_AVOID_SECONDS = 60.0
"""How long no request goes to a store that did not answer in time."""
_FOLDERS_KNOWN = 20
"""For how many folders of each store the names are saved."""
_MOST = 200
"""The most names offered at once."""

Item = CompletionItem[str]


def suggest(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Item]:
    """Return the completions of a word, by the name of its parameter."""
    typing = _Typing(ctx, param, incomplete)
    if isinstance(param, click.Option):
        kind = _OPTIONS.get(param.name or "")
        return list(kind(typing)) if kind else []
    return list(_ARGUMENTS.get(param.name or "", _Typing.objects)(typing))


class _Typing:
    """The word being typed, and the command and folder it belongs to."""

    def __init__(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> None:
        self.incomplete = incomplete
        self._words = ctx.params.get(param.name or "") or ()
        self._command = ctx.command_path.split()[1:]
        known = {**(ctx.obj or {}), **{key: value for key, value in ctx.params.items() if value}}
        self.asked: PairOptions = common.place_of(known)
        names = ("folder",) if known.get("folder") else ("root", "store")
        self._folder = [
            str(known[name]) for name in names if known.get(names[0]) and known.get(name)
        ]

    @property
    def config(self) -> Config:
        with suppress(CraftsyncError):
            return configuration.load(self.asked.get("config"))
        return Config()

    def of(self, *words: str) -> Iterator[Item]:
        yield from (Item(word) for word in words if word.startswith(self.incomplete))

    def folders(self) -> Iterator[Item]:
        for name, folder in self.config.folders.items():
            if name.startswith(self.incomplete):
                yield Item(name, help=f"{folder.root} ⇄ {folder.environment}")

    def files(self) -> Iterator[Item]:
        yield from on_disk(self.incomplete, folders_only=False)

    def directories(self) -> Iterator[Item]:
        yield from on_disk(self.incomplete, folders_only=True)

    def pair(self) -> Iterator[Item]:
        if self._words:
            yield from self.stores()
            return
        yield from self.folders()
        yield from self.directories()

    def store(self) -> Iterator[Item]:
        """Complete a store; in the commands for objects, an object."""
        yield from self.objects() if self._command[0] in _ABOUT_OBJECTS else self.stores()

    def stores(self) -> Iterator[Item]:
        yield from self._inside_stores(folders_only=True)

    def objects(self) -> Iterator[Item]:
        yield from self._inside_stores(folders_only=False)
        bare = places.is_path(self.incomplete) or ":" in self.incomplete
        if not bare and self._command[0] in _TAKES_FILES:
            yield from self.files()

    def _inside_stores(self, *, folders_only: bool) -> Iterator[Item]:
        if places.is_path(self.incomplete):
            yield from on_disk(self.incomplete, folders_only=folders_only)
        elif ":" in self.incomplete:
            yield from _below(self.incomplete, self.config, self.asked, folders_only=folders_only)
        else:
            yield from _beginnings(self.incomplete, self.config)

    def paths(self) -> Iterator[Item]:
        """Complete the paths of a linked folder, relative to the current directory."""
        found = _OF_A_STATE.get(" ".join(self._command))
        if found is not None:
            yield from self._known_paths(found)
        elif self._command[0] in _OF_A_FOLDER:
            yield from self.files()
        else:
            yield from self.objects()

    def _known_paths(self, found: Callable[[PairState], Iterable[str]]) -> Iterator[Item]:
        """Yield paths from the state of the linked folder, one level at a time, relative to the current directory."""
        names = dict[str, None]()
        with suppress(CraftsyncError):
            pair = linked_folders.resolve(self._folder, self.asked)
            current = Path.cwd().resolve()
            inside = current.is_relative_to(pair.root)
            with linked_folders.read_state(pair, pairs.state_dir_of(self.asked)) as state:
                for path in found(state):
                    word = os.path.relpath(pair.root / path, current) if inside else path
                    if word.startswith(self.incomplete):
                        end = word.find("/", len(self.incomplete))
                        names[word if end < 0 else word[: end + 1]] = None
        for name in sorted(names)[:_MOST]:
            yield Item(name, type="part" if name.endswith("/") else "plain")

    def file(self) -> Iterator[Item]:
        yield from self.files()
        yield from self.of("-")

    def profiles(self) -> Iterator[Item]:
        yield from self.of(*_profiles())

    def environments(self) -> Iterator[Item]:
        yield from self.of(*self.config.environments)

    def configured(self) -> Iterator[Item]:
        yield from self.folders()
        yield from self.environments()


_TAKES_FILES = {"put", "get", "cp", "mv"}
"""The commands in which a word that does not name a store is a file."""
_ABOUT_OBJECTS = _TAKES_FILES | {"ls", "tree", "du", "find", "stat", "cat", "rm", "url"}
_OF_A_FOLDER = {"history", "why", "trash", "conflicts", "deletes", "scrub"}
_MOST_KEPT = 20_000


def _kept(state: PairState) -> Iterator[str]:
    return state.kept.paths(_MOST_KEPT)


def _held(state: PairState) -> Iterator[str]:
    return (each.path for each in state.held.rows())


_OF_A_STATE: dict[str, Callable[[PairState], Iterable[str]]] = {
    **dict.fromkeys(("trash list", "trash restore"), _kept),
    **dict.fromkeys(("deletes list", "deletes approve", "deletes reject"), _held),
}
"""The commands whose paths may no longer exist in the folder, and the source of these paths."""

Completer = Callable[[_Typing], Iterable[Item]]


def _words(*words: str) -> Completer:
    return lambda typing: typing.of(*words)


_ARGUMENTS: dict[str, Completer] = {
    "pair": _Typing.pair,
    "store": _Typing.store,
    "source": _Typing.stores,
    "target": _Typing.stores,
    "folder": _Typing.folders,
    "root": _Typing.directories,
    "name": _Typing.configured,
    "path": _Typing.paths,
    "paths": _Typing.paths,
    "file": _Typing.file,
    "files": _Typing.file,
    "shell": _words("bash", "zsh", "fish"),
    "rate": _words("off", "default", "1M", "10M"),
}
"""The completions of an argument, by its name; any other argument is an object or a store."""

_OPTIONS: dict[str, Completer] = {
    **dict.fromkeys(("config", "exclude_from", "files_from", "manifest", "output"), _Typing.files),
    **dict.fromkeys(("log_file", "token_file"), _Typing.files),
    **dict.fromkeys(("profile", "source_profile"), _Typing.profiles),
    "state_dir": _Typing.directories,
    "root": _Typing.directories,
    "folder": _Typing.folders,
    "store": _Typing.stores,
    "environment": _Typing.environments,
    "mode": _words(*Mode),
    "conflict": _words(*OnConflict),
    "keep": _words("local", "remote", "both", "newer"),
    "links": _words("skip", "follow"),
    "verify": _words("checksum", "full"),
    "transfers": _words("auto"),
    "bwlimit": _words("off", "1M", "10M"),
    "sse": _words("AES256", "aws:kms"),
    "storage_class": _words("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER_IR"),
    "content_type": _words("auto"),
}
"""The completions of the value of an option, by its name; any other option has none."""


def _beginnings(incomplete: str, config: Config) -> Iterator[Item]:
    """Yield the beginnings of words that name a store."""
    for name, environment in config.environments.items():
        if name.startswith(incomplete):
            kind = type(environment).__name__.removesuffix("Environment")
            yield Item(f"{name}:", type="part", help=kind)
    for start in ("s3://", "craft-ai://", "./"):
        if start.startswith(incomplete):
            yield Item(start, type="part")


def on_disk(incomplete: str, *, folders_only: bool) -> Iterator[Item]:
    """Yield the files in the folder of the word, and its subfolders with a slash."""
    above, _, start = incomplete.rpartition("/")
    typed = f"{above}/" if "/" in incomplete else ""
    try:
        entries = sorted(os.scandir(Path(typed or ".").expanduser()), key=lambda each: each.name)
    except (OSError, RuntimeError):
        return
    for entry in entries:
        hidden = entry.name == OWN_FOLDER or (entry.name.startswith(".") and not start)
        if hidden or not entry.name.startswith(start):
            continue
        if entry.is_dir():
            yield Item(f"{typed}{entry.name}/", type="part")
        elif not folders_only:
            yield Item(f"{typed}{entry.name}")


def _below(word: str, config: Config, asked: PairOptions, *, folders_only: bool) -> Iterator[Item]:
    """Yield the entries of a store directly in the folder of the word."""
    if word.startswith("s3://") and "/" not in word[len("s3://") :]:
        yield from _buckets(word, config)
        return
    store, inside = _parted(word)
    location = places.resolve(store, config, pairs.access_of(asked))
    above, slash, _ = inside.rpartition("/")
    if "://" in store:
        typed = store if store.endswith("://") else f"{store}/"
    else:
        typed = f"{store.partition(':')[0]}:"
    for name in _one_level(location, inside, asked):
        if name.endswith("/") or not folders_only:
            value = f"{typed}{above}{slash}{name}"
            yield Item(value, type="part" if name.endswith("/") else "plain")


def _parted(word: str) -> tuple[str, str]:
    """Return the store of a word, and the path in it."""
    if "://" not in word:
        name, _, inside = word.partition(":")
        return name, inside
    scheme, _, rest = word.partition("://")
    if scheme == "s3":
        bucket, _, inside = rest.partition("/")
        return f"s3://{bucket}", inside
    return f"{scheme}://", rest


def _buckets(word: str, config: Config) -> Iterator[Item]:
    found = {
        each.bucket for each in config.environments.values() if isinstance(each, S3Environment)
    }
    for bucket in sorted(found):
        if f"s3://{bucket}/".startswith(word):
            yield Item(f"s3://{bucket}/", type="part")


def _one_level(location: Location, prefix: str, asked: PairOptions) -> list[str]:
    """Return the names in the folder of a prefix, folders with a slash; only those listed in time."""
    if isinstance(location, DirectoryLocation):
        found = on_disk(f"{location.path}/{prefix}", folders_only=False)
        return [_last_part(item.value) for item in found]
    avoid = _file_to_avoid(location, asked)
    known = _KnownNames(avoid.with_suffix(".names"), prefix)
    if avoid.exists() and _age_of(avoid) < _AVOID_SECONDS:
        return known.read()
    names: dict[str, None] = {}
    try:
        with _time_limit():
            if not _is_offline(location, asked):
                _take(location, prefix, names)
    except (_TooLate, CraftsyncError, OSError):
        if not names:
            with suppress(OSError):
                avoid.parent.mkdir(parents=True, exist_ok=True)
                avoid.touch()
            return known.read()
    else:
        known.write(names)
    return sorted(names)


class _KnownNames:
    """The last known names in folders of a store, used when it does not answer in time."""

    def __init__(self, file: Path, prefix: str) -> None:
        self._file = file
        self._folder, _, self._start = prefix.rpartition("/")

    def read(self) -> list[str]:
        return [name for name in self._all().get(self._folder, []) if name.startswith(self._start)]

    def write(self, names: Iterable[str]) -> None:
        """Save the names of this folder; they replace known names that start with what was typed."""
        known = self._all()
        others = [name for name in known.get(self._folder, []) if not name.startswith(self._start)]
        known.pop(self._folder, None)
        known[self._folder] = sorted({*others, *names})
        last = dict(list(known.items())[-_FOLDERS_KNOWN:])
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(
                self._file, durable=False
            ) as file:  # The prompt must not wait for the disk.
                file.write(json.dumps(last).encode())

    def _all(self) -> dict[str, list[str]]:
        with suppress(OSError, ValueError):
            known = json.loads(self._file.read_text())
            if isinstance(known, dict):
                return known
        return {}


def _is_offline(location: Location, asked: PairOptions) -> bool:
    """Return whether a running daemon reports that it cannot reach this store, or the one around it."""
    address = places.address_of(location)
    known = [
        each
        for each in pairs.of_configuration(asked)
        if f"{places.address_of(each.location)}/".startswith(f"{address.rstrip('/')}/")
    ]
    answers = (watch.request(each, asked, "status") for each in known)
    return any(facts is not None and facts["state"] == "offline" for facts in answers)


def _take(location: Location, prefix: str, names: dict[str, None]) -> None:
    from craftsync.open_store import open_store

    folder = prefix[: prefix.rfind("/") + 1]
    with open_store(location, create=False) as store:
        for entry in store.list_folder(folder.rstrip("/")):
            if entry.path.startswith(prefix):
                name, slash, _ = entry.path.removeprefix(folder).partition("/")
                is_folder = slash or isinstance(entry, Subfolder)
                names[f"{name}/" if is_folder else name] = None
            if len(names) >= _MOST:
                return


def _last_part(path: str) -> str:
    return path[path.rstrip("/").rfind("/") + 1 :]


class _TooLate(BaseException):
    """The store took longer than a user waits after TAB."""


class _time_limit:
    """Raises `_TooLate` in the main thread when the block takes longer than the limit."""

    def __enter__(self) -> None:
        def ring(*_: object) -> None:
            raise _TooLate

        self._before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, _LIMIT_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def _file_to_avoid(location: Location, asked: PairOptions) -> Path:
    """Return the file whose age shows when a store last failed to answer in time."""
    name = sha256(places.address_of(location).encode()).hexdigest()[:16]
    return pairs.state_dir_of(asked) / "completion" / name


def _age_of(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def _profiles() -> list[str]:
    """Return the AWS profiles of this user's own files."""
    found: set[str] = set()
    for variable, default in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        parser = configparser.RawConfigParser()
        with suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(os.path.expanduser(os.environ.get(variable, default)))
        found |= {name.removeprefix("profile ").strip() for name in parser.sections()}
    return sorted(found)
