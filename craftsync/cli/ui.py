"""`ui`: the data store and the linked folders in a browser."""

from __future__ import annotations

import threading
import webbrowser
from typing import TYPE_CHECKING, Any

import click

from craftsync.cli import params as common
from craftsync.cli.output import say
from craftsync.errors import UsageError
from craftsync.installing import install_command
from craftsync.net.listening import address_of, is_loopback, listen

if TYPE_CHECKING:
    from craftsync.ui.server import Tls


def _option(name: str, **settings: Any) -> common.Decorator[Any]:
    """Return an option that CRAFTSYNC_UI_… sets too: a port or a token is no setting of other commands."""
    variable = f"CRAFTSYNC_UI_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, allow_from_autoenv=False, **settings)


@click.command(cls=common.Command)
@common.all_of(
    _option("--port", type=click.IntRange(0, 65535), default=8765, help="0 takes any. [8765]"),
    _option("--host", default="127.0.0.1", help="The address to listen on. [127.0.0.1]"),
    _option("--token", help="A token of your own, for more than one use; needed on another host."),
    _option(
        "--tls-certificate", metavar="FILE", help="Serve over TLS with this certificate (PEM)."
    ),
    _option("--tls-key", metavar="FILE", help="The key of the certificate (PEM)."),
    click.option("--no-open", is_flag=True, help="Only print the link; open no browser."),
    common.access_options,
)
def ui(**flags: Any) -> int:
    """Show the data store and the linked folders in a browser, until stopped.

    Prints a link that opens the page once, and opens the browser with it. Only
    this machine can reach the page, unless --host says otherwise: then it needs
    a token of yours, better in CRAFTSYNC_UI_TOKEN than in --token, which every
    user of the machine can see. Ctrl-C ends it; a daemon goes on without it.

    \b
    Examples:
      craftsync ui
      craftsync ui --port 9000 --no-open
    """
    tls = _tls(flags)
    _check_host(flags, tls)
    try:
        _serve(flags, tls)
    except KeyboardInterrupt:
        # How a server is stopped is not how a command is interrupted.
        return 0
    return 0


def _serve(flags: dict[str, Any], tls: Tls | None) -> None:
    try:
        from craftsync.ui import server
        from craftsync.ui.guard import Access
    except ImportError as error:
        raise UsageError(
            f"ui needs a package that is not installed ({error.name}).",
            remedy=f"Install it with: {install_command('ui')}",
        ) from error
    access = Access(flags["token"])
    with listen(flags["host"], flags["port"]) as listener, listen(flags["host"], 0) as beside:
        address = address_of(listener).replace("http:", "http:" if tls is None else "https:")
        link = f"{address}/?token={access.mint()}"

        def started() -> None:
            say(f"Open {link}")
            say("The link works once. Ctrl-C ends the page.", to_stderr=True)
            if not flags["no_open"]:
                threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()

        server.serve(listener, beside, access, common.place_of(flags), tls=tls, started=started)


def _tls(flags: dict[str, Any]) -> Tls | None:
    certificate, key = flags["tls_certificate"], flags["tls_key"]
    if (certificate is None) != (key is None):
        raise UsageError(
            "TLS needs a certificate and its key.", remedy="Give --tls-certificate and --tls-key."
        )
    if certificate is None:
        return None
    from craftsync.ui.server import Tls

    return Tls(certificate, key)


def _check_host(flags: dict[str, Any], tls: Tls | None) -> None:
    if flags["token"] == "":
        raise UsageError("The token is empty.", remedy="Give one of at least one character.")
    if is_loopback(flags["host"]) or tls is not None:
        return
    if flags["token"] is None:
        raise UsageError(
            f"On {flags['host']} others can reach the page, and nothing keeps them out.",
            remedy="Choose a token and give it in CRAFTSYNC_UI_TOKEN, or give a certificate with"
            " --tls-certificate and --tls-key.",
        )
    say(
        f"Warning: what is sent to {flags['host']} is not encrypted, the token included. "
        "Give --tls-certificate and --tls-key, or put a proxy that speaks TLS in front of it.",
        to_stderr=True,
    )
