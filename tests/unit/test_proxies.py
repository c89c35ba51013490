"""Which proxy the environment selects for a host, and which kinds are rejected."""

from __future__ import annotations

import os
from base64 import b64encode
from urllib.parse import urlsplit

import pytest

from craftsync.errors import ConfigError
from craftsync.net.hosts import proxy_for

STORE = urlsplit("https://bucket.s3.example:8443")


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_without_a_proxy_in_the_environment_a_host_is_reached_directly() -> None:
    assert proxy_for(STORE) is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://proxy:3128", "proxy", 3128),
        ("http://proxy", "proxy", 80),
        ("proxy:8080", "proxy", 8080),
        ("//proxy:8080", "proxy", 8080),
        ("http://[::1]:8080/", "::1", 8080),
    ],
)
def test_proxy_urls_are_accepted_as_by_boto3(
    monkeypatch: pytest.MonkeyPatch, text: str, host: str, port: int
) -> None:
    monkeypatch.setenv("https_proxy", text)
    proxy = proxy_for(STORE)
    assert proxy is not None
    assert (proxy.host, proxy.port, dict(proxy.login)) == (host, port, {})
    assert proxy_for(urlsplit("http://bucket.s3.example")) is None


def test_proxy_login_is_sent_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:se%40cret@proxy:3128")
    proxy = proxy_for(STORE)
    assert proxy is not None
    assert proxy.login == {"Proxy-Authorization": "Basic " + b64encode(b"me:se@cret").decode()}
    assert str(proxy) == "proxy proxy:3128 (HTTPS_PROXY)"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("socks5://me:secret@proxy:1080", "a SOCKS proxy"),
        ("socks5h://proxy", "a SOCKS proxy"),
        ("https://me:secret@proxy:443", "a https:// proxy"),
        ("http://proxy:port", "not the address"),
        ("http://", "not the address"),
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_non_http_proxy_is_rejected_by_name(
    monkeypatch: pytest.MonkeyPatch, text: str, kind: str, variable: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=kind) as refused:
        proxy_for(STORE)
    message = f"{refused.value} {refused.value.remedy}"
    assert variable in message and "no_proxy" in message and "secret" not in message


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("bucket.s3.example:8443", STORE),
        ("other, bucket.s3.example", STORE),
        (".s3.example", STORE),
        ("*", STORE),
        ("bucket.s3.example:443", urlsplit("https://bucket.s3.example")),
        ("10.0.0.0/8", urlsplit("https://10.1.2.3:9000")),
        ("10.1.2.3", urlsplit("https://10.1.2.3:9000")),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_no_proxy_matches_hosts_ports_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch, named: str, address: object, variable: str
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://not-even-looked-at")
    monkeypatch.setenv(variable, named)
    assert proxy_for(address) is None  # type: ignore[arg-type]


def test_no_proxy_entry_with_another_port_does_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "bucket.s3.example:9000,nonsense/99,10.0.0.0/8")
    assert proxy_for(STORE) is not None
