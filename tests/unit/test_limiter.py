"""Rate limits: shared by all transfers, changed while these wait, and set by a timetable."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from craftsync.config.parsers import RateByTime, Rates, parse_bwlimit
from craftsync.core.timetable import Timetable, Windows, next_shown, parse_timetable, parse_window
from craftsync.errors import Interrupted
from craftsync.net.pace import PIECE, Attempt, Limiter, in_turn
from tests.support.clock import FakeClock

MONDAY = datetime(2026, 11, 23)


def test_rate_limit_serves_bytes_in_order() -> None:
    clock = FakeClock()
    limiter = Limiter(1000, clock)
    limiter.take(500)
    assert clock.monotonic() == 0
    limiter.take(1500)
    assert clock.monotonic() == pytest.approx(0.5)
    limiter.take(1)
    assert clock.monotonic() == pytest.approx(2)
    assert limiter.moved == 0


def test_low_rate_is_shared_by_few() -> None:
    clock = FakeClock()
    assert in_turn((None, None), clock.now_ns) is None
    slow, fast = in_turn((100_000, None), clock.now_ns), in_turn((10 << 20, None), clock.now_ns)
    assert slow is not None and fast is not None
    assert slow() == 20
    assert fast() == 200
    by_day = in_turn((lambda _: None, lambda _: 100_000.0), clock.now_ns)
    assert by_day is not None and by_day() == 20


def test_bytes_of_failed_attempts_are_not_counted() -> None:
    limiter = Limiter(None, FakeClock())
    pieces = Attempt(limiter).pieces([b"a" * PIECE, b"b" * (PIECE + 1)])
    assert [(len(piece), limiter.moved) for piece in pieces] == [
        *((PIECE, 0), (PIECE, PIECE), (1, 2 * PIECE)),
    ]
    assert limiter.moved == 2 * PIECE + 1
    with pytest.raises(OSError), Attempt(limiter) as attempt:
        assert next(attempt.pieces([b"c" * PIECE])) == b"c" * PIECE
        attempt.count(PIECE)
        raise OSError
    assert limiter.moved == 2 * PIECE + 1


@pytest.mark.parametrize(("rate", "piece"), [(None, PIECE), (1e9, PIECE), (4096, 1024), (1, 1024)])
def test_low_rate_limit_uses_small_pieces(rate: float | None, piece: int) -> None:
    assert Limiter(rate, FakeClock()).piece == piece


def test_small_transfer_does_not_wait_for_large_ones() -> None:
    clock = FakeClock()
    limiter = Limiter(1000, clock)
    limiter.take(8_000_000)
    limiter.pace_for(1).take(1)
    assert clock.monotonic() == 0


def test_small_and_large_transfers_each_get_half_the_rate() -> None:
    clock = FakeClock()
    limiter = Limiter(1000, clock)
    small = limiter.pace_for(2000)
    limiter.take(8000)
    small.take(1000)
    small.take(1000)
    assert clock.monotonic() == pytest.approx(2, abs=0.01)
    small.take(1)
    assert clock.monotonic() == pytest.approx(4, abs=0.01)
    limiter.take(1)
    assert clock.monotonic() == pytest.approx(10, abs=0.01)


def test_small_transfers_alone_get_the_whole_rate() -> None:
    clock = FakeClock()
    limiter = Limiter(1000, clock)
    for _ in range(11):
        limiter.pace_for(1000).take(1000)
    assert clock.monotonic() == pytest.approx(10)
    limiter.take(1)
    assert clock.monotonic() == pytest.approx(10)


def test_transfer_that_outgrows_small_queues_with_large_ones() -> None:
    limiter = Limiter(1000, FakeClock())
    assert limiter.pace_for(1 << 20) is not limiter
    assert limiter.pace_for((1 << 20) + 1) is limiter


def test_idle_time_gives_no_rate_credit() -> None:
    clock = FakeClock()
    limiter = Limiter(1000, clock)
    clock.advance(3600)
    limiter.take(1000)
    limiter.take(1)
    assert clock.monotonic() == pytest.approx(3601)


def test_unlimited_rate_never_waits() -> None:
    clock = FakeClock()
    limiter = Limiter(None, clock)
    for _ in range(10):
        limiter.take(1 << 40)
    assert not clock.slept


def test_changed_rate_applies_to_waiting_transfers_at_once() -> None:
    clock = FakeClock()
    rates = iter([10.0] * 6)
    limiter = Limiter(lambda now_ns: next(rates, None), clock)
    limiter.take(10**9)
    limiter.take(1)
    assert clock.monotonic() < 2


def test_cancel_ends_waiting_for_the_rate_limit() -> None:
    class Cancelling(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            limiter.cancel()

    limiter = Limiter(1, Cancelling())
    limiter.take(10**9)
    with pytest.raises(Interrupted):
        limiter.take(1)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return MONDAY.replace(day=MONDAY.day + day, hour=hour, minute=minute)


@pytest.mark.parametrize(
    ("moment", "upload"),
    [
        (at(0, 0), None),
        (at(0, 7, 59), None),
        (at(0, 8), 1024**2),
        (at(4, 18, 59), 1024**2),
        (at(4, 19), None),
    ],
)
def test_daily_timetable_repeats_every_day(moment: datetime, upload: float | None) -> None:
    table = parse_bwlimit("08:00,1M 19:00,off")
    assert isinstance(table, Timetable)
    assert table.at(moment).upload == upload


def test_weekly_timetable_entry_holds_until_the_next_across_weekends() -> None:
    table = parse_timetable("Mon-08:00,slow Fri-19:00,fast", str)
    assert [table.at(moment) for moment in (at(0, 9), at(4, 18), at(6, 23), at(0, 7))] == [
        *("slow", "slow", "fast", "fast"),
    ]


def test_timetable_gives_both_rates_for_a_local_time() -> None:
    table = parse_bwlimit("00:00,1K:2K")
    assert isinstance(table, Timetable)
    now_ns = int(MONDAY.timestamp()) * 10**9
    assert RateByTime(table, "upload")(now_ns) == 1024
    assert RateByTime(table, "download")(now_ns) == 2048
    assert table.at(MONDAY) == Rates(1024, 2048)


@pytest.mark.parametrize(
    ("words", "opened", "closed"),
    [
        ("12:00-14:00", at(3, 12), at(3, 14)),
        ("22:00-06:00", at(0, 5, 59), at(0, 6)),
        ("Sat-Sun 00:00-24:00", at(6, 23, 59), at(0, 0)),
        ("Sun 23:00-01:00", at(0, 0, 59), at(0, 1)),
        ("Fri-Mon 10:00-11:00", at(6, 10), at(1, 10)),
        ("Fri 10:00-11:00", at(4, 10), at(5, 10)),
    ],
)
def test_time_window_is_open_from_start_to_end(
    words: str, opened: datetime, closed: datetime
) -> None:
    windows = Windows(parse_window(words))
    assert windows.open_at(opened)
    assert not windows.open_at(closed)


@pytest.mark.parametrize(
    ("words", "now", "opens", "shown"),
    [
        ("22:00-06:00", at(0, 6), at(0, 22), "at 22:00"),
        ("22:00-06:00", at(0, 21, 59) + timedelta(seconds=30), at(0, 22), "at 22:00"),
        ("22:00-06:00", at(0, 22, 5), at(0, 22, 5), "at 22:05"),
        ("Mon-Fri 08:00-12:00", at(0, 12), at(0, 12) + timedelta(hours=20), "at 08:00"),
        ("Mon-Fri 08:00-12:00", at(4, 12), at(4, 12) + timedelta(hours=68), "on Mon at 08:00"),
        ("Mon 12:00-12:01", at(0, 12, 1), at(0, 12) + timedelta(days=7), "on Mon at 12:00"),
        ("Sat 10:00-11:00", at(4, 10), at(5, 10), "on Sat at 10:00"),
    ],
)
def test_a_closed_time_window_shows_when_it_opens(
    words: str, now: datetime, opens: datetime, shown: str
) -> None:
    found = Windows(parse_window(words)).next_open(now)
    assert (found, next_shown(found, now)) == (opens, shown)


def test_without_time_windows_runs_are_always_allowed() -> None:
    assert Windows().open_at(MONDAY)
    assert Windows().next_open(MONDAY) == MONDAY


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "is not a window"),
        ("noon", "is not a window"),
        ("10:00", "is not a window"),
        ("Xyz 10:00-11:00", "has the invalid day 'Xyz'"),
        ("10:60-11:00", "has the invalid time '10:60'"),
    ],
)
def test_invalid_time_window_is_rejected(words: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        parse_window(words)
