"""`serve`: a data store server for the Craft AI SDK, over any store."""

from __future__ import annotations

import shlex
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening
from craftsync.cli import params as common
from craftsync.cli.output import say
from craftsync.cli.terminal import shown
from craftsync.clock import SystemClock
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.errors import UsageError
from craftsync.installing import install_command
from craftsync.net.listening import address_of, is_loopback, listen
from craftsync.state.history import KeptVersion, Outside
from craftsync.stores.base import server_and_location

if TYPE_CHECKING:
    from craftsync.serve.content import NoteKept
    from craftsync.serve.server import Settings

_seconds = common.Number(0, 100 * 365 * 86_400, min_open=True)


def _option(name: str, **settings: Any) -> common.Decorator[Any]:
    """Return an option that CRAFTSYNC_SERVE_… sets too: a port or a token is no setting of other commands."""
    variable = f"CRAFTSYNC_SERVE_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, allow_from_autoenv=False, **settings)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("store"),
    _option("--port", type=click.IntRange(0, 65535), default=8790, help="0 takes any. [8790]"),
    _option("--host", default="127.0.0.1", help="The address to listen on. [127.0.0.1]"),
    _option("--token", help="The SDK token; a random one if none is given."),
    _option(
        "--token-lifetime", type=_seconds, default=3600, help="Seconds of an access token. [3600]"
    ),
    _option("--url-lifetime", type=_seconds, default=3600, help="Seconds of a signed URL. [3600]"),
    # Hidden: the time a client may be silent in the middle of a request, or between two.
    _option("--client-timeout", type=_seconds, default=65, hidden=True),
    click.option("-v", "--verbose", is_flag=True, help="Say each request."),
    common.access_options,
)
def serve(store: str, **flags: Any) -> int:
    """Serve a store to programs that use the Craft AI SDK, until stopped.

    The programs need no change, only the three variables that are printed. A token of your own is better given in
    CRAFTSYNC_SERVE_TOKEN than in --token, which every user of the machine can
    see. Large uploads wait in TMPDIR until they are complete. A folder given by
    its path is made if it is not there. Ctrl-C or SIGTERM ends it in good order.

    \b
    Examples:
      craftsync serve ./datastore
      craftsync serve --port 9000 s3://bucket/prefix
    """
    settings = _settings_of(flags)
    config = configuration.load(flags["config"])
    location = places.resolve(store, config, pairs.access_of(common.place_of(flags)))
    try:
        _serve(location, settings, flags, create=places.is_path(store))
    except KeyboardInterrupt:
        # How a server is stopped is not how a command is interrupted.
        return 0
    return 0


def _serve(
    location: places.Location, settings: Settings, flags: dict[str, Any], *, create: bool
) -> None:
    """Serve a place; with `create`, a folder that is not there is made.

    That of an environment is not: it may be on a disk that is not mounted.
    """
    from craftsync.serve import server

    made = create and not places.exists(location)
    with opening.open_store(location, create=create) as store:
        server.ensure_there(store)
        if made:
            say(f"Made the folder {shown(str(location))}.", to_stderr=True)
        with listen(flags["host"], flags["port"]) as listener:
            _say_variables(address_of(listener), settings.sdk_token, given=flags["token"])
            server.serve(
                store,
                listener,
                settings,
                clock=SystemClock(),
                log=lambda line: say(line, to_stderr=True),
                note=_noting(server_and_location(store), flags),
            )


def _noting(store: str, flags: dict[str, Any]) -> NoteKept:
    """Return what notes versions that go to the store's trash, so that a linked folder's retention bounds them."""
    place, clock = Outside(pairs.state_dir_of(common.place_of(flags)), store), SystemClock()

    def note(stamp: str, path: str, size: int) -> None:
        place.note([KeptVersion("store", stamp, path, size)], clock.now_ns())

    return note


def _settings_of(flags: dict[str, Any]) -> Settings:
    """Return what the flags say, within the rules for tokens; raises `UsageError`."""
    try:
        from craftsync.serve import server
    except ImportError as error:
        raise UsageError(
            f"serve needs a package that is not installed ({error.name}).",
            remedy=f"Install it with: {install_command('serve')}",
        ) from error
    token = flags["token"]
    if token == "":
        raise UsageError("The token is empty.", remedy="Give one of at least one character.")
    if not is_loopback(flags["host"]):
        if token is None:
            raise UsageError(
                f"On {flags['host']} others can reach the server, and only a token keeps them out.",
                remedy="Choose one and give it in CRAFTSYNC_SERVE_TOKEN.",
            )
        say(
            f"Warning: what is sent to {flags['host']} is not encrypted, the token included. "
            "Put a proxy that speaks TLS in front of it.",
            to_stderr=True,
        )
    return server.Settings(
        sdk_token=token or token_urlsafe(32),
        access_token_seconds=flags["token_lifetime"],
        signed_url_seconds=flags["url_lifetime"],
        client_seconds=flags["client_timeout"],
        log_requests=flags["verbose"],
    )


def _say_variables(address: str, sdk_token: str, *, given: str | None) -> None:
    """Print what a shell has to export; a token somebody chose is known to them, and shown to nobody."""
    if given is None:
        say(f"export CRAFT_AI_SDK_TOKEN={shlex.quote(sdk_token)}")
    else:
        say("# CRAFT_AI_SDK_TOKEN is the token that was given.")
    say(f"export CRAFT_AI_ENVIRONMENT_URL={address}")
    say(f"export CRAFT_AI_CONTROL_URL={address}")
