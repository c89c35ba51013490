"""A store that costs little: nginx with a script (`benchmarks/lean`), so that a client is measured and not its server.

`rclone serve s3` needs more processor time for an upload than any client. nginx is
not installed but unpacked from Debian's or Ubuntu's packages, which takes no root.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import Unavailable, free_port, serving

_PACKAGES = ("nginx-light", "libnginx-mod-http-lua")
_HERE = Path(__file__).parent
_UNPACKED = _HERE / ".work" / "nginx"
_CERTIFICATE = "from pathlib import Path; from tests.support.certificates import vouched_for; vouched_for(Path({!r}))"
"""Run in a process of its own: the memory of this one is a floor for what is measured."""


@contextmanager
def lean_server(folder: Path, log: Path, *, delay: float, tls: bool) -> Iterator[str]:
    """Serve an empty store whose bytes are kept below the folder, which must be empty; yields the endpoint URL.

    Each wait for an answer takes `delay` seconds longer, also those of a handshake
    of TLS. With `tls`, `certificate` in the folder is what a client has to trust.
    Raises `Unavailable` where there is no nginx.
    """
    root = installed()
    (folder / "data").mkdir()
    port = free_port()
    listen = f"listen 127.0.0.1:{port}{' ssl' if tls else ''};"
    if tls:
        write = [sys.executable, "-c", _CERTIFICATE.format(str(folder))]
        subprocess.run(write, check=True, timeout=60, cwd=_HERE.parent)
        listen += f" ssl_certificate {folder}/certificate; ssl_certificate_key {folder}/key;"
    settings = {
        "USER": "user root;" if os.geteuid() == 0 else "",
        "FOLDER": str(folder),
        "MODULES": str(root / "usr/lib/nginx/modules"),
        "LUA": str(root / "usr/share/lua/5.1"),
        "SCRIPT": str(_HERE / "lean" / "store.lua"),
        "LISTEN": listen,
        "DELAY": str(delay),
        "HANDSHAKE": f"ssl_certificate_by_lua_block {{ ngx.sleep({delay}) }}"
        if tls and delay
        else "",
    }
    text = (_HERE / "lean" / "nginx.conf").read_text()
    for name, value in settings.items():
        text = text.replace(f"@{name}@", value)
    (folder / "nginx.conf").write_text(text)
    command = [str(root / "usr/sbin/nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    libraries = ":".join(
        map(str, [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")])
    )
    with serving(command, port, log, {"LD_LIBRARY_PATH": libraries}):
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}"


def link_objects(endpoint: str, folder: Path, bucket: str, target: Path) -> None:
    """Make a tree of the bucket's objects, each a symbolic link to its content."""
    target.mkdir()
    for line in _control(endpoint, "objects").splitlines():
        name, _, file = line.partition(" ")
        key = urllib.parse.unquote(name)
        if key.startswith(f"{bucket}/") and not key.endswith("/"):
            path = target / key.removeprefix(f"{bucket}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(folder / "data" / file)


def clear(endpoint: str) -> None:
    """Delete every object."""
    _control(endpoint, "clear")


def _control(endpoint: str, action: str) -> str:
    # What is trusted here is this machine's own server.
    context = ssl._create_unverified_context() if endpoint.startswith("https:") else None
    with urllib.request.urlopen(f"{endpoint}/-/{action}", timeout=60, context=context) as answer:
        return str(answer.read().decode())


def installed() -> Path:
    """Return the folder below which nginx and what it needs are unpacked; unpack them the first time."""
    if not (_UNPACKED / "usr/sbin/nginx").exists():
        shutil.rmtree(_UNPACKED, ignore_errors=True)
        _unpack(_UNPACKED.with_name("nginx.new"))
        _UNPACKED.with_name("nginx.new").rename(_UNPACKED)
    return _UNPACKED


def _unpack(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    packages = target / "packages"
    packages.mkdir(parents=True)
    try:
        _called(["apt-get", "download", *_needed()], packages)
        for package in packages.glob("*.deb"):
            _called(["dpkg", "-x", str(package), str(target)], packages)
    except OSError as error:
        raise Unavailable(f"{_advice()} Here: {error}") from error
    if not (target / "usr/lib/nginx/modules/ngx_http_lua_module.so").exists():
        raise Unavailable(f"{_advice()} Here the packages have no ngx_http_lua_module.so.")


def _needed() -> list[str]:
    """Return the packages of nginx, installed or not, and what else they need and is not installed."""
    simulated = ["apt-get", "-s", "--no-install-recommends"]
    bare = ["-o", "Dir::State::status=/dev/null"]
    own, missing = (
        {
            line.split()[1]
            for line in _called(
                [*simulated, *options, "install", *_PACKAGES], Path("/")
            ).splitlines()
            if line.startswith("Inst ")
        }
        for options in (bare, [])
    )
    return sorted(missing | {name for name in own if "nginx" in name or "lua" in name})


def _called(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise Unavailable(f"{_advice()} `{command[0]}` failed: {said[-1] if said else 'no reason'}")
    return done.stdout


def _advice() -> str:
    return (
        f"The lean server is nginx from the packages {' and '.join(_PACKAGES)} of Debian 12 or "
        "Ubuntu 24.04, fetched with apt-get; where apt knows no packages, run `apt-get update` as root."
    )
