"""`.env` files as users write them, and the other places of a token."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from craftsync.config import secrets
from craftsync.config.secrets import TOKEN_ENV, find_token
from craftsync.errors import ConfigError, UsageError


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in its own folder, without a token."""
    monkeypatch.chdir(tmp_path)
    for name in (TOKEN_ENV, "CRAFT_AI_ACCESS_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=value", "value"),
        ("  export NAME = value  ", "value"),
        ("NAME='two words' # a comment", "two words"),
        ('NAME="a \\"quote\\" # and\\nmore"', 'a "quote" # and\nmore'),
        ("NAME='no \\n escape'", "no \\n escape"),
        ("NAME=https://host/a#b?c=d", "https://host/a#b?c=d"),
        ("NAME=value # a comment", "value"),
        ("NAME=a b  c", "a b  c"),
        ("NAME=", ""),
        ("NAME=''", ""),
        ("\ufeffNAME=value", "value"),
        ("NAME=value\r", "value"),
        ("NAME=first\nNAME=second", "second"),
    ],
)
def test_dotenv_assignment_is_parsed(line: str, value: str) -> None:
    Path(".env").write_text(line, newline="")
    assert secrets.read_dotenv(Path(".env")) == {"NAME": value}


@pytest.mark.parametrize("line", ["# NAME=value", "NAME", "1NAME=value", "NAME: value", "", "="])
def test_dotenv_lines_without_assignment_are_ignored(line: str) -> None:
    Path(".env").write_text(f"{line}\nOTHER=1\n")
    assert secrets.read_dotenv(Path(".env")) == {"OTHER": "1"}


def test_binary_dotenv_file_is_a_configuration_error() -> None:
    Path(".env").write_bytes(b"NAME=\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        secrets.variable("NAME")


def test_a_dotenv_file_that_is_a_named_pipe_is_refused_at_once() -> None:
    os.mkfifo(".env")
    with pytest.raises(ConfigError, match=r"\.env is a named pipe"):
        secrets.read_dotenv(Path(".env"))


def test_environment_variable_overrides_the_dotenv_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"{TOKEN_ENV}=from-file\n")
    assert find_token(TOKEN_ENV, None) == "from-file"
    monkeypatch.setenv(TOKEN_ENV, "from-environment")
    assert find_token(TOKEN_ENV, None) == "from-environment"


def test_explicit_token_file_overrides_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_ENV, "from-environment")
    Path("token").write_text("from-file\n")
    assert find_token(TOKEN_ENV, Path("token")) == "from-file"


def test_service_reads_its_systemd_credential(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "LAB_TOKEN").write_text("from-systemd\n")
    assert find_token("LAB_TOKEN", None) == "from-systemd"


def test_deprecated_variable_name_is_accepted_with_a_hint(caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text("CRAFT_AI_ACCESS_TOKEN=old\n")
    with caplog.at_level(logging.WARNING):
        assert find_token(TOKEN_ENV, None) == "old"
    assert TOKEN_ENV in caplog.text
    with pytest.raises(UsageError):
        find_token("LAB_TOKEN", None)


@pytest.mark.parametrize(
    ("file", "message"), [(None, "SOME_TOKEN is not set"), ("gone", "gone"), ("empty", "is empty")]
)
def test_missing_token_error_names_the_variable(file: str | None, message: str) -> None:
    Path("empty").write_text(" \n")
    with pytest.raises(UsageError, match=message) as caught:
        find_token("SOME_TOKEN", Path(file) if file else None)
    assert caught.value.remedy
