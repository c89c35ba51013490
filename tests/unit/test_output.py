"""Printed output: lines that keep their shape for any name, and true summaries."""

from __future__ import annotations

import json

import pytest

from craftsync.cli.output import JsonLines, Output, summary_line
from craftsync.core.model import Kind
from craftsync.engine.report import ActionEvent, Issue, IssueEvent, Report
from craftsync.wording import shown, size_shown


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("été/a b.csv", "été/a b.csv"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("caf\udce9", r"caf\xe9"),
        ("right\u202eleft", r"right\u202eleft"),
    ],
)
def test_file_name_cannot_break_its_output_line(path: str, line: str) -> None:
    assert shown(path) == line


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (15 * 1024**3, "15.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_sizes_are_printed_in_the_largest_fitting_unit(size: int, words: str) -> None:
    assert size_shown(size) == words


def test_summary_line_names_only_what_happened() -> None:
    report = Report("sync", uploaded=2, bytes_uploaded=2048, conflicts=1, seconds=1.25)
    assert summary_line(report) == "sync: 2 uploaded (2.0 KiB), 1 in conflict; 1.2 s"
    assert summary_line(Report("push")) == "push: nothing to do; 0.0 s"


def test_summary_of_an_aborted_run_counts_what_was_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Output(JsonLines(), None, Report("sync"))
    output.on_event(ActionEvent(Kind.UPLOAD, "a", 5, "done"))
    output.on_event(ActionEvent(Kind.MOVE_LOCAL, "b", 7, "done"))
    output.on_event(IssueEvent(Issue.SKIPPED, "c", "busy"))
    output.failure(KeyboardInterrupt())
    *_, error, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert error == {
        **{"type": "error", "message": "interrupted", "remedy": "", "exit_code": 130},
    }
    assert {name: value for name, value in summary.items() if value} == {
        **{"type": "summary", "command": "sync", "uploaded": 1, "bytes_uploaded": 5},
        **{"moved": 1, "skipped": 1, "exit_code": 130},
    }


def test_non_unicode_name_still_gives_valid_json(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    JsonLines().event(IssueEvent(Issue.SKIPPED, "caf\udce9", "not UTF-8"))
    assert json.loads(capsysbinary.readouterr().out)["path"] == "caf\udce9"
