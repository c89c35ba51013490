"""One run, from the arguments of a call to its report. Shared by the command line and the Python API."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from craftsync import linked_folders
from craftsync.config.options import (
    Links,
    RunOptions,
    Settings,
    SharedOptions,
    given_by,
    read,
    refuse_unknown,
)
from craftsync.config.pairs import Pair, state_dir_of
from craftsync.config.parsers import RateByTime, Rates, choice_of, parse_age, parse_size, user_path
from craftsync.core.filters import Filter, Listed
from craftsync.core.model import Compare, Mode, Policy
from craftsync.core.paths import malformed
from craftsync.core.timetable import Timetable
from craftsync.engine.report import Options, Report, ignore_events
from craftsync.errors import UsageError
from craftsync.net.pace import Rate

if TYPE_CHECKING:
    from craftsync.engine.session import Session

_ROOT_AND_STORE = 2

MODES = {"push": Mode.PUSH, "pull": Mode.PULL, "sync": Mode.TWO_WAY}


def run(command: str, words: Sequence[str], asked: RunOptions) -> Report:
    """Push, pull or sync (`command`) the linked folder that the words name."""
    pair = linked_folders.resolve(words, asked)
    options = options_for(pair, asked, MODES[command])
    refuse_filter(options)
    if command == "pull" and len(words) == _ROOT_AND_STORE:
        linked_folders.refuse_new_and_empty(pair, words[1], asked)
    with opened_for(pair, options, asked) as session:
        return session.run(command, options, asked.get("on_event", ignore_events))


def check(
    words: Sequence[str],
    asked: RunOptions,
    on_line: Callable[[str, str], None] = lambda symbol, path: None,
) -> Report:
    """Compare the content of a folder and its store, without changing anything.

    `on_line` is called with a symbol and each path: "=" equal, "-" only in the store, "+" only in
    the folder, "*" different, "!" unreadable.
    """
    pair = linked_folders.resolve(words, asked)
    options = options_for(pair, asked)
    refuse_direction(options)
    if options.policy.compare is Compare.FINGERPRINT:
        options = replace(options, policy=replace(options.policy, compare=Compare.CHECKSUM))
    with linked_folders.open_pair(pair, state_dir_of(asked), read_only=True) as session:
        return session.check(options, on_line, asked.get("on_event", ignore_events))


def options_for(pair: Pair, asked: RunOptions, mode: Mode | None = None) -> Options:
    """Return the options of a call, completed by the configuration and then by the defaults."""
    refuse_unknown(asked, RunOptions)
    settings = Settings.of(pair.given, given_by(asked))
    return options_of(asked, settings, mode or settings.mode, pair.root)


def refuse_filter(options: Options) -> None:
    """Raise `UsageError`, before anything is opened, for a filter or links that this run cannot have."""
    if options.follow_links and options.policy.mode is not Mode.PUSH:
        raise _links_refused("what comes from the store would have to be written through links.")
    if refusal := options.filter.refusal(options.policy):
        raise UsageError(refusal[0], remedy=refusal[1])


def _links_refused(why: str) -> UsageError:
    return UsageError(
        f"--links follow: only for push, plan --mode push and check: {why}",
        remedy="Leave it out: links are skipped, and stay as they are.",
    )


def refuse_watching(options: Options) -> None:
    """Raise `UsageError` for a filter or links in a daemon: paths would begin to take part without an event."""
    if options.follow_links:
        raise _links_refused("a change behind a link would go unseen.")
    if options.filter:
        raise UsageError(
            f"{', '.join(options.filter.flags())}: not with watch: a file that grows or ages would"
            " take part at one moment and not at the next.",
            remedy="Use push or pull, from a timer if need be, or leave paths out by name"
            " (--include, --exclude).",
        )


def refuse_direction(options: Options) -> None:
    """Raise `UsageError` for `--existing` or `--ignore-existing`: a comparison has no direction."""
    one_sided = [flag for flag in options.filter.flags() if flag.endswith("existing")]
    if one_sided:
        raise UsageError(
            f"{', '.join(one_sided)}: check compares both sides, and copies to neither.",
            remedy="Leave it out.",
        )


def options_of(
    asked: RunOptions, settings: Settings, mode: Mode, root: Path | None = None
) -> Options:
    """Return the engine's options: the settings of the folder, and those of this call.

    Absolute paths in `--files-from` must be inside `root`.
    """
    up, down = _rates_of(settings.bwlimit)
    return Options(
        policy=Policy(
            mode=mode,
            delete=settings.delete,
            compare=_compare(asked),
            conflict=settings.conflict,
        ),
        dry_run=asked.get("dry_run", False),
        delete_limit=settings.max_delete,
        force_delete=asked.get("force_delete", False),
        include=settings.include,
        exclude=settings.exclude,
        filter=filter_of(asked, root),
        follow_links=read(asked, "links", choice_of(Links, "way to treat links")) is Links.FOLLOW,
        transfers=settings.transfers,
        upload_rate=up,
        download_rate=down,
    )


def _rates_of(limit: Rates | Timetable[Rates]) -> tuple[Rate, Rate]:
    if isinstance(limit, Rates):
        return limit
    return RateByTime(limit, "upload"), RateByTime(limit, "download")


def _compare(asked: RunOptions) -> Compare:
    checksum, size_only = asked.get("checksum", False), asked.get("size_only", False)
    if checksum and size_only:
        raise UsageError("--checksum and --size-only contradict each other.", remedy="Give one.")
    if checksum:
        return Compare.CHECKSUM
    return Compare.SIZE_ONLY if size_only else Compare.FINGERPRINT


def opened_for(pair: Pair, options: Options, asked: RunOptions) -> AbstractContextManager[Session]:
    """Open a session for a run with these options. The side that the run copies to may be new."""
    return linked_folders.open_pair(
        pair,
        state_dir_of(asked),
        read_only=options.dry_run,
        create_store=options.policy.mode is not Mode.PULL,
        create_root=options.policy.mode is Mode.PULL,
    )


_LIST_COMMENTS = ("#", ";")
_BOM = "\ufeff".encode()
_LIST_REMEDY = "Write each path relative to the folder, one a line; with --from0, a NUL after each."


def filter_of(asked: SharedOptions | RunOptions, root: Path | None) -> Filter:
    """Return the filter in the keywords. Absolute paths in a list must be inside `root`, if given.

    Raises `UsageError` for an invalid value, an unreadable list, or an invalid path in it.
    """
    return Filter(
        min_size=read(asked, "min_size", parse_size),
        max_size=read(asked, "max_size", parse_size),
        min_age=read(asked, "min_age", parse_age),
        max_age=read(asked, "max_age", parse_age),
        listed=_listed(asked.get("files_from"), root, raw=asked.get("from0", False)),
        existing=asked.get("existing", False),
        ignore_existing=asked.get("ignore_existing", False),
    )


def _listed(given: Any, root: Path | None, *, raw: bool) -> Listed | None:
    if given is None or given == ():
        if raw:
            raise UsageError(
                "--from0 describes the list of --files-from, which is not given.",
                remedy="Leave it out, or give --files-from FILE.",
            )
        return None
    files = given if isinstance(given, list | tuple) else [given]
    names = {name for file in files for name in _names(file, root, raw=raw)}
    return Listed(frozenset(names))


def _names(file: Any, root: Path | None, *, raw: bool) -> Iterator[str]:
    called = "standard input" if file == "-" else str(getattr(file, "name", file))
    content = _content(file, called)
    lines: Iterable[bytes] = (
        content.split(b"\0") if raw else content.removeprefix(_BOM).split(b"\n")
    )
    for number, line in enumerate(lines, start=1):
        where = f"{called}, {'entry' if raw else 'line'} {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise _refused(where, repr(line), "is not UTF-8") from None
        if not raw:
            text = text.strip()  # Also removes the \r of Windows.
        if text and (raw or not text.startswith(_LIST_COMMENTS)):
            yield _name(text, root, where)


def _content(file: Any, called: str) -> bytes:
    try:
        if hasattr(file, "read"):
            content = file.read()
            return content.encode() if isinstance(content, str) else bytes(content)
        if file == "-":
            stream: IO[bytes] = sys.stdin.buffer
            return stream.read()
        return user_path(file).read_bytes()
    except (OSError, TypeError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"--files-from: {called} cannot be read ({reason}).",
            remedy="Name a text file, or - for standard input.",
        ) from error


def _name(text: str, root: Path | None, where: str) -> str:
    """Return an entry as a path in the folder, with its final slash, if any."""
    path = _inside(text, root, where) if text.startswith("/") else text
    names = path.rstrip("/").split("/")
    if root is not None or "." in names:
        names = [name for name in names if name not in ("", ".")]
    if ".." in names:
        raise _refused(where, repr(text), 'leads out of the folder, or may: it has ".." in it')
    found = "/".join(names)
    if not found:
        raise _refused(where, repr(text), "names the whole folder (of find, use -type f)")
    if root is not None and (reason := malformed(found)):
        raise _refused(where, repr(text), f"is not a path in the folder ({reason})")
    return f"{found}/" if path.endswith("/") else found


def _inside(text: str, root: Path | None, where: str) -> str:
    """Return an absolute path relative to the folder."""
    slash = "/" if text.endswith("/") else ""
    place = Path(os.path.normpath(text))
    for each in (place, Path(os.path.realpath(place.parent), place.name)):
        if root is not None and each.is_relative_to(root) and ".." not in text.split("/"):
            return each.relative_to(root).as_posix() + slash
    raise _refused(where, repr(text), f"is outside the folder {root}" if root else "is absolute")


def _refused(where: str, what: str, why: str) -> UsageError:
    return UsageError(f"--files-from: {where}: {what} {why}.", remedy=_LIST_REMEDY)
