"""The command that installs craftsync, or an extra of it, in the running Python, for messages."""

from __future__ import annotations

import sys

NEEDS_LINUX = "craftsync needs Linux, or WSL2 on Windows; this is {}."
"""The message on another system, instead of a traceback."""


def install_command(extra: str = "") -> str:
    """Return the command that installs craftsync, with `extra` if given, from its original source.

    That is the folder, file or repository it was installed from; a package registry only if it came
    from one.
    """
    what = f"craftsync[{extra}]" if extra else "craftsync"
    return pip_command(*_from_its_origin(what))


def pip_command(*words: str) -> str:
    """Return the command that installs packages in the running Python."""
    import shlex  # Imported only for a message, as below.

    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def _from_its_origin(what: str) -> list[str]:
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        origin = json.loads(distribution("craftsync").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    if vcs := origin.get("vcs_info", {}).get("vcs"):
        return [f"{what} @ {vcs}+{url}"]
    if url.startswith("file://") and "dir_info" in origin:
        folder = unquote(urlsplit(url).path) + what.removeprefix("craftsync")
        return ["--editable", folder] if origin["dir_info"].get("editable") else [folder]
    return [f"{what} @ {url}" if url else what]


def refuse_other_systems() -> None:
    """Raise `ImportError`, with a sentence for the user, on a system other than Linux."""
    if not sys.platform.startswith("linux"):
        raise ImportError(NEEDS_LINUX.format(sys.platform))
