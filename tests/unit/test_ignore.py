"""Ignore rules: which rule decides, where it is, and that git decides the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craftsync.errors import UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder.open(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "a/.venv/bin/python",
        "__pycache__/x.pyc",
        "x.part",
        "a/.env",
        ".DS_Store",
    ],
)
def test_default_ignore_rules_exclude_caches_and_secrets(folder: Folder, path: str) -> None:
    assert IgnoreRules(folder).ignored(path)
    assert not IgnoreRules(folder, defaults=False).ignored(path)


@pytest.mark.parametrize("path", [".craftsync/lock", "a/.craftsync/lock", "a/.craftsync"])
def test_no_pattern_includes_craftsyncs_own_files(folder: Folder, path: str) -> None:
    assert IgnoreRules(folder, exclude=["!.craftsync/", "!*"], defaults=False).ignored(path)


@pytest.mark.parametrize("path", ["a.csv", ".gitignore", "env", "venv/x", "a.part.csv", "données"])
def test_files_without_a_matching_rule_are_synced(folder: Folder, path: str) -> None:
    assert not IgnoreRules(folder).ignored(path)


def test_ignore_decision_names_the_rule_and_its_place(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / ".craftsyncignore").write_text("# large\n*.bin\n")
    (tmp_path / "data/.craftsyncignore").write_text("!keep.bin\n")
    rules = IgnoreRules(folder, exclude=["*.log"])
    assert rules.match("x.bin") == (True, "*.bin", ".craftsyncignore")
    assert rules.match("data/keep.bin") == (False, "!keep.bin", "data/.craftsyncignore")
    assert rules.match("data/x.log") == (True, "*.log", "--exclude")
    assert rules.match(".env") == (True, ".env", "the defaults")
    assert rules.match(".craftsync/trash/x") == (True, ".craftsync/", "craftsync's own folder")
    assert rules.match("x.csv") is None


def test_ignore_file_applies_only_below_its_folder(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.craftsyncignore").write_text("/top\nmid/low\n*.x\n")
    rules = IgnoreRules(folder)
    taking_part = {
        path
        for path in (
            "top",
            "a/top",
            "a/b/top",
            "a/mid/low",
            "a/b/mid/low",
            "q.x",
            "a/q.x",
            "a/b/q.x",
        )
        if not rules.ignored(path)
    }
    assert taking_part == {"top", "a/b/top", "a/b/mid/low", "q.x"}


def test_ignore_precedence_is_command_line_then_files_then_defaults(
    folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / ".craftsyncignore").write_text("!.env\n*.tmp\n")
    rules = IgnoreRules(folder, exclude=["!a.tmp"])
    assert not rules.ignored(".env")
    assert not rules.ignored("a.tmp")
    assert rules.ignored("b.tmp")


def test_files_below_an_ignored_folder_cannot_be_reincluded(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / ".craftsyncignore").write_text("build/\n!build/keep\n")
    (tmp_path / "build/.craftsyncignore").write_text("!*\n")
    rules = IgnoreRules(folder)
    assert rules.ignored("build/keep")
    assert rules.match("build/deep/keep") == (True, "build/", ".craftsyncignore")
    assert not rules.ignored("build")
    assert rules.ignored("build", is_folder=True)


def test_with_include_only_matching_files_are_synced(folder: Folder) -> None:
    rules = IgnoreRules(folder, include=["*.csv", "models/"])
    assert not rules.ignored("a/b.csv")
    assert not rules.ignored("models/m.bin")
    assert not rules.ignored("a", is_folder=True)
    assert rules.ignored("a/b.txt")
    assert rules.match("a/b.txt") == (True, "*.csv models/", "not among --include")


def test_exclude_wins_over_include(folder: Folder) -> None:
    rules = IgnoreRules(folder, include=["*.csv"], exclude=["secret.csv"])
    assert rules.ignored("a/secret.csv")


def test_invalid_command_line_pattern_is_a_usage_error(folder: Folder) -> None:
    with pytest.raises(UsageError, match="--exclude"):
        IgnoreRules(folder, exclude=["!"])


@pytest.mark.parametrize("content", [b"!\n", b"\xff\xfe\n"])
def test_invalid_ignore_file_excludes_its_folder_with_a_reason(
    folder: Folder, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.craftsyncignore").write_bytes(content)
    rules = IgnoreRules(folder)
    assert "a/.craftsyncignore" in rules.inside("a").failure
    assert rules.ignored("a/x")
    assert rules.ignored("a/b/x")
    assert not rules.ignored("b/x")


def test_symlinked_ignore_file_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("*.x\n")
    (tmp_path / ".craftsyncignore").symlink_to("elsewhere")
    assert "symbolic link" in IgnoreRules(folder).inside("").failure


segment = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "*.x", "[ab]", "[!a]", "a.x"])
pattern = st.builds(
    lambda negated, start, parts, end: negated + start + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/", "**/"]),
    st.lists(segment, min_size=1, max_size=2),
    st.sampled_from(["", "", "/", "/**"]),
)
name = st.sampled_from(["a", "b", "ab", "a.x", "ba"])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "a").mkdir()
    return root


@settings(deadline=None, max_examples=150)
@given(
    top=st.lists(pattern, max_size=4),
    low=st.lists(pattern, max_size=3),
    paths=st.lists(st.lists(name, min_size=1, max_size=3).map("/".join), min_size=6, max_size=6),
)
def test_ignore_decisions_match_git(
    repository: Path, top: list[str], low: list[str], paths: list[str]
) -> None:
    for file, lines in ((repository, top), (repository / "a", low)):
        (file / ".gitignore").write_text("\n".join(lines) + "\n")
        (file / ".craftsyncignore").write_text("\n".join(lines) + "\n")
    listed = "\n".join(path for path in paths if path != "a") + "\n"
    answer = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--no-index", "--stdin"],
        input=listed, capture_output=True, text=True, check=False,
    )  # fmt: skip
    with Folder.open(repository) as folder:
        rules = IgnoreRules(folder, defaults=False)
        ours = {path for path in paths if path != "a" and rules.ignored(path)}
    assert ours == set(answer.stdout.split())
