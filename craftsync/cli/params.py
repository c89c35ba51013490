"""The flags several commands share, and what they are split into.

Groups of commands: whole sentences in the help, and the nearest command for one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import click

from craftsync.cli.terminal import ReaderGone
from craftsync.config.options import PairOptions, PassOptions, Settings
from craftsync.config.parsers import BadWord, choice_of
from craftsync.core.model import Mode
from craftsync.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def _or_global(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return value if value is not None else (ctx.obj or {}).get(param.name)


class Command(click.Command):
    """A command that takes the global options after its name too, and CRAFTSYNC_* for its own.

    click would look for CRAFTSYNC_PUSH_TRANSFERS; a setting is the same for
    every command, so it is CRAFTSYNC_TRANSFERS.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings["context_settings"] = {"auto_envvar_prefix": "CRAFTSYNC"}
        super().__init__(*args, **settings)
        self.params += [
            click.Option(
                [flag],
                metavar=metavar,
                callback=_or_global,
                allow_from_autoenv=False,
                help=f"As before the command: {what}.",
            )
            for flag, metavar, what in (
                ("--config", "FILE", "the configuration file"),
                ("--state-dir", "DIR", "where the state databases live"),
            )
        ]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # click would make an exit code of 1 of it.
            raise ReaderGone from error


def all_of(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Return one decorator that applies several, so that the first comes first in the help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


pair_words = click.argument("pair", nargs=-1, metavar="[FOLDER | ROOT STORE]")

access_options = all_of(
    click.option("--profile", help="The AWS profile of an S3 store."),
    click.option("--region", help="The region of an S3 store."),
    click.option("--endpoint-url", metavar="URL", help="The address of an S3-compatible server."),
    click.option("--request-payer", is_flag=True, help="Pay for requests to an S3 bucket."),
)

json_option = click.option("--json", is_flag=True, help="Print one JSON object a line.")

path_options = all_of(
    click.option("--folder", metavar="NAME", help="The folder of the configuration it is about."),
    click.option("--root", metavar="ROOT", help="The folder, together with --store."),
    click.option("--store", metavar="STORE", help="The store it is about, together with --root."),
    access_options,
)

pattern_options = all_of(
    click.option("--include", multiple=True, metavar="PATTERN", help="Take only what matches."),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches."),
    click.option(
        "--exclude-from", multiple=True, metavar="FILE", help="Leave out what matches its lines."
    ),
)

filter_options = all_of(
    pattern_options,
    click.option("-c", "--checksum", is_flag=True, help="Read all content, trust no time."),
    click.option("--size-only", is_flag=True, help="Compare sizes only."),
)

mode_option = click.option("--mode", metavar="MODE", help="two-way (the default), push or pull.")

decision_options = all_of(
    click.option("--delete/--no-delete", default=None, help="Delete what the other side lost."),
    click.option("--max-delete", metavar="N|P%", help="Hold the deletes if there are more."),
    click.option("--force-delete", is_flag=True, help="Carry out all deletes, this once."),
    filter_options,
    click.option(
        "--conflict", metavar="HOW", help="both, newer, local or remote, when both sides changed."
    ),
)

transfer_options = all_of(
    click.option("--transfers", metavar="N|auto", help="How many files travel at once."),
    click.option(
        "--bwlimit", metavar="RATE[:RATE]", help="Bytes per second up and down, with K, M or G."
    ),
)

output_options = all_of(
    json_option,
    click.option("-q", "--quiet", is_flag=True, help="Only say what is wrong."),
    click.option("-v", "--verbose", is_flag=True, help="Say each action."),
)

dry_run_option = click.option(
    "-n", "--dry-run", "--dryrun", is_flag=True, help="Say what would be done, and do nothing."
)


def asked_of(flags: Mapping[str, Any]) -> PassOptions:
    """Return those of a command's flags that are options of a run; the others are the command's own."""
    return cast(
        PassOptions,
        {name: value for name, value in flags.items() if name in PassOptions.__annotations__},
    )


def place_of(flags: Mapping[str, Any]) -> PairOptions:
    """Return those of a command's flags that say where things are."""
    return cast(
        PairOptions,
        {name: value for name, value in flags.items() if name in PairOptions.__annotations__},
    )


def words_of(flags: Mapping[str, Any]) -> list[str]:
    """Return the words that name the pair of a command whose own word is a path; none if none was given."""
    folder, root, store = flags["folder"], flags["root"], flags["store"]
    if (root is None) != (store is None) or (folder is not None and root is not None):
        raise click.UsageError("Give --folder alone, or --root and --store together.")
    if folder is not None:
        return [folder]
    return [] if root is None else [root, store]


def mode_of(word: str | None) -> Mode | None:
    """Return the mode `--mode` names, if it was given."""
    if word is None:
        return None
    try:
        return choice_of(Mode, "mode")(word)
    except BadWord as bad:
        raise UsageError(f"--mode: {word!r} {bad}.", remedy=bad.remedy) from bad


def watch_settings_of(flags: Mapping[str, Any]) -> Settings:
    """Return the times that the flags of `watch` give."""
    return Settings(settle=flags["settle"], poll=flags["poll"], rescan=flags["rescan"])


_NO_LIMIT = 1000


class Group(click.Group):
    """A group whose help cuts no sentence off, and that knows what a mistyped command was meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                ctx.fail(f"{error.message} Did you mean {near[0]}?")
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(_NO_LIMIT)) for name, each in commands if each]
            )
