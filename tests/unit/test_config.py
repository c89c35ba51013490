"""The configuration file: what it may contain, and the error for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from craftsync.config import file as config
from craftsync.config import options, reference
from craftsync.config.file import (
    Config,
    CraftAiEnvironment,
    DirectoryEnvironment,
    S3Environment,
)
from craftsync.config.options import Settings
from craftsync.config.parsers import Rates
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Mode, OnConflict
from craftsync.core.retention import Retention, StoreTrash
from craftsync.core.timetable import Timetable, Windows
from craftsync.errors import ConfigError

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "config.example.yaml"
OF_0_1_0 = PROJECT / "tests/support/states/0.1.0-config.yaml"
"""The example of 0.1.0: a copy of it must mean the same in every later version."""
FILE = Path("/etc/craftsync.yaml")
HOUR = 3600 * 10**9
ENVIRONMENT = "environments: {archive: {store: directory, path: /archive}}\n"


def folder(keys: str) -> str:
    return f"{ENVIRONMENT}folders: {{data: {{root: /data, environment: archive, {keys}}}}}"


def settings(keys: str) -> Settings:
    return Settings.of(config.parse(folder(keys), FILE).folders["data"].given)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, FILE)
    return caught.value


@pytest.mark.parametrize("file", [EXAMPLE, OF_0_1_0], ids=["today", "0.1.0"])
def test_example_configs_of_today_and_of_0_1_0_are_read_alike(file: Path) -> None:
    loaded = config.load(file)
    assert loaded.environments["archive"] == DirectoryEnvironment(Path("~/archive").expanduser())
    prod = loaded.environments["prod"]
    assert isinstance(prod, S3Environment)
    # 0.1.0 did not know what objects get.
    assert replace(prod, content_type=None, storage_class=None, sse=None) == S3Environment(
        "my-bucket", "datasets/", "prod", "eu-west-3", "https://s3.eu-west-3.amazonaws.com"
    )
    assert loaded.environments["dev"] == CraftAiEnvironment(
        "https://my-env.mlops-platform.craft.ai",
        "https://mlops-platform.craft.ai",
        token_file=Path("~/.config/craftsync/token").expanduser(),
    )
    assert Settings.of(loaded.folders["datasets"].given) == Settings(
        mode=Mode.TWO_WAY,
        delete=False,
        include=("*",),
        exclude=("*.tmp",),
        max_delete=DeleteLimit(files=0, share=0.1),
        conflict=OnConflict.BOTH,
        transfers=0,
        bwlimit=Rates(None, None),
        windows=Windows(tuple((day * 1440, 1440) for day in range(7))),
        settle=0.5,
        poll=30,
        rescan=600,
        scrub=0.0,
        events="sqs://my-queue",
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.example.yaml", reference.example), ("docs/configuration.md", reference.page)],
)
def test_documents_about_options_are_made_from_the_table(
    file: str, content: Callable[[], str]
) -> None:
    assert (PROJECT / file).read_text("utf-8") == content(), "make reference"


def test_documented_defaults_are_what_an_empty_configuration_means() -> None:
    in_words = {"root", "environment", "include", "exclude", "max_delete", "windows", "events"}
    for section, values in {"folder": Settings(), "trash": Config().retention}.items():
        for option in options.keys(section):
            if option.parse is not None and option.name not in in_words:
                default = option.parse(config.read_yaml(option.default))
                assert default == getattr(values, option.name), option.name


def test_missing_default_config_file_means_empty_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CRAFTSYNC_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config.load() == Config()


def test_default_config_file_is_in_the_platforms_config_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CRAFTSYNC_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "craftsync").mkdir()
    (tmp_path / "craftsync" / "config.yaml").write_text(ENVIRONMENT)
    assert list(config.load().environments) == ["archive"]


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_config_file_given_by_flag_must_exist(
    by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "none.yaml"
    if by == "variable":
        monkeypatch.setenv("CRAFTSYNC_CONFIG", str(missing))
    with pytest.raises(ConfigError, match=r"none\.yaml: file not found"):
        config.load(missing if by == "argument" else None)


def test_config_file_that_is_not_utf_8_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("# été".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(file)


def test_empty_config_file_means_empty_configuration() -> None:
    assert config.parse("# nothing yet\n", FILE) == Config()
    assert config.parse("environments:\nfolders:\n", FILE) == Config()


def test_relative_paths_in_config_start_at_the_files_folder() -> None:
    text = "environments: {a: {store: directory, path: ../backup}}"
    assert config.parse(text, FILE).environments["a"] == DirectoryEnvironment(Path("/backup"))


def test_store_may_name_an_environment_and_a_folder_in_it() -> None:
    text = f"{ENVIRONMENT}folders: {{data: {{root: /data, environment: 'archive:models/2026'}}}}"
    assert config.parse(text, FILE).folders["data"].environment == "archive:models/2026"


def test_options_missing_in_config_stay_unset() -> None:
    text = f"{ENVIRONMENT}folders: {{data: {{root: /data, environment: archive}}}}"
    assert config.parse(text, FILE).folders["data"].given == {}


@pytest.mark.parametrize(
    ("own", "retention"),
    [
        ("mode: push", Retention(12 * HOUR, 1000, StoreTrash.ALL)),
        ("trash: {}", Retention(12 * HOUR, 1000, StoreTrash.ALL)),
        ("trash: {keep: 30d}", Retention(720 * HOUR, 1000, StoreTrash.ALL)),
        ("trash: {keep: forever}", Retention(None, 1000, StoreTrash.ALL)),
        ("trash: {max_size: off}", Retention(12 * HOUR, None, StoreTrash.ALL)),
        ("trash: {store: off}", Retention(12 * HOUR, 1000, StoreTrash.OFF)),
    ],
)
def test_keys_of_a_folders_own_trash_take_precedence(own: str, retention: Retention) -> None:
    top = "trash: {keep: 12h, max_size: 1000, store: all}\n"
    found = config.parse(f"{top}{folder(own)}", FILE)
    assert found.folders["data"].retention == retention
    assert found.retention == Retention(12 * HOUR, 1000, StoreTrash.ALL)


def test_without_any_trash_key_a_folder_keeps_everything() -> None:
    assert config.parse(folder("mode: push"), FILE).folders["data"].retention == Retention()


@pytest.mark.parametrize(
    ("word", "limit"),
    [
        ("5", DeleteLimit(5, 0.0)),
        ("0", DeleteLimit(0, 0.0)),
        ("25%", DeleteLimit(0, 0.25)),
        ("100%", DeleteLimit(0, 1.0)),
    ],
)
def test_delete_limit_is_read_exactly_as_written(word: str, limit: DeleteLimit) -> None:
    assert settings(f"max_delete: {word}").max_delete == limit


@pytest.mark.parametrize(
    ("word", "rates"),
    [
        ("10M", Rates(10 * 1024**2, 10 * 1024**2)),
        ("10M:2K", Rates(10 * 1024**2, 2048)),
        ("off:1.5g", Rates(None, 1.5 * 1024**3)),
        ("10:20", Rates(10, 20)),
        ("off", Rates(None, None)),
        ("0", Rates(None, None)),
        ("500", Rates(500, 500)),
    ],
)
def test_bwlimit_gives_bytes_per_second_for_each_direction(word: str, rates: Rates) -> None:
    assert settings(f'bwlimit: "{word}"').bwlimit == rates


def test_bwlimit_needs_no_quotes_despite_yaml_base_60() -> None:
    text = f"{ENVIRONMENT}folders:\n  data:\n    root: /data\n    environment: archive\n    bwlimit: 10:20\n"
    assert config.parse(text, FILE).folders["data"].given["bwlimit"] == Rates(10, 20)


def test_bwlimit_may_be_a_timetable() -> None:
    table = settings("bwlimit: '08:00,1M 19:00,off'").bwlimit
    assert isinstance(table, Timetable)
    assert table.at(datetime(2026, 11, 22, 18, 59)) == Rates(1024**2, 1024**2)
    assert table.at(datetime(2026, 11, 22, 19, 0)) == Rates(None, None)


def test_metrics_and_notify_are_top_level_config_keys() -> None:
    loaded = config.parse("metrics: craftsync.prom\nnotify: [/bin/tell, --now]\n", FILE)
    assert loaded.metrics == Path("/etc/craftsync.prom")
    assert loaded.notify == ("/bin/tell", "--now")


MISTAKES = {
    "not a mapping": ("- a\n", "is not a section", "keys below it"),
    "unknown section": ("folder: {}", "folder: unknown key", "Did you mean folders?"),
    "environments as a list": ("environments: [dev]", "environments: ['dev']", "name below it"),
    "environment as a word": ("environments: {dev: s3}", "environments.dev: 's3'", "keys below it"),
    "name with a colon": ("environments: {'a:b': {}}", "'a:b' cannot be a name", "Use letters"),
    "no store": ("environments: {dev: {bucket: b}}", "environments.dev.store", "Add a line"),
    "no such transport": (
        "environments: {dev: {store: craft-ai, url: 'https://x', transport: carrier}}",
        "'carrier' is not a transport",
        "api, sdk",
    ),
    "no such store": ("environments: {dev: {store: gcs}}", "'gcs' is not a kind", "craft-ai, s3"),
    "no bucket": ("environments: {dev: {store: s3}}", "environments.dev.bucket", "Add a line"),
    "a key of another store": (
        "environments: {dev: {store: s3, bucket: b, path: /x}}",
        "environments.dev.path: unknown key (its value is '/x')",
        "Known keys: store, bucket",
    ),
    "misspelt key": (
        "environments: {dev: {store: s3, bukcet: b}}",
        "environments.dev.bukcet",
        "Did you mean bucket?",
    ),
    "bucket as a number": (
        "environments: {dev: {store: s3, bucket: 12}}",
        "environments.dev.bucket: 12",
        "in quotes",
    ),
    "endpoint without scheme": (
        "environments: {dev: {store: s3, bucket: b, endpoint_url: localhost}}",
        "environments.dev.endpoint_url: 'localhost'",
        "https://",
    ),
    "misspelt token_env": (
        "environments: {dev: {store: craft-ai, url: 'https://x', token_evn: T}}",
        "token_evn",
        "Did you mean token_env?",
    ),
    "unknown environment": (
        f"{ENVIRONMENT}folders: {{data: {{root: /d, environment: archiv}}}}",
        "folders.data.environment: 'archiv'",
        "Did you mean archive? Known environments: archive.",
    ),
    "no root": (
        f"{ENVIRONMENT}folders: {{data: {{environment: archive}}}}",
        "folders.data.root: this key is required",
        "Add a line",
    ),
    "mode": (folder("mode: twoway"), "folders.data.mode: 'twoway'", "two-way, push, pull"),
    "delete": (folder("delete: 'yes'"), "folders.data.delete: 'yes'", "true or false"),
    "delete in old YAML": (folder("delete: yes"), "folders.data.delete: 'yes'", "true or false"),
    "exclude": (folder("exclude: '*.tmp'"), "folders.data.exclude: '*.tmp'", '["*.tmp"'),
    "max_delete": (folder("max_delete: 10M"), "folders.data.max_delete: '10M'", "10%"),
    "max_delete share": (folder("max_delete: 101%"), "max_delete: '101%'", "10%"),
    "max_delete below zero": (folder("max_delete: -1"), "max_delete: -1", "10%"),
    "conflict": (folder("conflict: ask"), "folders.data.conflict: 'ask'", "both, newer"),
    "transfers": (folder("transfers: 0"), "folders.data.transfers: 0", "from 1 to 256"),
    "bwlimit": (folder("bwlimit: fast"), "folders.data.bwlimit: 'fast'", "10M:2M"),
    "timetable": (
        folder("bwlimit: '8 o clock,1M'"),
        "has the invalid entry '8'",
        "08:00,1M 19:00,off",
    ),
    "rate in a timetable": (folder("bwlimit: '08:00,fast'"), "is not a rate", "10M:2M"),
    "windows": (folder("windows: '22:00-06:00'"), "is not a list of windows", '["22:00-06:00"'),
    "window": (folder("windows: [at night]"), "is not a window", '["22:00-06:00"'),
    "window at no time": (folder("windows: ['25:00-26:00']"), "the invalid time '25:00'", "list"),
    "notify": ("notify: mail me", "notify: 'mail me' is not a command", "list of words"),
    "settle": (folder("settle: soon"), "folders.data.settle: 'soon'", "greater than 0"),
    "poll": (folder("poll: 0"), "folders.data.poll: 0", "greater than 0"),
    "scrub": (folder("scrub: 200%"), "folders.data.scrub: '200%'", "each day"),
    "keep of a folder": (
        folder("trash: {keep: 0d}"),
        "folders.data.trash.keep: '0d' is not a duration",
        "30d",
    ),
    "key of a folder's trash": (
        folder("trash: {kep: 30d}"),
        "folders.data.trash.kep: unknown key",
        "Did you mean keep?",
    ),
    "trash of a folder": (
        folder("trash: 30d"),
        "folders.data.trash: '30d' is not a section",
        "keys below it",
    ),
    "rescan": (folder("rescan: true"), "folders.data.rescan: True", "greater than 0"),
    "a key twice": ("folders: {}\nfolders: {}", "line 2: the key 'folders' is repeated", "line"),
    "no YAML": ("folders: [", "line 1, column 11", "craftsync config example"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_config_error_names_file_key_value_and_remedy(mistake: str) -> None:
    text, message, remedy = MISTAKES[mistake]
    error = refused(text)
    assert str(error).startswith(f"{FILE}: ")
    assert message in str(error)
    assert remedy in error.remedy
    assert error.exit_code == 78


@pytest.mark.parametrize("key", ["token", "secret_access_key", "password", "aws_access_key_id"])
def test_secret_in_config_file_is_rejected_and_never_printed(key: str) -> None:
    text = f"environments: {{dev: {{store: craft-ai, url: 'https://x', {key}: hunter2}}}}"
    error = refused(text)
    assert f"environments.dev.{key}: the configuration must not contain secrets" in str(error)
    assert "token_env" in error.remedy
    assert "hunter2" not in str(error) + error.remedy
