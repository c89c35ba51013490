"""`completion`: the scripts for TAB, and the completions.

A script calls the program again with `_CRAFTSYNC_COMPLETE` set to the name of
the shell. Completions come from the commands themselves (click knows which word
is being typed), the configuration, the disk, and one level of a store. They wait
at most three seconds for a store, then use the last known names. Nothing prompts
the user, and errors print nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import ShellComplete

from craftsync.cli import params as common
from craftsync.cli.completion.names import Item, on_disk, suggest
from craftsync.cli.output import say
from craftsync.cli.terminal import put_lines, writing
from craftsync.errors import CraftsyncError, UsageError

VARIABLE = "_CRAFTSYNC_COMPLETE"


@click.command(cls=common.Command)
@common.all_of(
    click.argument("shell", required=False, metavar="[bash|zsh|fish]"),
    click.option("--install", is_flag=True, help="Write the script to where the shell finds it."),
)
def completion(shell: str | None, install: bool, **flags: Any) -> None:
    """Print the script that completes commands, options and names on TAB.

    It completes the folders and environments in the configuration, files, and
    the objects of a store, one level at a time. By default it is for your shell
    ($SHELL).

    \b
    Examples:
      craftsync completion bash --install
      source <(craftsync completion bash)
      craftsync completion fish > ~/.config/fish/completions/craftsync.fish
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise UsageError(
            f"{name!r} is not a supported shell." if name else "No shell given.",
            remedy="Give bash, zsh or fish.",
        )
    if not install:
        with writing():
            put_lines(_script(name))
        return
    file, hints = _SHELLS[name]()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{_script(name)}\n", "utf-8")
    except OSError as error:
        raise CraftsyncError(
            f"{file} cannot be written: {error.strerror}.",
            remedy=f"Print the script instead: craftsync completion {name}",
        ) from error
    say(f"wrote {file}")
    for line in hints:
        say(line)


def _script(name: str) -> str:
    return (Path(__file__).parent / f"craftsync.{name}").read_text("utf-8").rstrip()


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()


def _for_bash() -> tuple[Path, list[str]]:
    file = _data_home() / "bash-completion" / "completions" / "craftsync"
    if Path("/usr/share/bash-completion/bash_completion").exists():
        return file, ["It works in every new bash."]
    return file, ["Add this line to ~/.bashrc, then start a new bash:", f"  source {file}"]


def _for_zsh() -> tuple[Path, list[str]]:
    file = _data_home() / "zsh" / "site-functions" / "_craftsync"
    lines = [f"  fpath=({file.parent} $fpath)", "  autoload -Uz compinit && compinit"]
    return file, ["Add these lines to ~/.zshrc, then start a new zsh:", *lines]


def _for_fish() -> tuple[Path, list[str]]:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return home / "fish" / "completions" / "craftsync.fish", ["It works in every new fish."]


_SHELLS: dict[str, Callable[[], tuple[Path, list[str]]]] = {
    "bash": _for_bash,
    "zsh": _for_zsh,
    "fish": _for_fish,
}
"""For each shell: the file for its script, and what the user must do after that."""


def answer(cli: click.Command, shell: str) -> int:
    """Print the completions of the word being typed, for the script of a shell; never fails.

    A complete word ends with a space in bash, and with a tab and its help in
    the others; a word that may continue, such as a folder, ends with neither.
    """
    common.Word.suggest = staticmethod(suggest)
    with suppress(Exception):
        typed = Bash.of(os.environ) if shell == "bash" else Plain(sys.argv[1:])
        asked = ShellComplete(cli, {}, "craftsync", VARIABLE)
        found = asked.get_completions(list(typed.words), typed.incomplete)
        lines = [typed.line_of(item) for each in found for item in _expanded(each)]
        sys.stdout.write("".join(f"{line}\n" for line in lines if line is not None))
        sys.stdout.flush()
    return 0


def _expanded(item: Item) -> Iterable[Item]:
    """Return an item, or the files that replace an item of click's type `file`."""
    if item.type not in ("file", "dir"):
        return (item,)
    return on_disk(item.value, folders_only=item.type == "dir")


class Plain:
    """The words from zsh and fish: without quotes, the last one incomplete."""

    def __init__(self, words: Sequence[str]) -> None:
        *self.words, self.incomplete = words or ("",)
        self._option = _option_before(self.incomplete)

    def line_of(self, item: Item) -> str | None:
        value = self._option + item.value
        if not value.isprintable():
            return None
        return value if item.type == "part" else f"{value}\t{_first_line(item.help)}"


class Bash(Plain):
    """The line from bash: as it was typed, quotes included.

    readline replaces only the text after the last of COMP_WORDBREAKS, for instance a
    colon, or after an open quote; so only that text is printed.
    """

    def __init__(self, line: str, breaks: str) -> None:
        words, raw = split(line)
        super().__init__([*words[1:], raw.text])
        self._raw = raw
        self._kept = raw.kept(breaks)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Bash:
        return cls(environment["COMP_LINE"], environment.get("COMP_WORDBREAKS", ""))

    def line_of(self, item: Item) -> str | None:
        value = self._option + item.value
        if not value.isprintable() or not value.startswith(self._kept):
            return None
        rest = self._raw.quoted(value[len(self._kept) :], at_start=not self._kept)
        # readline closes an open quote by itself.
        return rest if item.type == "part" or self._raw.quote else f"{rest} "


class Raw:
    """The last word of a line as it was typed: its text, its open quote, and where each letter came from."""

    def __init__(self) -> None:
        self.text = ""
        self.quote = ""
        self.plain: list[bool] = []
        """For each letter of the text, whether neither quote nor backslash protected it."""
        self.quoted_from = 0
        """The length of the text before the open quote."""

    def add(self, letter: str, *, plain: bool) -> None:
        self.text += letter
        self.plain.append(plain)

    def kept(self, breaks: str) -> str:
        """Return the start of the text, which readline keeps."""
        if self.quote:
            return self.text[: self.quoted_from]
        ends = [
            at + 1
            for at, letter in enumerate(self.text)
            if self.plain[at] and letter in breaks and not letter.isspace()
        ]
        return self.text[: ends[-1]] if ends else ""

    def quoted(self, text: str, *, at_start: bool) -> str:
        """Return text quoted so that it continues what was typed."""
        if self.quote == "'":
            return text.replace("'", "'\\''")
        special = '\\"$`' if self.quote else "\\\"'$` \t&|;<>()*?[]{}!#"
        home = 1 if at_start and not self.quote and text.startswith("~/") else 0
        rest = "".join(f"\\{letter}" if letter in special else letter for letter in text[home:])
        if home or self.quote or not text.startswith("~"):
            return text[:home] + rest
        return f"\\{rest}"


def split(line: str) -> tuple[list[str], Raw]:
    """Return the words of a command line, and the last one as it was typed."""
    words: list[str] = []
    raw, started, escaped = Raw(), False, False
    for letter in line:
        if escaped:
            raw.add(letter, plain=False)
            escaped = False
        elif letter == "\\" and raw.quote != "'":
            escaped = started = True
        elif raw.quote:
            if letter == raw.quote:
                raw.quote = ""
            else:
                raw.add(letter, plain=False)
        elif letter in "'\"":
            raw.quote, raw.quoted_from, started = letter, len(raw.text), True
        elif letter.isspace():
            if started:
                words.append(raw.text)
            raw, started = Raw(), False
        else:
            raw.add(letter, plain=True)
            started = True
    return words, raw


def _option_before(word: str) -> str:
    """Return the `--option=` before the value being typed, if any."""
    return f"{word.partition('=')[0]}=" if word.startswith("--") and "=" in word else ""


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
