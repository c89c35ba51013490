"""The command line: parse, call, print.

It decides nothing. Each group of commands is a module that is imported only when
one of its commands is called, so `craftsync --version` does not load what
`craftsync sync` needs.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar

import click

from craftsync import __version__, limits
from craftsync.cli import signals, terminal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MODULES = {
    "push": "runs",
    "pull": "runs",
    "sync": "runs",
    "watch": "watch",
    "status": "status",
    "wait": "status",
    "pause": "watch",
    "resume": "watch",
    "stop": "watch",
    "rescan": "watch",
    "reload": "watch",
    "bwlimit": "watch",
    "service": "service",
    "plan": "runs",
    "apply": "runs",
    "check": "runs",
    "scrub": "runs",
    "migrate": "runs",
    "deletes": "review.deletes",
    "conflicts": "review.conflicts",
    "history": "records",
    "why": "records",
    "trash": "review.trash",
    "forget": "records",
    "ls": "objects.listing",
    "tree": "objects.listing",
    "du": "objects.listing",
    "find": "objects.listing",
    "stat": "objects.listing",
    "cat": "objects.listing",
    "put": "objects.copying",
    "get": "objects.copying",
    "url": "objects.listing",
    "cp": "objects.copying",
    "mv": "objects.copying",
    "rm": "objects.copying",
    "serve": "serve",
    "ui": "serve",
    "init": "init",
    "config": "init",
    "doctor": "doctor",
    "completion": "completion",
}
"""The commands in the order of the help, and the module each is defined in."""


_NO_LIMIT = 1000
"""More letters than any sentence of the help has."""


class Group(click.Group):
    """A group that shows whole sentences in its help, and suggests the nearest command for a mistyped one."""

    other_names: ClassVar[Mapping[str, str]] = {}
    """Names that other programs use for these commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            meant = self.other_names.get(args[0]) or (near[0] if near else None)
            if meant:
                ctx.fail(f"{error.message} Did you mean {meant}?")
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        items = super().shell_complete(ctx, incomplete)
        for item in items:
            if command := self.get_command(ctx, item.value):
                item.help = command.get_short_help_str(_NO_LIMIT)
        return items

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(_NO_LIMIT)) for name, each in commands if each]
            )


def _variable_is_json(context: click.Context | None) -> bool:
    """Return whether CRAFTSYNC_JSON asks for JSON; a command without --json ignores it."""
    command = context.command if context else None
    is_group = command is None or isinstance(command, click.Group)
    if command and not is_group and all(param.name != "json" for param in command.params):
        return False
    try:
        return bool(click.BOOL.convert(os.environ.get("CRAFTSYNC_JSON") or "no", None, None))
    except click.BadParameter:
        return False  # The command refuses such a value.


class Commands(Group):
    """A group that imports a command's module when the command is needed."""

    other_names: ClassVar[Mapping[str, str]] = {
        **{"head": "cat", "copy": "cp", "move": "mv", "list": "ls"},
        **dict.fromkeys(("delete", "remove", "del"), "rm"),
        **dict.fromkeys(("restore", "undelete"), "trash restore"),
        **dict.fromkeys(("start", "run", "daemon"), "watch or service install"),
    }

    def main(self, args: Sequence[str], **settings: Any) -> Any:  # type: ignore[override]
        """Run a command; with --json or its variable, print a usage error as a line of JSON, too."""
        try:
            return super().main(args, **settings)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            if "--json" in takewhile(lambda word: word != "--", args) or _variable_is_json(context):
                from craftsync.cli.output import say_failure

                say_failure(error, context)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            ctx.fail(
                f"{error.message.rstrip('.')}. Options of a command go after its name:"
                f" craftsync COMMAND {error.option_name}."
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Accept `help [COMMAND]` and `version`, as git and rclone do."""
        if args[0] == "help":
            if len(args) > 1:
                return super().resolve_command(ctx, [*args[1:], "--help"])
            click.echo(ctx.get_help())
            ctx.exit()
        if args[0] == "version":
            click.echo(f"craftsync {__version__}")
            ctx.exit()
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module = import_module(f"craftsync.cli.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.command(
    cls=Commands,
    context_settings={
        "auto_envvar_prefix": "CRAFTSYNC",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(
    __version__, prog_name="craftsync", message="%(prog)s %(version)s", allow_from_autoenv=False
)
@click.option("--config", type=click.Path(), metavar="FILE", help="The configuration file.")
@click.option(
    "--state-dir", type=click.Path(), metavar="DIR", help="The folder of the state databases."
)
@click.pass_context
def cli(ctx: click.Context, config: str | None, state_dir: str | None) -> None:
    """Keep a local folder (ROOT) and a data store (STORE) in sync.

    A STORE is an environment of the configuration (dev, dev:folder), a URL
    (s3://bucket/prefix, file:///folder) or a path (/…, ./…, ../…, ~…).
    FOLDER is the name of a linked folder in the configuration. Without
    arguments, a command uses the linked folder that contains the current
    directory, or else the only one in the configuration; a command that
    destroys or decides something needs that one named.

    \b
    Examples:
      craftsync sync ~/datasets ./backup
      craftsync push --dry-run data s3://bucket/prefix
      craftsync watch datasets
    """
    ctx.obj = {"config": config, "state_dir": state_dir}


def main() -> None:
    """Run the command line and leave with its exit code."""
    _insist_on_utf8()
    if shell := os.environ.get("_CRAFTSYNC_COMPLETE"):
        from craftsync.cli import completion

        sys.exit(completion.answer(cli, shell))
    signals.leave_to_child()
    limits.raise_limit()
    # A run creates millions of records and hardly any cycles, so collecting them rarely pays.
    gc.set_threshold(50_000, 20, 100)
    code = terminal.run(cli, sys.argv[1:])
    # No garbage is left to find; freezing makes the exit of the interpreter a tenth faster.
    gc.freeze()
    sys.exit(code)


def _insist_on_utf8() -> None:
    """Restart the interpreter if the locale makes it decode names as anything but UTF-8.

    A name is its bytes on the disk, which are UTF-8 in every locale.
    """
    if sys.getfilesystemencoding() != "utf-8":
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**os.environ, "PYTHONUTF8": "1"})
