"""What can be asked of a run, in words, and the values those words stand for.

The command line, the Python API and the configuration file all speak these
options. This room knows no file, no flag and no store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from craftsync.config.parsers import (
    BadWord,
    Rates,
    choice_of,
    parse_bwlimit,
    parse_max_delete,
    parse_transfers,
)
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Mode, OnConflict
from craftsync.core.timetable import Timetable, Windows
from craftsync.errors import UsageError, nearest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said about one pair of root and store; `None` where nothing was said."""

    mode: Mode | None = None
    delete: bool | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_delete: DeleteLimit | None = None
    conflict: OnConflict | None = None
    transfers: int | None = None
    bwlimit: Rates | Timetable[Rates] | None = None
    windows: Windows | None = None
    settle: float | None = None
    poll: float | None = None
    rescan: float | None = None
    scrub: float | None = None
    events: str | None = None

    def over(self, base: Settings) -> Settings:
        """Return these settings, with those of `base` where they are silent; patterns add up."""
        chosen = {
            field.name: getattr(base, field.name)
            if getattr(self, field.name) is None
            else getattr(self, field.name)
            for field in fields(self)
        }
        return replace(
            Settings(**chosen),
            include=base.include + self.include,
            exclude=base.exclude + self.exclude,
        )


class PairOptions(TypedDict, total=False):
    """Where things are: the keywords every function and command about a pair takes."""

    config: str | os.PathLike[str] | None
    """The configuration file; by default the user's own."""
    state_dir: str | os.PathLike[str] | None
    """Where the state databases live; by default the user's state folder."""
    profile: str | None
    """The AWS profile of an S3 store given by URL."""
    region: str | None
    endpoint_url: str | None
    request_payer: bool
    """Pay for the requests to a requester-pays bucket."""


class RunOptions(PairOptions, total=False):
    """How to run what brings one side in sync with the other: what a run and a migration are asked alike."""

    dry_run: bool
    """Say what would be done, and do nothing."""
    delete: bool | None
    """Also delete what is gone from the other side (of a migration: from the source); `sync` always does."""
    max_delete: str | int | None
    """Hold the deletes when there are more: a number of files, or a share such as "10%"."""
    force_delete: bool
    """Carry out all deletes of this one run, however many."""
    include: Sequence[str]
    """Take only what matches one of these gitignore patterns."""
    exclude: Sequence[str]
    """Leave out what matches one of these gitignore patterns."""
    exclude_from: Sequence[str | os.PathLike[str]]
    """Files of patterns to leave out."""
    transfers: int | str | None
    """How many files travel at once: a number, or "auto" for as many as the way to the store is worth."""
    bwlimit: str | int | None
    """Bytes per second, with K, M or G: "10M", "10M:2M" for up and down, or by time "08:00,1M 19:00,off".

    Of a migration, up is into the target, and down is out of the source.
    """
    on_event: Callable[[Any], None]
    """Is called with each event (`craftsync.engine.report.Event`) while the run goes on."""


class PassOptions(RunOptions, total=False):
    """How to run a run: the keywords of `push`, `pull`, `sync` and `check`, and the flags of the same names."""

    checksum: bool
    """Read all content instead of trusting sizes and times."""
    size_only: bool
    """Look at sizes only."""
    conflict: str | None
    """When both sides changed: both, newer, local or remote."""


def settings_of(asked: PassOptions) -> Settings:
    """Return what the flags or keywords of one call say; raises `UsageError` for one that means nothing."""
    refuse_unknown(asked, PassOptions)
    return Settings(
        delete=asked.get("delete"),
        include=_words(asked, "include"),
        exclude=_words(asked, "exclude") + _patterns_from(asked),
        max_delete=read(asked, "max_delete", parse_max_delete),
        conflict=read(asked, "conflict", choice_of(OnConflict, "way to settle a conflict")),
        transfers=read(asked, "transfers", parse_transfers),
        bwlimit=read(asked, "bwlimit", parse_bwlimit),
    )


def refuse_unknown(asked: Mapping[str, object], known: type) -> None:
    """Raise `UsageError` for a keyword that is none of those a class of options names, or is to be a bool and is not.

    Any text is true to Python: `delete="no"` would delete.
    """
    names = known.__annotations__
    for name, value in asked.items():
        if name not in names:
            raise UsageError(
                f"Unknown option {name!r}.",
                remedy=f"{nearest(name, names)}Options: {', '.join(names)}.",
            )
        is_flag = getattr(names[name], "__forward_arg__", "").startswith("bool")
        if is_flag and not isinstance(value, bool | None):
            raise UsageError(f"{name}: {value!r} is not a bool.", remedy="Use True or False.")


def read(asked: Mapping[str, object], name: str, parse: Callable[[object], T]) -> T | None:
    """Return what the word of an option stands for, `None` if there is none; raises `UsageError`."""
    word = asked.get(name)
    if word is None:
        return None
    try:
        return parse(word)
    except BadWord as bad:
        raise _refused(name, f"{word!r} {bad}", bad.remedy) from bad


def _words(asked: PassOptions, name: str) -> tuple[str, ...]:
    words: Any = asked.get(name) or ()
    if isinstance(words, str):
        raise _refused(name, f"{words!r} is one pattern, not a list of them", f"Use [{words!r}].")
    return tuple(words)


def _patterns_from(asked: PassOptions) -> tuple[str, ...]:
    """Return the patterns of the files named by `exclude_from`, without blank lines and comments."""
    named = asked.get("exclude_from") or ()
    files = [named] if isinstance(named, str | os.PathLike) else named
    patterns: list[str] = []
    for file in files:
        try:
            lines = Path(file).expanduser().read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(
                "exclude_from", f"{str(file)!r} cannot be read ({error})", "Name a text file."
            ) from error
        patterns += [line for line in lines if line.strip() and not line.startswith("#")]
    return tuple(patterns)


def _refused(name: str, problem: str, remedy: str) -> UsageError:
    return UsageError(f"--{name.replace('_', '-')}: {problem}.", remedy=remedy)
