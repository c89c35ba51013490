"""What can be asked of a pass, in words, and the values those words stand for.

The command line, the Python API and the configuration file all speak these
words; each of them turns a `BadWord` into an error of its own that also names
where the word was found. This room knows no file, no flag and no store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Compare, Mode, OnConflict, Policy
from craftsync.errors import UsageError
from craftsync.sync.report import OnEvent, Options

T = TypeVar("T")
Word = TypeVar("Word", bound=StrEnum)

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_RATE = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)", re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class BadWord(ValueError):
    """A word that means nothing here; `remedy` says which would."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class Rates(NamedTuple):
    """Bytes per second; `None` is no limit."""

    upload: float | None
    download: float | None


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
    bwlimit: Rates | None = None
    settle: float | None = None
    poll: float | None = None
    rescan: float | None = None

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


class PassOptions(PairOptions, total=False):
    """How to run a pass: the keywords of `push`, `pull`, `sync` and `check`, and the flags of the same names."""

    dry_run: bool
    """Say what would be done, and do nothing."""
    delete: bool | None
    """Push and pull: also delete what is gone from the other side."""
    max_delete: str | int | None
    """Hold the deletes when there are more: a number of files, or a share such as "10%"."""
    force_delete: bool
    """Carry out all deletes of this one pass, however many."""
    include: Sequence[str]
    """Take only what matches one of these gitignore patterns."""
    exclude: Sequence[str]
    """Leave out what matches one of these gitignore patterns."""
    exclude_from: Sequence[str | os.PathLike[str]]
    """Files of patterns to leave out."""
    checksum: bool
    """Read all content instead of trusting sizes and times."""
    size_only: bool
    """Look at sizes only."""
    conflict: str | None
    """When both sides changed: both, newer, local or remote."""
    transfers: int | None
    """How many files travel at once."""
    bwlimit: str | int | None
    """Bytes per second, with K, M or G: "10M" for both ways, "10M:2M" for up and down."""
    on_event: OnEvent
    """Is called with each event while the pass runs."""


def choice_of(kind: type[Word], what: str) -> Callable[[object], Word]:
    """Return a parser for the words of an enumeration; `what` is the noun for its message."""

    def parse(word: object) -> Word:
        if isinstance(word, str) and word in set(kind):
            return kind(word)
        raise BadWord(f"is not a {what}", f"Use one of {', '.join(kind)}.")

    return parse


def parse_max_delete(word: object) -> DeleteLimit:
    """Read `5` as five files and "10%" as a tenth of the files known, exactly as said."""
    text = str(word).strip()
    if text.isascii() and text.isdigit() and not isinstance(word, bool):
        return DeleteLimit(files=int(text), share=0.0)
    share = _SHARE.fullmatch(text)
    if share and float(share[1]) <= 100:
        return DeleteLimit(files=0, share=float(share[1]) / 100)
    raise BadWord(
        "is not a limit of deletes", "Use a number of files such as 50, or a share such as 10%."
    )


def parse_bwlimit(word: object) -> Rates:
    """Read "10M" as a limit both ways and "10M:2M" as one for up and one for down."""
    up, colon, down = str(word).partition(":")
    return Rates(_parse_rate(up), _parse_rate(down if colon else up))


def _parse_rate(word: str) -> float | None:
    if word.strip().lower() in {"off", "0"}:
        return None
    rate = _RATE.fullmatch(word.strip())
    if rate and float(rate[1]) > 0:
        return float(rate[1]) * _UNITS[rate[2].upper()]
    raise BadWord(
        "is not a rate in bytes per second",
        "Use a number with K, M or G such as 10M, two of them for up and down such as 10M:2M, or off.",
    )


def parse_transfers(word: object) -> int:
    """Read how many files may travel at once: 1 to 256."""
    if isinstance(word, int) and not isinstance(word, bool) and 1 <= word <= 256:
        return word
    raise BadWord("is not a number of transfers", "Use a whole number from 1 to 256.")


def parse_seconds(word: object) -> float:
    """Read a time of more than no seconds."""
    if isinstance(word, int | float) and not isinstance(word, bool) and 0 < word < float("inf"):
        return float(word)
    raise BadWord("is not a time", "Use a number of seconds greater than 0.")


def settings_of(asked: PassOptions) -> Settings:
    """Return what the flags or keywords of one call say; raises `UsageError` for one that means nothing."""
    for name in asked:
        if name not in PassOptions.__annotations__:
            near = get_close_matches(name, PassOptions.__annotations__, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            known = ", ".join(PassOptions.__annotations__)
            raise UsageError(f"There is no option {name!r}.", remedy=f"{meant}Options: {known}.")
    return Settings(
        delete=asked.get("delete"),
        include=_words(asked, "include"),
        exclude=_words(asked, "exclude") + _patterns_from(asked),
        max_delete=_read(asked, "max_delete", parse_max_delete),
        conflict=_read(asked, "conflict", choice_of(OnConflict, "way to settle a conflict")),
        transfers=_read(asked, "transfers", parse_transfers),
        bwlimit=_read(asked, "bwlimit", parse_bwlimit),
    )


def options_of(asked: PassOptions, settings: Settings, mode: Mode) -> Options:
    """Return the options of a pass: what this call asks, and `settings` for all it is silent about."""
    rates = settings.bwlimit or Rates(None, None)
    defaults = Options()
    return Options(
        policy=Policy(
            mode=mode,
            delete=bool(settings.delete),
            compare=_compare(asked),
            conflict=settings.conflict or defaults.policy.conflict,
        ),
        dry_run=asked.get("dry_run", False),
        delete_limit=settings.max_delete or defaults.delete_limit,
        force_delete=asked.get("force_delete", False),
        include=settings.include,
        exclude=settings.exclude,
        transfers=settings.transfers or defaults.transfers,
        upload_rate=rates.upload,
        download_rate=rates.download,
    )


def _compare(asked: PassOptions) -> Compare:
    checksum, size_only = asked.get("checksum", False), asked.get("size_only", False)
    if checksum and size_only:
        raise UsageError(
            "--checksum and --size-only contradict each other.", remedy="Give one of them."
        )
    if checksum:
        return Compare.CHECKSUM
    return Compare.SIZE_ONLY if size_only else Compare.FINGERPRINT


def _read(asked: PassOptions, name: str, parse: Callable[[object], T]) -> T | None:
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
