"""How `trash`, `conflicts` and `deletes` select paths and times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from craftsync.engine.review.selection import Selection, in_utc, parse_time_ns
from craftsync.errors import UsageError

NOW = datetime(2026, 11, 29, 14, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("words", "meant", "others"),
    [
        ((), ["a", "b/c"], []),
        ((".",), ["a", "b/c"], []),
        (("a",), ["a", "a/b"], ["ab", "b/a"]),
        (("a/*.csv",), ["a/x.csv", "a/b/x.csv"], ["a/x.bin", "x.csv"]),
        (("a[1].csv", "b"), ["a[1].csv", "a1.csv", "b/c"], ["a2.csv"]),
    ],
)
def test_words_stand_for_files_folders_and_globs(
    words: tuple[str, ...], meant: list[str], others: list[str]
) -> None:
    selection = Selection(words)
    assert [path for path in [*meant, *others] if selection.has(path)] == meant
    assert selection.unmatched(iter(meant)) == []


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        ((), [""]),
        (("a/b/c.txt", "a/b/*.csv"), ["a/b"]),
        (("a/b/c", "a/b/c/d/e", "x/y"), ["a/b", "x"]),
        (("*.csv", "a/b"), [""]),
        (("a-b/c", "a/c", "a/d/e"), ["a", "a-b"]),
    ],
)
def test_selection_scans_only_the_folders_it_names(
    words: tuple[str, ...], folders: list[str]
) -> None:
    assert Selection(words).folders() == folders


def test_prefixes_of_words_do_not_overlap() -> None:
    assert Selection(("a/b", "a/b/c", "a/*.csv", "x")).prefixes() == ["a/", "x"]
    assert Selection(("a", ".")).prefixes() == [""]


@pytest.mark.parametrize(
    ("when", "moment"),
    [
        ("2026-11-22", "2026-11-22T00:00:00+00:00"),
        ("2026-11-22T10:11:12+02:00", "2026-11-22T08:11:12+00:00"),
        ("20261122T101112", "2026-11-22T10:11:12+00:00"),
        ("20261122T101112123456Z-2", "2026-11-22T10:11:12+00:00"),
        ("today", "2026-11-29T00:00:00+00:00"),
        ("Yesterday", "2026-11-28T00:00:00+00:00"),
        ("90m", "2026-11-29T13:00:00+00:00"),
        ("2h", "2026-11-29T12:30:00+00:00"),
        ("3d", "2026-11-26T14:30:00+00:00"),
        ("1w", "2026-11-22T14:30:00+00:00"),
        ("999999w", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_dates_times_and_ages_are_moments_in_utc(when: str, moment: str) -> None:
    expected = datetime.fromisoformat(moment) - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time_ns(in_utc(when, NOW_NS)) == expected.total_seconds() * 10**9


@pytest.mark.parametrize("when", ["soon", "2h30", "-2h", "2026-13-01", ""])
def test_what_is_not_a_date_or_time_is_refused(when: str) -> None:
    with pytest.raises(UsageError, match="is not a date or time"):
        parse_time_ns(in_utc(when, NOW_NS))
