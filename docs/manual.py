"""The command reference and the man pages, made from the help of the commands.

`python docs/manual.py DIR` writes man pages below DIR, one a command. The page
is made while the site is built (`docs/hooks.py`).
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from craftsync import __version__
from craftsync.cli import cli

NO_LIMIT = 1000
"""Letters a sentence of the help may have."""
EXIT_CODES = (
    ("0", "in sync"),
    ("1", "finished, some paths failed"),
    ("2", "wrong usage"),
    ("3", "folder or store missing, or not the one it was"),
    ("4", "conflicts wait, as long as they do"),
    ("5", "temporary failure; another try helps"),
    ("6", "finished, some paths busy or skipped"),
    ("7", "a person must decide: held deletes, damaged state"),
    ("78", "invalid configuration"),
    ("130, 143", "ended by Ctrl-C, by SIGTERM"),
)


class Page(NamedTuple):
    """The help of one command, in parts."""

    name: str
    summary: str
    usage: str
    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    commands: tuple[Page, ...]


def page_of(command: click.Command, words: Sequence[str], parent: click.Context | None) -> Page:
    """Return the help of a command and of those below it."""
    context = click.Context(command, parent, info_name=words[-1], **command.context_settings)
    paragraphs, examples = _parts(inspect.cleandoc(command.help or ""))
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    records = [option.get_help_record(context) for option in options]
    found: list[tuple[str, click.Command | None]] = []
    if isinstance(command, click.Group):
        below = command.list_commands(context)
        found = [(name, command.get_command(context, name)) for name in below]
    return Page(
        name=" ".join(words),
        summary=command.get_short_help_str(NO_LIMIT).rstrip("."),
        usage=" ".join([" ".join(words), *command.collect_usage_pieces(context)]),
        paragraphs=paragraphs,
        examples=examples,
        options=tuple(record for record in records if record),
        commands=tuple(page_of(each, [*words, name], context) for name, each in found if each),
    )


def _parts(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paragraphs of a help text, and the commands of its examples."""
    paragraphs, examples = [], []
    for block in re.split(r"\n\s*\n", text):
        lines = block.replace("\b", "").strip("\n").splitlines()
        if lines and lines[0].startswith("Example"):
            examples += [line.strip() for line in lines[1:]]
        else:
            paragraphs.append(" ".join(line.strip() for line in lines))
    return tuple(paragraphs), tuple(examples)


def man_page(page: Page) -> str:
    """Return a page as man(7) has it."""
    name = page.name.replace(" ", "-")
    lines = [
        f'.TH "{_roff(name.upper())}" 1 "" "craftsync {__version__}" "craftsync"',
        ".SH NAME",
        _roff(f"{name} - {page.summary[:1].lower()}{page.summary[1:]}"),
        ".SH SYNOPSIS",
        *_usages(page),
        ".SH DESCRIPTION",
        *_described(page),
    ]
    for each in page.commands if name != "craftsync" else ():
        lines += [f".SS {_roff(each.usage)}", *_described(each)]
        lines += _listed(each.options)
    lines += [".SH OPTIONS", *_listed(page.options)] if page.options else []
    if name == "craftsync":
        lines += [".SH COMMANDS", *_listed([(each.name, each.summary) for each in page.commands])]
    lines += [".SH EXIT STATUS", *_listed(EXIT_CODES)]
    examples = [line for each in (page, *page.commands) for line in each.examples]
    if examples and name != "craftsync":
        lines += [".SH EXAMPLES", ".nf", *map(_roff, examples), ".fi"]
    return "\n".join([*lines, ".SH SEE ALSO", r"\fBcraftsync\fR(1)", ""])


def _usages(page: Page) -> Iterator[str]:
    below = page.commands if page.name != "craftsync" else ()
    for number, each in enumerate(below or (page,)):
        yield from ([".br"] if number else [])
        yield _roff(each.usage)


def _described(page: Page) -> Iterator[str]:
    for paragraph in page.paragraphs:
        yield from (".PP", _roff(paragraph))


def _listed(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    for word, what in rows:
        yield from (".TP", rf"\fB{_roff(word)}\fR", _roff(what))


def _roff(text: str) -> str:
    """Return text that roff prints as it is."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def reference(page: Page) -> str:
    """Return the command reference in Markdown."""
    lines = [
        "# Commands",
        "",
        "What `craftsync COMMAND --help` prints. The variables, keys and defaults of all options are "
        "in the [configuration reference](configuration.md); `make man` writes man pages.",
        "",
        *_section(page, 2),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(page: Page, level: int) -> Iterator[str]:
    title = page.name if page.name == "craftsync" else page.name.removeprefix("craftsync ")
    yield from (f"{'#' * level} {title}", "", "```text", page.usage, "```", "")
    for paragraph in page.paragraphs:
        yield from (_markdown(paragraph), "")
    if page.examples:
        yield from ("```sh", *page.examples, "```", "")
    if page.options:
        yield from ("| option | |", "|---|---|")
        for word, what in page.options:
            yield f"| `{word.replace('|', chr(92) + '|')}` | {_markdown(what).replace('|', chr(92) + '|')} |"
        yield ""
    for each in page.commands:
        yield from _section(each, 3 if level > 2 else 2)


def _markdown(text: str) -> str:
    """Return prose whose letters mean nothing to Markdown outside of code."""
    parts = text.split("`")
    plain = [re.sub(r"([\\*_<>\[\]#])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = plain
    return "`".join(parts)


def whole() -> Page:
    """Return the help of everything."""
    return page_of(cli, ["craftsync"], None)


def main(folder: Path) -> None:
    """Write the man pages below a folder, and say where."""
    top = whole()
    pages = folder / "man1"
    pages.mkdir(parents=True, exist_ok=True)
    for page in (top, *top.commands):
        (pages / f"{page.name.replace(' ', '-')}.1").write_text(man_page(page), "utf-8")
    print(f"{1 + len(top.commands)} man pages in {pages}; read one: man {pages}/craftsync.1")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
