"""Words for stores: what each stands for, and what is refused before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsync import locations
from craftsync.config import Config, CraftAiEnvironment, DirectoryEnvironment, S3Environment
from craftsync.errors import UsageError
from craftsync.locations import DirectoryLocation, Location, S3Access, S3Location

CONFIG = Config(
    environments={
        "archive": DirectoryEnvironment(Path("/archive")),
        "prod": S3Environment("bucket", "datasets/", "me", "eu-west-3", "https://s3.example"),
        "dev": CraftAiEnvironment("https://my-env.example"),
    }
)
PROD = S3Access("me", "eu-west-3", "https://s3.example")


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
    ],
)
def test_a_word_stands_for_a_place(word: str, location: Location) -> None:
    assert locations.resolve(word, CONFIG) == location


@pytest.mark.parametrize("word", [".", "..", "./store", "../store", "~/store"])
def test_a_path_that_shows_it_is_one_starts_where_the_shell_would(
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
    assert locations.resolve(word, CONFIG) == DirectoryLocation(expected[word])


def test_a_flag_goes_before_what_the_environment_says() -> None:
    found = locations.resolve("prod", CONFIG, S3Access(profile="other"))
    assert found == S3Location(
        "bucket", "datasets", S3Access("other", "eu-west-3", "https://s3.example")
    )


@pytest.mark.parametrize(
    ("word", "message", "remedy"),
    [
        ("store", "(known: archive, prod, dev)", "write ./store"),
        ("data/store", "'data/store' is not an environment", "write ./data/store"),
        ("archiv:models", "'archiv:models' is not", "Did you mean archive?"),
        ("", "'' is not an environment", "./"),
        ("s3://", "names no bucket", "s3://bucket"),
        ("file://host/x", "not a folder of this machine", "file:///"),
        ("gs://bucket", "no kind of store called gs", "s3://"),
        ("craft-ai://", "craft-ai:// is a Craft AI environment", "craftsync[craft-ai]"),
        ("craft-ai://models", "is a Craft AI environment", "craftsync[craft-ai]"),
        ("dev", "dev is a Craft AI environment", "craftsync[craft-ai]"),
        ("archive:../x", "leads out of the store", "dev:models"),
        ("prod:/x", "leads out of the store", "dev:models"),
    ],
)
def test_a_word_that_stands_for_nothing_is_answered_with_a_way_on(
    word: str, message: str, remedy: str
) -> None:
    with pytest.raises(UsageError) as caught:
        locations.resolve(word, CONFIG)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy


def test_without_a_configuration_the_answer_says_so() -> None:
    with pytest.raises(UsageError, match="known: none; there is no configuration"):
        locations.resolve("store", Config())


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
def test_root_and_store_must_not_contain_each_other(
    root: str, store: str, relation: str, tmp_path: Path
) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    with pytest.raises(UsageError, match=relation):
        locations.refuse_nesting(tmp_path / root, DirectoryLocation(tmp_path / store))


@pytest.mark.parametrize("store", ["database", "data-2", "new/store"])
def test_folders_beside_each_other_are_fine(store: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    locations.refuse_nesting(tmp_path / "data", DirectoryLocation(tmp_path / store))
    locations.refuse_nesting(tmp_path / "data", S3Location("data", ""))
