"""An address with a host that no name server knows: named, exit code 78; a daemon waits for it."""

from __future__ import annotations

import json
import socket
from itertools import count
from urllib.parse import urlsplit

import pytest

from craftsync.net import hosts
from craftsync.net.hosts import Host, NoSuchHost, NotConnected, tls_context
from tests.support.cli import Craftsync
from tests.support.daemons import running
from tests.support.fake_s3 import Answer, scripted
from tests.support.s3 import fake_s3
from tests.support.serving import Serving

LABEL = "a" * 64
"""One letter more than a label of a name may have: it is refused without asking anybody."""


def unknown_to_the_name_server() -> str:
    """Return a name that the machine's name server denies; a machine without one cannot show it."""
    name = "no-such-host.invalid"
    try:
        socket.getaddrinfo(name, 80)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            return name
    pytest.skip("no name server answers here")


@pytest.fixture(params=["label", "asked"])
def host(request: pytest.FixtureRequest) -> str:
    return f"{LABEL}.test" if request.param == "label" else unknown_to_the_name_server()


@pytest.mark.parametrize("words", [("ls", "s3://bucket"), ("push", "root", "s3://bucket")])
def test_an_s3_endpoint_with_an_unknown_host_exits_78_and_names_it(
    craftsync: Craftsync, host: str, words: tuple[str, ...]
) -> None:
    craftsync.write("root/a")
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    run = craftsync(*words, **keys, AWS_ENDPOINT_URL=f"http://{host}:9000")
    assert run.code == 78
    assert f"s3://bucket cannot be reached: there is no host {host}." in run.err
    assert "--endpoint-url" in run.err and "Traceback" not in run.err


@pytest.mark.parametrize("wrong", ["CRAFT_AI_ENVIRONMENT_URL", "CRAFT_AI_CONTROL_URL"])
@pytest.mark.parametrize("words", [("ls", "craft-ai://"), ("push", "root", "craft-ai://")])
def test_an_environment_with_an_unknown_host_exits_78_and_names_it(
    craftsync: Craftsync, served: Serving, host: str, words: tuple[str, ...], wrong: str
) -> None:
    craftsync.write("root/a")
    run = craftsync(*words, **{**served.variables, wrong: f"http://{host}"})
    assert run.code == 78
    assert f"cannot be reached: there is no host {host}." in run.err
    assert wrong in run.err and "Traceback" not in run.err


def test_a_service_waits_for_a_host_that_is_unknown(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    pair = ("root", "s3://bucket")
    craftsync.environment |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": f"http://{LABEL}.test",
    }
    with running(craftsync, *pair) as daemon:
        daemon.until_state("offline", *pair)
        assert LABEL in daemon.log + json.dumps(daemon.status(*pair))
        assert daemon.process.poll() is None


def test_doctor_names_an_unknown_host(craftsync: Craftsync, host: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    run = craftsync("doctor", "s3://bucket", **keys, AWS_ENDPOINT_URL=f"http://{host}")
    assert run.code == 78
    assert host in run.text


@pytest.mark.parametrize(
    ("code", "kind"), [(socket.EAI_NONAME, NoSuchHost), (socket.EAI_AGAIN, NotConnected)]
)
def test_only_a_nonexistent_host_name_is_a_typo(
    monkeypatch: pytest.MonkeyPatch, code: int, kind: type[NotConnected]
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "as a name server says it")

    monkeypatch.setattr(socket, "getaddrinfo", deny)
    host = Host(urlsplit("http://store.test"), 0, lambda: tls_context(None))
    with pytest.raises(NotConnected) as failed:
        host.request("GET", "/", {}, b"", 1.0)
    assert type(failed.value) is kind


def test_a_host_that_was_reached_is_not_unknown_later(
    craftsync: Craftsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_s3("plain", "bucket") as (server, _):
        host = Host(urlsplit(server.endpoint), 0, lambda: tls_context(None))
        host.take_back(host.request("GET", "/", {"host": "s3.test"}, b"", 10.0))

        def deny(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "the network is another one")

        monkeypatch.setattr(socket, "getaddrinfo", deny)
        monkeypatch.setattr(hosts, "_PLACE_SECONDS", -1.0)
        with pytest.raises(NotConnected) as failed:
            host.request("GET", "/", {"host": "s3.test"}, b"", 10.0)
    assert not isinstance(failed.value, NoSuchHost)


def test_host_name_is_resolved_again_after_its_address_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up, port = count(), 0

    def found(*_: object, **__: object) -> list[tuple[object, ...]]:
        next(looked_up)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    host = Host(urlsplit("http://store.test"), 0, lambda: tls_context(None))

    def ask() -> int:
        response = host.request("GET", "/", {"host": "s3.test"}, b"", 10.0)
        host.take_back(response)
        return response.status

    for looks in (1, 2):
        with fake_s3("plain", "bucket") as (server, _):
            port = urlsplit(server.endpoint).port or 0
            assert ask() == ask()
            assert str(looked_up) == f"count({looks})"


@pytest.mark.parametrize("words", [("ls", "s3://bucket"), ("push", "root", "s3://bucket")])
def test_a_web_server_in_place_of_an_s3_server_is_named(
    craftsync: Craftsync, words: tuple[str, ...]
) -> None:
    craftsync.write("root/a")
    with scripted(lambda _: Answer(404, b"<h1>Not Found</h1>")) as (server, _):
        run = craftsync(*words, **server.variables)
    assert run.code == 3
    assert "this may be no S3 server" in run.err and "--endpoint-url" in run.err
    assert ".craftsync" not in run.err
