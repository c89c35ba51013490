"""Store arguments: what each means, and which are rejected before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsync.config import places
from craftsync.config.file import Config, CraftAiEnvironment, DirectoryEnvironment, S3Environment
from craftsync.config.places import (
    CraftAiAccess,
    CraftAiLocation,
    DirectoryLocation,
    Location,
    S3Access,
    S3Location,
)
from craftsync.errors import UsageError

CONFIG = Config(
    environments={
        "archive": DirectoryEnvironment(Path("/archive")),
        "prod": S3Environment("bucket", "datasets/", "me", "eu-west-3", "https://s3.example"),
        "dev": CraftAiEnvironment("https://my-env.example/"),
        "lab": CraftAiEnvironment(
            "https://my-env.example/lab", "https://control.example", "LAB_TOKEN", Path("/token")
        ),
    }
)
LAB = CraftAiAccess("https://control.example", "LAB_TOKEN", Path("/token"))
PROD = S3Access("me", "eu-west-3", "https://s3.example")


@pytest.fixture(autouse=True)
def no_environment_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRAFT_AI_ENVIRONMENT_URL", raising=False)


@pytest.mark.parametrize(
    ("word", "location"),
    [
        ("archive", DirectoryLocation(Path("/archive"))),
        ("archive:models/2026", DirectoryLocation(Path("/archive/models/2026"))),
        ("archive:", DirectoryLocation(Path("/archive"))),
        ("prod", S3Location("bucket", "datasets", PROD)),
        ("prod:models/été/", S3Location("bucket", "datasets/models/été", PROD)),
        ("s3://bucket", S3Location("bucket", "")),
        ("s3://bucket/", S3Location("bucket", "")),
        ("s3://bucket/a/b/", S3Location("bucket", "a/b")),
        ("s3://bucket/a b%20c", S3Location("bucket", "a b%20c")),
        ("file:///mnt/disk", DirectoryLocation(Path("/mnt/disk"))),
        ("file:///mnt/my%20disk", DirectoryLocation(Path("/mnt/my disk"))),
        ("/mnt/disk/", DirectoryLocation(Path("/mnt/disk"))),
        ("/mnt/a:b", DirectoryLocation(Path("/mnt/a:b"))),
        ("dev", CraftAiLocation("https://my-env.example")),
        ("dev:models/été/", CraftAiLocation("https://my-env.example", "models/été")),
        ("lab:a", CraftAiLocation("https://my-env.example/lab", "a", LAB)),
        ("craft-ai+https://my-env.example", CraftAiLocation("https://my-env.example")),
        ("craft-ai+https://my-env.example/a/b", CraftAiLocation("https://my-env.example", "a/b")),
        (
            "craft-ai+https://my-env.example/lab/a",
            CraftAiLocation("https://my-env.example/lab", "a", LAB),
        ),
        (
            "craft-ai+https://my-env.example/labels",
            CraftAiLocation("https://my-env.example", "labels"),
        ),
        ("craft-ai+http://127.0.0.1:8790/a", CraftAiLocation("http://127.0.0.1:8790", "a")),
    ],
)
def test_store_argument_is_resolved_to_a_place(word: str, location: Location) -> None:
    assert places.resolve(word, CONFIG) == location


@pytest.mark.parametrize("word", [".", "..", "./store", "../store", "~/store"])
def test_explicit_path_is_relative_to_the_working_folder(
    word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = {
        ".": tmp_path / "here",
        "..": tmp_path,
        "./store": tmp_path / "here" / "store",
        "../store": tmp_path / "store",
        "~/store": tmp_path / "home" / "store",
    }
    assert places.resolve(word, CONFIG) == DirectoryLocation(expected[word])


def test_flag_overrides_the_environment_entry() -> None:
    found = places.resolve("prod", CONFIG, S3Access(profile="other"))
    assert found == S3Location(
        "bucket", "datasets", S3Access("other", "eu-west-3", "https://s3.example")
    )


@pytest.mark.parametrize(
    ("word", "message", "remedy"),
    [
        ("store", "(known: archive, prod, dev, lab)", "write ./store"),
        ("data/store", "'data/store' is not an environment", "write ./data/store"),
        ("archiv:models", "'archiv:models' is not", "Did you mean archive?"),
        ("", "The name of the store is empty", "Give an environment"),
        ("s3://", "has no bucket", "s3://bucket"),
        ("file://host/x", "not a folder on this machine", "file:///"),
        ("gs://bucket", "unknown kind of store gs", "s3://"),
        ("craft-ai://", "CRAFT_AI_ENVIRONMENT_URL is not set", ".env file in this folder"),
        ("craft-ai://models", "CRAFT_AI_ENVIRONMENT_URL is not set", "to the configuration"),
        ("craft-ai+https://", "is not the address of an environment", "https://my-env"),
        ("craft-ai+ftp://host", "is not the address of an environment", "https://my-env"),
        ("craft-ai+https://me:secret@host", "is not the address", "https://my-env"),
        ("dev:../x", "leads out of the store", "dev:models"),
        ("archive:../x", "leads out of the store", "dev:models"),
        ("prod:/x", "leads out of the store", "dev:models"),
    ],
)
def test_unknown_store_name_error_suggests_a_remedy(word: str, message: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        places.resolve(word, CONFIG)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("in_a_file", [False, True], ids=["environment", ".env"])
def test_sdk_environment_variables_name_an_environment(
    in_a_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if in_a_file:
        Path(".env").write_text('export CRAFT_AI_ENVIRONMENT_URL="https://other.example/" # mine\n')
    else:
        monkeypatch.setenv("CRAFT_AI_ENVIRONMENT_URL", "https://other.example/")
    other = CraftAiLocation("https://other.example")
    assert places.resolve("craft-ai://", CONFIG) == other
    assert places.resolve("craft-ai://a/b/", CONFIG) == CraftAiLocation(other.url, "a/b")


@pytest.mark.parametrize("word", ["dev", "lab:models/2026", "prod:a", "archive"])
def test_store_address_round_trips(word: str) -> None:
    location = places.resolve(word, CONFIG)
    assert places.remembered(places.address_of(location), CONFIG, S3Access()) == location


def test_environments_have_distinct_addresses_without_secrets() -> None:
    dev, lab = (places.address_of(places.resolve(word, CONFIG)) for word in ("dev:a", "lab:a"))
    assert (dev, lab) == (
        "craft-ai+https://my-env.example/a",
        "craft-ai+https://my-env.example/lab/a",
    )


def test_unknown_store_error_mentions_the_missing_configuration() -> None:
    with pytest.raises(UsageError, match="known: none; no configuration exists"):
        places.resolve("store", Config())


@pytest.mark.parametrize(
    ("root", "store", "relation"),
    [
        ("data", "data", "is the same folder as"),
        ("data", "data/backup", "lies inside"),
        ("data", "data/a/b/not-there-yet", "lies inside"),
        ("data/sub", "data", "contains"),
        ("data", "link", "is the same folder as"),
        ("data", "link/backup", "lies inside"),
        ("link", "data", "is the same folder as"),
    ],
)
def test_folder_and_store_must_not_contain_each_other(
    root: str, store: str, relation: str, tmp_path: Path
) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    with pytest.raises(UsageError, match=relation):
        places.refuse_nesting(tmp_path / root, DirectoryLocation(tmp_path / store))


@pytest.mark.parametrize("store", ["database", "data-2", "new/store"])
def test_sibling_folders_are_accepted(store: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    places.refuse_nesting(tmp_path / "data", DirectoryLocation(tmp_path / store))
    places.refuse_nesting(tmp_path / "data", S3Location("data", ""))
    places.refuse_nesting(tmp_path / "data", CraftAiLocation("https://data"))
