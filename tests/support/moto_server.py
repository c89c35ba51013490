"""moto over HTTP, at less than half of the processor time of its own server."""

from __future__ import annotations

import gc
import sys
from functools import cache
from io import BytesIO

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.exceptions import InternalServerError
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app


class _Services(DomainDispatcherApplication):
    """Finds out once which service a host name stands for.

    moto looks into each of its two hundred folders, with every request, which
    takes longer than the answer.
    """

    get_backend_for_host = cache(DomainDispatcherApplication.get_backend_for_host)


class _Handler(MotoRequestHandler):
    """Keeps connections open, as every real store does. Werkzeug's closes each after one answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        environ = self.make_environ()
        # All of it: what is left unread would be taken for the next request.
        chunked = "wsgi.input_terminated" in environ
        length = None if chunked else int(self.headers.get("Content-Length", 0))
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(length))
        try:
            pieces, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        except Exception:  # noqa: BLE001 (a fault of moto is one request's, as in any server)
            pieces, status, headers = run_wsgi_app(InternalServerError(), environ, buffered=True)
        content = b"".join(pieces)
        code, _, reason = status.partition(" ")
        if self.command != "HEAD" and code not in ("204", "304"):
            headers.setdefault("Content-Length", len(content))
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_: object) -> None:
        """Write no log, which nobody would read."""


def main() -> None:
    """Serve on the port in the first word, until the process is ended."""
    services = _Services(create_backend_app)
    gc.collect()
    gc.freeze()
    server = make_server(
        "127.0.0.1", int(sys.argv[1]), services, threaded=True, request_handler=_Handler
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
