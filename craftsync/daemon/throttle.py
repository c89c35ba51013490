"""The rates of one pair, which can be changed while transfers run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from craftsync.daemon.control import Refused
from craftsync.sync.report import Options, Rate

_HIGHEST = sys.float_info.max


class Throttle:
    """What the options say, until `set` says otherwise. Any thread may call it."""

    def __init__(self, options: Options) -> None:
        self._configured: tuple[Rate, Rate] = (options.upload_rate, options.download_rate)
        self._rates = self._configured

    def obey(self, request: Mapping[str, Any]) -> None:
        """Do what the verb `bwlimit` asks for; raises `Refused` for rates that are none."""
        if request.get("configured") is True:
            self.reset()
        else:
            self.set(_asked(request, "upload"), _asked(request, "download"))

    def set(self, upload: float | None, download: float | None) -> None:
        """Allow so many bytes per second from now on; `None` is no limit."""
        self._rates = (upload, download)

    def reset(self) -> None:
        """Go back to what the options say."""
        self._rates = self._configured

    def upload(self, now_ns: int) -> float | None:
        return _at(self._rates[0], now_ns)

    def download(self, now_ns: int) -> float | None:
        return _at(self._rates[1], now_ns)

    def over(self, options: Options) -> Options:
        """Return these options with rates that follow this throttle."""
        return replace(options, upload_rate=self.upload, download_rate=self.download)


def _asked(request: Mapping[str, Any], direction: str) -> float | None:
    rate = request.get(direction)
    if rate is None:
        return None
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    # Not `< inf`: an int may have more digits than a float can hold.
    if not is_number or not 0 < rate <= _HIGHEST:
        raise Refused(f"{direction} has to be bytes per second above 0, or null for no limit")
    return float(rate)


def _at(rate: Rate, now_ns: int) -> float | None:
    return rate(now_ns) if callable(rate) else rate
