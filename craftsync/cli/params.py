"""Flags that several commands share, made from the table of options; and reading their values."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import click

from craftsync.cli.terminal import NAMING, ReaderGone, addressed
from craftsync.config import options
from craftsync.config.options import PairOptions, RunOptions
from craftsync.config.parsers import BadWord, choice_of
from craftsync.core.model import Mode
from craftsync.errors import CraftsyncError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Suggest = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[str]]"]
F = TypeVar("F", bound=Callable[..., Any])
Value = TypeVar("Value")
Decorator = Callable[[F], F]


def _or_global(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return value if value is not None else (ctx.obj or {}).get(param.name)


def parsed(parse: Callable[[object], Value]) -> Callable[..., Value | None]:
    """Return a click callback that parses the value of a flag."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Value | None:
        if value is None:
            return None
        try:
            return parse(value)
        except BadWord as bad:
            raise click.UsageError(f"{param.opts[0]}: {value!r} {bad}. {bad.remedy}") from bad

    return read


class Word(click.types.StringParamType):
    """Any word; its completions on TAB depend on the name of its parameter."""

    suggest: ClassVar[Suggest | None] = None
    """Returns its completions; set by `completion.answer`."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        suggest = type(self).suggest
        return suggest(ctx, param, incomplete) if suggest else []


class Number(click.FloatRange):
    """A number within bounds; refuses "nan"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


COUNT = click.IntRange(1, 10**9)
"""A count that fits into a database."""


class Command(click.Command):
    """A command that also takes the global options after its name, and CRAFTSYNC_* variables for its own.

    click would read CRAFTSYNC_PUSH_TRANSFERS, but a setting has the same
    variable for every command: CRAFTSYNC_TRANSFERS.
    """

    has_summary: ClassVar[bool] = False
    """Whether its last line with --json is a summary."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings["context_settings"] = {"auto_envvar_prefix": "CRAFTSYNC"}
        super().__init__(*args, **settings)
        self.params += [
            click.Option(
                [row.flag],
                metavar=row.value,
                callback=_or_global,
                allow_from_autoenv=False,
                help=f"As before the command: {row.help[0].lower()}{row.help[1:]}",
            )
            for row in options.flags("global")
        ]
        for param in self.params:
            if param.type is click.STRING:
                param.type = Word()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        try:
            left = super().parse_args(ctx, args)
            _refuse_empty(ctx)
            return left
        except click.NoSuchOption as error:
            hint = self._habit(error.option_name) or self._one_dash_hint(words)
            if file := next((word for word in words if _is_file_like_an_option(word)), None):
                hint = f"For the file of that name write ./{file}."
            if not hint:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}. {hint}", ctx) from error

    def _flags(self) -> set[str]:
        return {flag for param in self.params for flag in param.opts}

    def _habit(self, name: str) -> str:
        """Return the hint for an option of another program, if this command has the option that it names."""
        needed, hint = _HABITS.get(name, ("", ""))
        return hint if needed in self._flags() else ""

    def _one_dash_hint(self, words: Sequence[str]) -> str:
        """Return a hint for an option written with one dash, as find accepts it."""
        known = self._flags()
        near = next((f"-{word}" for word in words if f"-{word}" in known and len(word) > 2), "")
        return f"Did you mean {near}?" if near else ""

    def _saying_waits(self, ctx: click.Context) -> AbstractContextManager[None]:
        from craftsync.cli.output import saying_waits

        # The status of a daemon shows what each folder waits for.
        return nullcontext() if self.name == "watch" else saying_waits(ctx.params)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.meta[NAMING] = naming(())
        try:
            with self._saying_waits(ctx):
                return super().invoke(ctx)
        except BrokenPipeError as error:
            # click would exit with code 1.
            raise ReaderGone from error
        except (CraftsyncError, OSError, click.ClickException) as error:
            if isinstance(error, CraftsyncError):
                error.remedy = addressed(error.remedy)
            if ctx.params.get("json"):
                from craftsync.cli.output import say_failure

                say_failure(error, ctx)
            raise


class CommandWithSummary(Command):
    """A command whose last line with --json is a summary, also after an error."""

    has_summary = True


_HABITS = {
    **dict.fromkeys(
        ("-r", "--recursive"), ("--exclude", "Folders always include everything below them.")
    ),
    **dict.fromkeys(
        ("-P", "--progress"),
        ("--stats", "A terminal shows progress; --stats 1m prints it elsewhere."),
    ),
    "--json": (
        "--human",
        "ls -R --json and find --json print one JSON object for each object.",
    ),
    "--only-show-errors": ("-q", "That is -q here."),
    "--follow-symlinks": ("--links", "That is --links follow here."),
}
"""{option of another program: (option that a command must have for the hint to apply, hint)}."""


_NAMED_PLACES = {"ROOT", "STORE", "FILE", "DIR"}
"""The values of options that name a place; so does --folder."""


def _refuse_empty(ctx: click.Context) -> None:
    """Raise `click.UsageError` for an empty argument, or an empty option that names a place.

    It comes from a variable that is not set, and would mean the current directory.
    """
    for param in () if ctx.resilient_parsing else ctx.command.params:
        is_place = param.metavar in _NAMED_PLACES or param.name == "folder"
        if isinstance(param, click.Option) and not is_place:
            continue
        value = ctx.params.get(param.name or "")
        values = value if isinstance(value, tuple) else (value,)
        if "" in values:
            name = _name_of(param, values.index(""), len(values))
            raise click.UsageError(f"{name} is empty. Is a variable not set?", ctx)


def _name_of(param: click.Parameter, index: int, count: int) -> str:
    """Return the name of one of the values of a parameter, as the help writes it."""
    if isinstance(param, click.Option):
        return param.opts[0]
    metavar = param.metavar or (param.name or "").upper()
    names = metavar.replace(" | ", " ").replace("[", "").replace("]", "").split()
    if "..." in metavar:
        name = names[-1] if index == count - 1 else names[0]
    else:
        name = names[0] if count == 1 else names[-count:][min(index, len(names) - 1)]
    return name.removesuffix("...").replace("|", " or ")


def _is_file_like_an_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and os.path.lexists(word)


def all_of(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Return one decorator that applies several; the first comes first in the help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def option(name: str, *, hidden: bool = False) -> Decorator[Any]:
    """Return the flag for an option of the table; `hidden` omits it from the help."""
    row = options.FLAGS[name]
    if row.value:
        has_word = row.default and " " not in row.default
        shown = f"{row.help} [{row.default}]" if has_word else row.help
        return click.option(
            *(row.flag, *row.spellings),
            multiple=row.many,
            metavar=row.value,
            help=shown,
            hidden=hidden,
        )
    opposite = [word for word in row.spellings if word.startswith("--no-")]
    if opposite:
        return click.option(f"{row.flag}/{opposite[0]}", default=None, help=row.help)
    return click.option(row.flag, *row.spellings, is_flag=True, help=row.help, hidden=hidden)


def group(name: str, *, hidden: bool = False) -> Decorator[Any]:
    """Return the flags for a group of options of the table."""
    return all_of(*(option(row.name, hidden=hidden) for row in options.flags(name)))


access_options = group("access")
written_options = group("written")
json_option = option("json")
path_options = all_of(group("path"), access_options)
pair_options = all_of(
    click.argument("pair", nargs=-1, metavar="[FOLDER | ROOT STORE]"), path_options
)
"""Arguments and flags that name the linked folder of a command without PATHs."""
pattern_options = group("patterns")
filter_options = all_of(pattern_options, group("compare"))
take_part_options = group("filters")
existing_options = group("existing")
links_option = option("links")
refused_links = option("links", hidden=True)
refused_existing = group("existing", hidden=True)
refused_filters = all_of(group("filters", hidden=True), refused_existing, refused_links)
"""Filters for commands that refuse them with a reason, even if a variable sets one."""
mode_option = option("mode")
time_options = group("times")
decision_options = all_of(group("deletes"), filter_options, option("conflict"))
transfer_options = group("transfers")
output_options = all_of(json_option, group("loudness"))
dry_run_option = option("dry_run")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


paths_argument = click.argument("paths", nargs=-1, metavar="[PATH]...")


def when_option(flag: str, help: str) -> Decorator[Any]:
    """Return a flag for a date or time, `yesterday` or an age; its value is a date or time in UTC."""
    help = f"{help} Such as 2026-11-29, 2026-11-29T14:00, yesterday or 2h."
    return click.option(flag, metavar="WHEN", callback=_in_utc, help=help)


def _in_utc(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from craftsync.clock import SystemClock
    from craftsync.engine.review.selection import in_utc

    return value and in_utc(value, SystemClock().now_ns())


def asked_of(flags: Mapping[str, Any]) -> RunOptions:
    """Return the flags that are options of a run, without the command's own."""
    return cast(
        RunOptions,
        {name: value for name, value in flags.items() if name in RunOptions.__annotations__},
    )


def place_of(flags: Mapping[str, Any]) -> PairOptions:
    """Return the flags that name places."""
    return cast(
        PairOptions,
        {name: value for name, value in flags.items() if name in PairOptions.__annotations__},
    )


def words_of(flags: Mapping[str, Any], typed: Sequence[str] = ()) -> Sequence[str]:
    """Return the words that name the linked folder: the typed ones, or those of --folder, --root and --store.

    Empty if there are none. Typed words take precedence over CRAFTSYNC_*
    variables. Raises `click.UsageError` for typed words and typed flags at once.
    """
    words = _words_of(flags, typed)
    click.get_current_context().meta[NAMING] = naming(words)
    return words


def _words_of(flags: Mapping[str, Any], typed: Sequence[str]) -> Sequence[str]:
    folder, root, store = flags["folder"], flags["root"], flags["store"]
    if typed:
        if any(_is_typed(name) for name in ("folder", "root", "store")):
            raise click.UsageError("Name the folder by words or by flags, not by both.")
        return typed
    if (root is None) != (store is None) or (folder is not None and root is not None):
        raise click.UsageError("Give --folder alone, or --root and --store together.")
    if folder is not None:
        return [folder]
    return [] if root is None else [root, store]


def typed_with(*words: str) -> str:
    """Return the command as typed, with words added to its options."""
    typed = ["craftsync", *sys.argv[1:]]
    end = typed.index("--") if "--" in typed else len(typed)
    return shlex.join([*typed[:end], *words, *typed[end:]])


def naming(words: Sequence[str]) -> str:
    """Return the flags, after a space, that name this linked folder and this configuration in any command.

    Empty without words, if the configuration comes from the variables.
    """
    flags = ("--folder",) if len(words) == 1 else ("--root", "--store")
    named = [*zip(flags, words, strict=False), *_typed_globals()]
    return "".join(f" {flag} {shlex.quote(word)}" for flag, word in named)


def _typed_globals() -> Iterator[tuple[str, str]]:
    """Yield the global options of this call, without those from variables, which the next call has, too."""
    context = click.get_current_context(silent=True)
    for row in options.flags("global") if context else ():
        value = context.params.get(row.name) if context else None
        if value and value != os.environ.get(f"CRAFTSYNC_{row.name.upper()}"):
            yield row.flag, str(value)


def _is_typed(flag: str) -> bool:
    source = click.get_current_context().get_parameter_source(flag)
    return source is click.core.ParameterSource.COMMANDLINE


def mode_of(word: str | None) -> Mode | None:
    """Return the mode `--mode` names, if it was given."""
    return options.read({"mode": word}, "mode", choice_of(Mode, "mode"))
