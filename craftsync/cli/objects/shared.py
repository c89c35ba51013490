"""Shared by the commands for objects: options, arguments, and printing an object."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from craftsync.cli import params as common
from craftsync.cli.output import say, say_json
from craftsync.config import places
from craftsync.core.model import Skipped
from craftsync.errors import FileMissing, UsageError
from craftsync.objects.arguments import Arguments, Place, found_at
from craftsync.wording import shown, size_shown

recursive_option = click.option(
    "-r", "-R", "--recursive", is_flag=True, help="Include everything below folders."
)
human_option = click.option(
    "--human",
    "--human-readable",
    is_flag=True,
    help="Print sizes such as 1.5 MiB; -h prints this help.",
)
access_options = common.all_of(
    click.option(
        "--store",
        metavar="STORE",
        multiple=True,
        help="The root of the store, such as s3://bucket, where its trash is. Needed only for a store"
        " that neither the configuration nor a linked folder names.",
    ),
    common.access_options,
)


def arguments_of(flags: dict[str, Any]) -> Arguments:
    return Arguments(common.place_of(flags), flags["store"], _again_with)


def _again_with(root: str) -> str:
    """Return the remedy: the command as typed, with --store ROOT added."""
    return f"Type: {common.typed_with('--store', root)}"


def refuse_in_store(
    found: Arguments, name: str, word: str, joined: Sequence[str] | None = None
) -> None:
    """Raise `UsageError` if a word for a file on this machine names a place in a store.

    `name` is the command. `joined` is a STORE and a PATH that it takes as two words, and cp as one.
    """
    if ":" not in word or places.is_path(word) or not found.names_store(word):
        return
    typed = ["craftsync", *sys.argv[1:]]
    at = typed.index(name)
    typed[at] = "cp"
    if joined is not None:
        at = typed.index(joined[0], at)
        typed[at] = found.store(*joined).word
        del typed[typed.index(joined[1], at + 1)]
    as_file = "" if "://" in word else f"For a file of that name on this machine, write ./{word}. "
    side = "target" if name == "get" else "source"
    raise UsageError(
        f"The {side} {word} is in a store; {name} takes a file on this machine.",
        remedy=f"{as_file}To copy between stores, type: {shlex.join(typed)}",
    )


@contextmanager
def sources_first(found: Arguments, words: Sequence[str], *, recursive: bool) -> Iterator[None]:
    """If the target is refused, raise an error of the sources instead, if there is one."""
    try:
        yield
    except UsageError:
        for word in words:
            if word == "-" or (found.names_store(word) and not found.is_file(word)):
                if word != "-":
                    next(found_at(found.place(word), recursive=recursive), None)
            elif not os.path.exists(os.path.expanduser(word)):
                raise FileMissing(f"{word} does not exist.", remedy="Check the name.") from None
        raise


def places_of(arguments: Arguments, words: Sequence[str], *, change: bool = False) -> list[Place]:
    """Return the places that the words name: each is an OBJECT, or both are a STORE and a PATH."""
    if len(words) == 2 and not arguments.names_store(words[1]):
        return [arguments.store(*words)]
    return [arguments.place(word, change=change) for word in words]


class SkippedKeys:
    """Collects the keys that no folder can hold; prints them at the end."""

    def __init__(self) -> None:
        self._skipped: list[Skipped] = []

    def __call__(self, skipped: Skipped) -> None:
        self._skipped.append(skipped)

    def exit_code(self) -> int:
        for entry in self._skipped:
            say(f"skipped: {shown(entry.path)}: {entry.reason}", to_stderr=True)
        return 6 if any(not entry.by_design for entry in self._skipped) else 0


def say_object(
    path: str,
    size: int | None,
    modified: str | None,
    *,
    as_json: bool,
    human: bool = False,
    more: str = "",
) -> None:
    """Print one object, or a folder, which has neither size nor time."""
    if as_json:
        say_json({"path": path, "last_modified": modified, "size": size})
        return
    number = "-" if size is None else size_shown(size) if human else str(size)
    say(f"{number:>14} {modified or '-':20} {more}{shown(path)}")


def ask(question: str, flags: dict[str, Any]) -> None:
    """Ask on a terminal, unless `--yes` was given; any answer but yes ends the command."""
    if sys.stdin.isatty() and not flags["yes"] and not flags["dry_run"]:
        click.confirm(question, abort=True, err=True)
