"""How `wait` waits: its last check begins when its time is over."""

from __future__ import annotations

from craftsync.cli.status import codes_when_settled
from tests.support.clock import FakeClock


class Suspended:
    """A folder whose first check takes as long as the machine is suspended in it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._checks = 0

    def exit_code(self, within: float) -> int:
        self._checks += 1
        if self._checks == 1:
            self._clock.advance(400.0)
            return 5
        return 0


def test_wait_checks_once_more_when_its_time_is_over() -> None:
    clock = FakeClock()
    assert codes_when_settled([Suspended(clock)], 300.0, clock) == [0]
