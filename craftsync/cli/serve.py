"""`serve`, a data store server for the Craft AI SDK over any store, and `ui`, the page in a browser."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import threading
import webbrowser
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import click

from craftsync.cli import params as common
from craftsync.cli.output import say
from craftsync.clock import SystemClock
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.errors import UsageError
from craftsync.install_hint import install_command
from craftsync.open_store import open_store
from craftsync.state.history import KeptVersion, Outside
from craftsync.stores.base import server_and_location
from craftsync.wording import shown

if TYPE_CHECKING:
    from craftsync.serve.content import OnKept
    from craftsync.serve.server import Settings


_BACKLOG = 512
_seconds = common.Number(0, 100 * 365 * 86_400, min_open=True)


def _option(name: str, **settings: Any) -> common.Decorator[Any]:
    """Return an option with the variable CRAFTSYNC_SERVE_…; other commands do not have it."""
    variable = f"CRAFTSYNC_SERVE_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, allow_from_autoenv=False, **settings)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("store"),
    _option(
        "--port", type=click.IntRange(0, 65535), default=8790, help="0 for any free port. [8790]"
    ),
    _option("--host", default="127.0.0.1", help="The address to listen on. [127.0.0.1]"),
    _option("--token", help="The SDK token; random by default."),
    _option(
        "--token-lifetime",
        type=_seconds,
        default=3600,
        help="The lifetime of access tokens in seconds. [3600]",
    ),
    _option(
        "--url-lifetime",
        type=_seconds,
        default=3600,
        help="The lifetime of signed URLs in seconds. [3600]",
    ),
    # Hidden: how long a client may be silent within a request, or between two.
    _option("--client-timeout", type=_seconds, default=65, hidden=True),
    click.option("-v", "--verbose", is_flag=True, help="Print each request."),
    common.access_options,
)
def serve(store: str, **flags: Any) -> int:
    """Serve a store to programs that use the Craft AI SDK, until stopped.

    The programs need no change, only the three variables that serve prints. Set
    a token of your own in CRAFTSYNC_SERVE_TOKEN: every user of the machine can
    read --token. Large uploads stay in TMPDIR until they are complete. If STORE
    is the path of a missing folder, it is created. Ctrl-C or SIGTERM stops the
    server cleanly.

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
        # Ctrl-C is the usual way to stop a server, not an error.
        return 0
    return 0


def _serve(
    location: places.Location, settings: Settings, flags: dict[str, Any], *, create: bool
) -> None:
    """Serve a location; `create` creates a missing folder.

    The folder of an environment is never created: its disk may not be mounted.
    """
    from craftsync.serve import server

    made = create and not places.exists(location)
    with open_store(location, create=create) as store:
        server.ensure_there(store)
        if made:
            say(f"Created the folder {shown(str(location))}.", to_stderr=True)
        with listen(flags["host"], flags["port"]) as listener:
            _say_variables(url_of(listener), settings.sdk_token, given=flags["token"])
            server.serve(
                store,
                listener,
                settings,
                clock=SystemClock(),
                log=lambda line: say(line, to_stderr=True),
                note=_noting(server_and_location(store), flags),
            )


def _noting(store: str, flags: dict[str, Any]) -> OnKept:
    """Return a function that notes versions moved to the store's trash, so that the retention of a linked folder applies to them."""
    place, clock = Outside(pairs.state_dir_of(common.place_of(flags)), store), SystemClock()

    def note(stamp: str, path: str, size: int) -> None:
        place.note([KeptVersion("store", stamp, path, size)], clock.now_ns())

    return note


def _settings_of(flags: dict[str, Any]) -> Settings:
    """Return the settings from the flags; raises `UsageError` for an unsafe token."""
    try:
        from craftsync.serve import server
    except ImportError as error:
        raise UsageError(
            f"serve needs a package that is not installed ({error.name}).",
            remedy=f"Install it with: {install_command('serve')}",
        ) from error
    token = flags["token"]
    if token == "":
        raise UsageError("The token is empty.", remedy="Give a token of at least one character.")
    if not is_loopback(flags["host"]):
        if token is None:
            raise UsageError(
                f"Other machines can reach {flags['host']}, so the server needs a token.",
                remedy="Set one in CRAFTSYNC_SERVE_TOKEN.",
            )
        say(
            f"Warning: traffic to {flags['host']} is not encrypted, the token included. "
            "Put a TLS proxy in front of it.",
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
    """Print the variables for a shell; a token that the user chose is not printed."""
    if given is None:
        say(f"export CRAFT_AI_SDK_TOKEN={shlex.quote(sdk_token)}")
    else:
        say("# CRAFT_AI_SDK_TOKEN is the token that was given.")
    say(f"export CRAFT_AI_ENVIRONMENT_URL={address}")
    say(f"export CRAFT_AI_CONTROL_URL={address}")


def _ui_option(name: str, **settings: Any) -> common.Decorator[Any]:
    """Return an option with the variable CRAFTSYNC_UI_…; other commands do not have it."""
    variable = f"CRAFTSYNC_UI_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, allow_from_autoenv=False, **settings)


@click.command(cls=common.Command)
@common.all_of(
    _ui_option(
        "--port", type=click.IntRange(0, 65535), default=8765, help="0 for any free port. [8765]"
    ),
    _ui_option("--host", default="127.0.0.1", help="The address to listen on. [127.0.0.1]"),
    _ui_option("--token", help="A token of your own, which can be used more than once."),
    _ui_option(
        "--tls-certificate", metavar="FILE", help="Serve over TLS with this certificate (PEM)."
    ),
    _ui_option("--tls-key", metavar="FILE", help="The key of the certificate (PEM)."),
    click.option("--no-open", is_flag=True, help="Only print the link; open no browser."),
    common.access_options,
)
def ui(**flags: Any) -> int:
    """Show the data store and the linked folders in a browser, until stopped.

    ui prints a link that works once, and opens it in the browser. By default,
    only this machine can reach the page. With another --host, it needs TLS or a
    token of your own. Set the token in CRAFTSYNC_UI_TOKEN: every user of the
    machine can read --token. Ctrl-C stops the page; daemons keep running.

    \b
    Examples:
      craftsync ui
      craftsync ui --port 9000 --no-open
    """
    secure = _is_secure(flags)
    _check_host(flags, secure=secure)
    try:
        _serve_page(flags, secure=secure)
    except KeyboardInterrupt:
        # Ctrl-C is the usual way to stop a server, not an error.
        return 0
    return 0


def _serve_page(flags: dict[str, Any], *, secure: bool) -> None:
    with listen(flags["host"], flags["port"]) as listener, listen(flags["host"], 0) as beside:
        # Only now: NiceGUI takes more than a second to load.
        try:
            from craftsync.ui import server
            from craftsync.ui.guard import Access
        except ImportError as error:
            raise UsageError(
                f"ui needs a package that is not installed ({error.name}).",
                remedy=f"Install it with: {install_command('ui')}",
            ) from error
        access = Access(flags["token"])
        address = url_of(listener).replace("http:", "https:" if secure else "http:")
        link = f"{address}/?token={access.mint()}"
        tls = server.Tls(flags["tls_certificate"], flags["tls_key"]) if secure else None

        def started() -> None:
            say(f"Open {link}")
            say("The link works once. Ctrl-C ends the page.", to_stderr=True)
            if not flags["no_open"]:
                threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()

        server.serve(listener, beside, access, common.place_of(flags), tls=tls, started=started)


def _is_secure(flags: dict[str, Any]) -> bool:
    """Return whether the page is served over TLS; raises `UsageError` for a certificate that cannot be used."""
    certificate, key = flags["tls_certificate"], flags["tls_key"]
    if (certificate is None) != (key is None):
        raise UsageError(
            "TLS needs a certificate and its key.", remedy="Give --tls-certificate and --tls-key."
        )
    if certificate is None:
        return False
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:
        reason = "they are not in PEM, or do not belong together"
        if not isinstance(error, ssl.SSLError):
            reason = f"{error.strerror}"
        raise UsageError(
            f"The certificate {certificate} with the key {key} cannot be used: {reason}.",
            remedy="Give the files of a certificate and of its key, both in PEM.",
        ) from error
    return True


def _check_host(flags: dict[str, Any], *, secure: bool) -> None:
    if flags["token"] == "":
        raise UsageError("The token is empty.", remedy="Give a token of at least one character.")
    if is_loopback(flags["host"]) or secure:
        return
    if flags["token"] is None:
        raise UsageError(
            f"Other machines can reach {flags['host']}, so the page needs a token or TLS.",
            remedy="Set a token in CRAFTSYNC_UI_TOKEN, or give a certificate with"
            " --tls-certificate and --tls-key.",
        )
    say(
        f"Warning: traffic to {flags['host']} is not encrypted, the token included. "
        "Give --tls-certificate and --tls-key, or put a TLS proxy in front of it.",
        to_stderr=True,
    )


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address, which only this machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any free port. Raises `UsageError` if it cannot listen."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        # Without the protocol asyncio would leave Nagle's algorithm on, which costs 40 ms per response.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"Cannot listen on port {port} of {host} ({error.strerror}).",
            remedy="Choose another port with --port, or --port 0 for any free one.",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket; for a wildcard address, the loopback URL."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
