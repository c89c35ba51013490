"""What moves, as it moves: `status --watch`, and `watch` on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from craftsync.cli.output import say, say_json

Facts = Mapping[str, Any]

_REFRESH_SECONDS = 0.5


def follow(look: Callable[[], Sequence[Facts]], *, as_json: bool) -> int:
    """Show how folders stand until Ctrl-C: on a terminal in place, elsewhere each change in lines of its own."""
    from craftsync.clock import SystemClock

    clock = SystemClock()
    try:
        if sys.stdout.isatty() and not as_json:
            _in_place(look, clock.sleep)
        else:
            _line_by_line(look, clock.sleep, as_json=as_json)
    except KeyboardInterrupt:
        return 0
    return 0


def _in_place(look: Callable[[], Sequence[Facts]], sleep: Callable[[float], None]) -> None:
    from rich.live import Live

    from craftsync.cli.status import panels

    with Live(panels(look()), auto_refresh=False, screen=False) as live:
        while True:
            live.update(panels(look()), refresh=True)
            sleep(_REFRESH_SECONDS)


def _line_by_line(
    look: Callable[[], Sequence[Facts]], sleep: Callable[[float], None], *, as_json: bool
) -> None:
    from craftsync.cli.status import checked_line

    before: dict[tuple[str, str], tuple[Any, ...]] = {}
    while True:
        for facts in look():
            folder, now = (facts["root"], facts["store"]), _what_matters(facts)
            if before.get(folder) == now:
                continue
            before[folder] = now
            if as_json:
                say_json(facts)
            else:
                say(checked_line(facts))
            sys.stdout.flush()
        sleep(_REFRESH_SECONDS)


def _what_matters(facts: Facts) -> tuple[Any, ...]:
    """Return what is worth a new line: not that a folder is still in sync."""
    names = ("state", "reason", "pending", "conflicts", "held", "problems", "pid")
    return tuple(facts.get(name) for name in names)
