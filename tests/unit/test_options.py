"""Options: flags and keywords over the file over the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from craftsync.config.options import PassOptions, Settings, settings_of
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Compare, Mode, OnConflict
from craftsync.engine.report import Options
from craftsync.errors import UsageError
from craftsync.net.pace import AUTO
from craftsync.runs import options_of


def test_silence_means_the_defaults() -> None:
    assert options_of({}, Settings(), Mode.TWO_WAY) == Options()


def test_what_is_asked_goes_before_the_file_and_the_file_before_the_default() -> None:
    file = Settings(delete=True, transfers=4, conflict=OnConflict.NEWER)
    asked: PassOptions = {"delete": False, "conflict": None}
    options = options_of(asked, settings_of(asked).over(file), Mode.PUSH)
    assert options.policy.delete is False
    assert options.transfers == 4
    assert options.policy.conflict is OnConflict.NEWER
    assert options.delete_limit == DeleteLimit()


def test_auto_on_the_command_line_goes_before_a_number_in_the_file() -> None:
    for asked, transfers in (({"transfers": "auto"}, AUTO), ({"transfers": "7"}, 7), ({}, 4)):
        settings = settings_of(cast(PassOptions, asked)).over(Settings(transfers=4))
        assert options_of({}, settings, Mode.PUSH).transfers == transfers


def test_patterns_add_up(tmp_path: Path) -> None:
    lines = tmp_path / "patterns"
    lines.write_text("# comment\n\ncache/\n")
    asked: PassOptions = {"exclude": ["*.bak"], "exclude_from": [lines]}
    assert settings_of(asked).over(Settings(exclude=("*.tmp",))).exclude == (
        *("*.tmp", "*.bak", "cache/"),
    )


@pytest.mark.parametrize(
    ("asked", "compare"),
    [
        ({}, Compare.FINGERPRINT),
        ({"checksum": True}, Compare.CHECKSUM),
        ({"size_only": True}, Compare.SIZE_ONLY),
    ],
)
def test_how_to_compare_is_asked_for_by_flag(asked: PassOptions, compare: Compare) -> None:
    assert options_of(asked, Settings(), Mode.PUSH).policy.compare is compare


def test_a_rate_reaches_both_directions() -> None:
    options = options_of({}, settings_of({"bwlimit": "10M:2M"}), Mode.PUSH)
    assert (options.upload_rate, options.download_rate) == (10 * 1024**2, 2 * 1024**2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_delete": "many"}, "--max-delete: 'many' is not a limit of deletes"),
        ({"bwlimit": "10X"}, "--bwlimit: '10X' is not a rate"),
        ({"conflict": "ask"}, "--conflict: 'ask' is not a way to settle a conflict"),
        ({"transfers": 0}, "--transfers: 0 is not a number of transfers"),
        ({"exclude": "*.tmp"}, "--exclude: '*.tmp' is one pattern, not a list"),
        ({"exclude_from": ["/nowhere/list"]}, "--exclude-from: '/nowhere/list' cannot be read"),
        ({"checksum": True, "size_only": True}, "contradict each other"),
        ({"max_deletes": 1}, "Unknown option 'max_deletes'"),
        ({"delete": "no"}, "delete: 'no' is not a bool"),
        ({"dry_run": 1}, "dry_run: 1 is not a bool"),
        ({"request_payer": "false"}, "request_payer: 'false' is not a bool"),
    ],
)
def test_words_that_mean_nothing_are_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options_of(cast(PassOptions, asked), settings_of(cast(PassOptions, asked)), Mode.PUSH)
    assert message in str(caught.value)
    assert caught.value.remedy
