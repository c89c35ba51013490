"""Groups of commands: whole sentences in the help, and the nearest command for one that does not exist."""

from __future__ import annotations

import click

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
