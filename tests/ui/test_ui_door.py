"""Who comes in: the one-time link, the cookie, Host and Origin, and what the answers forbid."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from tests.support.certificates import vouched_for
from tests.support.cli import Craftsync
from tests.support.pages import Ui, showing


def test_the_link_opens_the_page_once(ui: Ui) -> None:
    assert ui.entry.status == 200
    assert "HttpOnly; SameSite=Strict" in ui.entry.headers["set-cookie"]
    again = ui.get(f"/?token={ui.token}", Cookie="")
    assert again.status == 403
    assert "already used" in again.text


def test_a_wrong_token_opens_nothing(ui: Ui) -> None:
    assert ui.get("/?token=wrong").status == 403


def test_without_the_cookie_nothing_is_shown(ui: Ui) -> None:
    answer = ui.get("/", Cookie="")
    assert answer.status == 403
    assert "Open the link" in answer.text
    assert ui.connect(Cookie="").status == 403


def test_with_the_cookie_the_page_is_shown(ui: Ui) -> None:
    assert ui.get("/").status == 200
    assert ui.connect().status == 101


@pytest.mark.parametrize("host", ["evil.example:{}", "127.0.0.1.evil.example:{}", "10.0.0.1:{}"])
def test_another_host_name_is_refused(ui: Ui, host: str) -> None:
    named = host.format(ui.port)
    assert ui.get("/", Host=named).status == 403
    assert ui.connect(Host=named, Origin=f"http://{named}").status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", ""])
def test_a_change_from_another_origin_is_refused(ui: Ui, origin: str) -> None:
    assert ui.request("POST", "/_nicegui_ws/socket.io/", Origin=origin).status == 403
    assert ui.request("PUT", "/transfer/object", Origin=origin).status == 403
    assert ui.connect(Origin=origin).status == 403


def test_only_scripts_of_the_page_itself_may_run(ui: Ui) -> None:
    answer = ui.get("/")
    policy = answer.headers["content-security-policy"]
    assert "'unsafe-inline'" not in re.search(r"script-src [^;]*", policy).group()
    assert "frame-ancestors 'none'" in policy
    nonce = re.search(r"'nonce-([^']+)'", policy).group(1)
    scripts = re.findall(r"<script[^>]*>", answer.text)
    assert scripts and all(f'nonce="{nonce}"' in script for script in scripts)
    assert nonce not in ui.get("/").text


def test_a_forwarded_prefix_is_not_written_into_the_page(ui: Ui) -> None:
    assert "evil.example" not in ui.get("/", X_Forwarded_Prefix="//evil.example").text


def test_a_port_in_use_is_an_error_with_a_remedy(craftsync: Craftsync) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = craftsync("ui", "--no-open", "--port", str(taken.getsockname()[1]))
    assert run.code == 2
    assert "Cannot listen on port" in run.err
    assert "--port 0" in run.err


def test_another_host_needs_a_token_or_tls(craftsync: Craftsync) -> None:
    run = craftsync("ui", "--no-open", "--host", "0.0.0.0")
    assert run.code == 2
    assert "CRAFTSYNC_UI_TOKEN" in run.err


def test_the_page_is_served_over_tls(craftsync: Craftsync, tmp_path: Path) -> None:
    authority = vouched_for(tmp_path)
    files = ("--tls-certificate", str(authority), "--tls-key", str(tmp_path / "key"))
    with showing(craftsync, *files) as ui:
        trusting = ssl.create_default_context(cafile=authority)
        with closing(HTTPSConnection("127.0.0.1", ui.port, context=trusting)) as connection:
            connection.request("GET", ui.link.removeprefix(ui.address))
            answer = connection.getresponse()
            cookie = answer.headers["set-cookie"]
        assert ui.link.startswith("https://") and "Secure" in cookie
        with pytest.raises((OSError, HTTPException)):
            ui.get("/")
    swapped = craftsync("ui", "--tls-certificate", files[3], "--tls-key", files[1])
    assert (swapped.code, "both in PEM" in swapped.err) == (2, True)
    missing = craftsync("ui", "--tls-certificate", "none", "--tls-key", "none")
    assert "none cannot be used: No such file or directory." in missing.err
    (tmp_path / "nicegui.py").write_text("raise ImportError('no nicegui', name='nicegui')")
    bare = craftsync("ui", "--port", "0", *files, PYTHONPATH=str(tmp_path))
    assert (bare.code, "pip install" in bare.err) == (2, True)


def test_a_token_of_ones_own_opens_the_page_until_it_is_stopped(craftsync: Craftsync) -> None:
    with showing(craftsync, "--host", "0.0.0.0", CRAFTSYNC_UI_TOKEN="chosen") as ui:
        assert ui.get("/?token=chosen").status == 200
        assert ui.get("/?token=chosen").status == 200
        assert "chosen" not in ui.link
        assert ui.get("/", Host="evil.example").status == 403
        assert ui.stop() == 0


def test_a_page_is_shown_for_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    craftsync = Craftsync(tmp_path)
    craftsync.config.write_text("environments: [")
    with showing(craftsync) as ui:
        ui.enter()
        assert ui.get("/").status == 200
