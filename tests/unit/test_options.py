"""Options: flags and keywords override the file, which overrides the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from craftsync.config.options import MigrateOptions, RunOptions, Settings, flags, given_by
from craftsync.config.pairs import Pair
from craftsync.config.places import DirectoryLocation
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Compare, Mode, OnConflict
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import Options
from craftsync.errors import UsageError
from craftsync.net.concurrency import AUTO
from craftsync.runs import options_for, options_of


def test_options_without_input_are_the_defaults() -> None:
    default = Settings()
    assert options_of({}, default, Mode.TWO_WAY) == Options()
    times = (default.settle, default.poll, default.rescan, default.scrub)
    assert WatchSettings(*times) == WatchSettings()


def test_option_precedence_is_command_line_then_file_then_default() -> None:
    file = {"delete": True, "transfers": 4, "conflict": OnConflict.NEWER}
    asked: RunOptions = {"delete": False, "conflict": None}
    options = options_of(asked, Settings.of(file, given_by(asked)), Mode.PUSH)
    assert options.policy.delete is False
    assert options.transfers == 4
    assert options.policy.conflict is OnConflict.NEWER
    assert options.delete_limit == DeleteLimit()


def test_transfers_auto_on_command_line_overrides_a_number_in_file() -> None:
    for asked, transfers in (({"transfers": "auto"}, AUTO), ({"transfers": "7"}, 7), ({}, 4)):
        settings = Settings.of({"transfers": 4}, given_by(asked))
        assert options_of({}, settings, Mode.PUSH).transfers == transfers


def test_patterns_of_command_line_and_file_are_combined(tmp_path: Path) -> None:
    lines = tmp_path / "patterns"
    lines.write_text("# comment\n\ncache/\n")
    asked: RunOptions = {"exclude": ["*.bak"], "exclude_from": [lines]}
    assert Settings.of({"exclude": ("*.tmp",)}, given_by(asked)).exclude == (
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
def test_compare_mode_is_chosen_by_flag(asked: RunOptions, compare: Compare) -> None:
    assert options_of(asked, Settings(), Mode.PUSH).policy.compare is compare


def test_bwlimit_option_applies_to_both_directions() -> None:
    options = options_of({}, Settings.of(given_by({"bwlimit": "10M:2M"})), Mode.PUSH)
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
def test_invalid_option_values_are_rejected(asked: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options_for(Pair(Path(), DirectoryLocation(Path())), cast(RunOptions, asked))
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("keywords", "groups"),
    [
        (RunOptions, ["compare", "conflict", "links"]),
        (MigrateOptions, ["migrate", "source"]),
    ],
)
def test_keywords_of_python_are_flags_of_the_command_line(
    keywords: type, groups: list[str]
) -> None:
    shared = ["global", "access", "written", "dry run", "deletes", "patterns", "transfers"]
    shared += ["filters", "existing"]
    named = {option.name for group in shared + groups for option in flags(group)}
    assert set(keywords.__annotations__) - {"on_event", "progress"} == named
