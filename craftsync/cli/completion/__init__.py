"""`completion`: the scripts that ask on TAB, and the answers.

A script calls the program again with `_CRAFTSYNC_COMPLETE` set to the name of
the shell. The answer comes from the commands themselves (click knows which word
is being typed), the configuration, the disk, and one level of a store. It is
quick or from memory: no answer waits for a store longer than three seconds,
nothing is asked, and errors print nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import ShellComplete

from craftsync.cli import params as common
from craftsync.cli.completion.line import Bash, Plain
from craftsync.cli.completion.names import Item, on_disk
from craftsync.cli.output import say
from craftsync.cli.terminal import put_lines, told
from craftsync.errors import CraftsyncError, UsageError

VARIABLE = "_CRAFTSYNC_COMPLETE"


@click.command(cls=common.Command)
@common.all_of(
    click.argument("shell", required=False, metavar="[bash|zsh|fish]"),
    click.option("--install", is_flag=True, help="Put the script where the shell finds it."),
)
def completion(shell: str | None, install: bool, **flags: Any) -> None:
    """Print the script that completes commands, options and names on TAB.

    It completes the folders and environments of the configuration, files, and
    the objects of a store, one level at a time. Without a word it is for the
    shell you use ($SHELL).

    \b
    Examples:
      craftsync completion bash --install
      source <(craftsync completion bash)
      craftsync completion fish > ~/.config/fish/completions/craftsync.fish
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise UsageError(
            f"{name!r} is not a shell that can be completed in." if name else "No shell given.",
            remedy="Give bash, zsh or fish.",
        )
    if not install:
        with told():
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
"""Where the script of each shell belongs, and what else is to be done."""


def answer(cli: click.Command, shell: str) -> int:
    """Print what the word that is being typed may become, for the script of a shell; never fails.

    A complete word ends with a space in bash, and with a tab and its help in
    the others; what may go on, such as a folder, ends with neither.
    """
    with suppress(Exception):
        typed = Bash.of(os.environ) if shell == "bash" else Plain(sys.argv[1:])
        asked = _Asked(cli, {}, "craftsync", VARIABLE)
        found = asked.get_completions(list(typed.words), typed.incomplete)
        lines = [typed.line_of(item) for each in found for item in _expanded(each)]
        sys.stdout.write("".join(f"{line}\n" for line in lines if line is not None))
        sys.stdout.flush()
    return 0


def _expanded(item: Item) -> Iterable[Item]:
    """Return an item itself, or the files that stand for one of the kind `file` of click."""
    if item.type not in ("file", "dir"):
        return (item,)
    return on_disk(item.value, folders_only=item.type == "dir")


class _Asked(ShellComplete):
    """click's way from words to the thing that knows how to complete the next one."""

    name = "craftsync"
