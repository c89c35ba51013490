"""`migrate` and `check` between two stores, by the installed program."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

import craftsync as package
from craftsync.errors import UsageError
from tests.support.cli import Craftsync, until
from tests.support.serving import serving
from tests.support.terminal import on_a_terminal


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and ".craftsync" not in file.parts
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "iris").write_bytes(b"model" * 1000)
    (folder / "données.csv").write_bytes(b"a,b\n")
    return folder


def test_a_folder_is_copied_and_the_manifest_named(craftsync: Craftsync, source: Path) -> None:
    run = craftsync("migrate", "./old", "./new")
    assert (run.code, files(craftsync.folder / "new")) == (0, files(source))
    assert run.lines[0].startswith("migrate: 2 copied (4.9 KiB);")
    assert run.lines[1] == "2 copied; the target acknowledged them (it reports no checksum)"
    manifest = Path(run.lines[2].removeprefix("manifest: "))
    assert len(manifest.read_text().splitlines()) == 2


def test_migrate_counts_what_it_found_equal_and_names_the_target(
    craftsync: Craftsync, source: Path
) -> None:
    craftsync.write("new/données.csv", "a,b\n")
    copied = craftsync("migrate", "./old", "./new")
    verified = [line for line in copied.lines if "copied or found equal; " in line]
    assert "1 copied (4.9 KiB), 1 found equal" in copied.lines[0]
    assert sum(int(line.split()[0]) for line in verified) == 2
    (source / "données.csv").unlink()
    gone = craftsync("migrate", "--delete", "./old", "./new")
    assert "1 deleted in the target" in gone.lines[0]


def test_object_put_back_in_the_source_is_not_read_again(
    craftsync: Craftsync, source: Path
) -> None:
    """A migration that no longer finds an object in the source keeps the record of its copy."""
    craftsync("migrate", "./old", "./new")
    (source / "données.csv").rename(craftsync.folder / "aside")
    for _ in range(2):
        assert craftsync("migrate", "./old", "./new").code == 0
    (craftsync.folder / "aside").rename(source / "données.csv")
    summary = craftsync("migrate", "--json", "./old", "./new").summary
    assert (summary["unchanged"], summary["adopted"], summary["copied"]) == (2, 0, 0)


def test_check_explains_its_symbols_on_a_terminal(craftsync: Craftsync, source: Path) -> None:
    craftsync.write("new/other.csv")
    with on_a_terminal(craftsync, 100, "check", "./old", "./new") as terminal:
        terminal.until("- only in the store (or the second)")
        assert terminal.end() == 1
    assert "only in the store" not in craftsync("check", "./old", "./new").text


def test_migrate_dry_run_estimates_the_transfer(craftsync: Craftsync, source: Path) -> None:
    run = craftsync("migrate", "-n", "--bandwidth", "1K", "./old", "./new")
    assert run.code == 0
    assert (
        run.lines[-1] == "to copy: at most 2 objects, 4.9 KiB, about 4 requests; at 1.0 KiB/s 4.9 s"
    )
    assert not (craftsync.folder / "new").exists()


def test_json_ends_with_one_summary(craftsync: Craftsync, source: Path) -> None:
    run = craftsync("migrate", "--json", "./old", "./new")
    actions = [line for line in run.json if line["type"] == "action"]
    assert sorted(line["path"] for line in actions) == ["données.csv", "models/iris"]
    assert {line["action"] for line in actions} == {"copy"}
    summary = run.summary
    assert (summary["command"], summary["copied"], summary["bytes_copied"]) == ("migrate", 2, 5004)


def test_manifest_is_written_to_the_given_file(craftsync: Craftsync, source: Path) -> None:
    run = craftsync(
        *("migrate", "--manifest", "proof/list.jsonl", "--manifest-in-target", "./old", "./new"),
        *("--verify", "full"),
    )
    assert run.code == 0
    written = (craftsync.folder / "proof" / "list.jsonl").read_bytes()
    assert (craftsync.folder / "new" / ".craftsync" / "manifest.jsonl").read_bytes() == written
    assert {json.loads(line)["verified"] for line in written.splitlines()} == {"read back"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("./old", "./old"), 2, "is the same folder as"),
        (("./old", "./old/models"), 2, "contains"),
        (("./old/models", "./old"), 2, "lies inside"),
        (("./missing", "./new"), 3, "missing"),
        (("--shard", "3/2", "./old", "./new"), 2, "--shard: '3/2' is not a share"),
        (("--verify", "hope", "./old", "./new"), 2, "--verify: 'hope'"),
        (("--bandwidth", "off", "./old", "./new"), 2, "--bandwidth: 'off'"),
        (("--transfers", "0", "./old", "./new"), 2, "--transfers: '0'"),
        (("s3://bucket/a", "s3://bucket/a/b"), 2, "overlap"),
        (("s3://bucket", "s3://bucket/a"), 2, "overlap"),
        (("old", "./new"), 2, "'old' is not an environment"),
    ],
)
def test_invalid_migrate_arguments_are_rejected_first(
    craftsync: Craftsync, source: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    before = files(craftsync.folder)
    run = craftsync("migrate", *words, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
    assert (run.code, said in run.err) == (code, True), run.err
    assert files(craftsync.folder) == before


def test_shares_of_a_job_array_copy_everything(craftsync: Craftsync, source: Path) -> None:
    for number in range(20):
        (source / f"{number}").write_text(f"{number}")
    for share in ("1/3", "2/3", "3/3"):
        assert craftsync("migrate", "--shard", share, "./old", "./new").code == 0
    assert files(craftsync.folder / "new") == files(source)


def test_killed_migration_is_resumed(craftsync: Craftsync, source: Path) -> None:
    for number in range(300):
        (source / f"{number}").write_bytes(b"x" * 4096)
    process = craftsync.start("migrate", "--bwlimit", "200K", "./old", "./new")
    until(lambda: len(files(craftsync.folder / "new")) > 20, "twenty objects are copied")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run = craftsync("migrate", "./old", "./new")
    assert run.code == 0
    assert files(craftsync.folder / "new") == files(source)


def test_check_compares_two_stores(craftsync: Craftsync, source: Path) -> None:
    craftsync.config.write_text(f"environments:\n  dev: {{store: directory, path: {source}}}\n")
    new = craftsync.folder / "new"
    assert craftsync("migrate", "dev", "./new").code == 0
    (source / "only here").write_text("x")
    (new / "only there").write_text("x")
    (new / "models" / "iris").write_bytes(b"maybe" * 1000)
    for first in (f"file://{source}", "dev"):
        run = craftsync("check", "-v", first, "./new")
        assert run.code == 1
        assert run.lines[:-1] == [
            "= données.csv",
            "* models/iris",
            "+ only here",
            "- only there",
        ]


def test_patterns_leave_paths_out_on_both_sides(craftsync: Craftsync, source: Path) -> None:
    for path in ("cache/a.csv", "notes.tmp", "models/draft", ".git/config"):
        (source / path).parent.mkdir(exist_ok=True)
        (source / path).write_text("x")
    craftsync.write("patterns", "# not yet\n\nmodels/draft\n")
    craftsync.write("new/cache/old", "stays")
    craftsync.write("new/old", "goes")
    words = ("--exclude", "*.tmp", "--exclude", "cache/", "--exclude-from", "patterns")
    assert craftsync("migrate", "--delete", *words, "./old", "./new").code == 0
    arrived = {".git/config", "données.csv", "models/iris"}
    assert set(files(craftsync.folder / "new")) == {*arrived, "cache/old"}
    check = craftsync("check", "-v", *words, f"file://{source}", "./new")
    assert (check.code, check.lines[:-1]) == (0, [f"= {path}" for path in sorted(arrived)])
    only = craftsync("migrate", "--include", "*.csv", "--json", "./old", "./other")
    assert only.summary["copied"] == 2
    assert set(files(craftsync.folder / "other")) == {"cache/a.csv", "données.csv"}


def test_check_can_compare_sizes_only(craftsync: Craftsync, source: Path) -> None:
    assert craftsync("migrate", "./old", "./new").code == 0
    (craftsync.folder / "new" / "models" / "iris").write_bytes(b"maybe" * 1000)
    words = (f"file://{source}", "./new")
    assert craftsync("check", *words).lines[0] == "* models/iris"
    assert craftsync("check", "--size-only", "-v", *words).lines[1] == "= models/iris"


def test_python_api_migrates_and_checks_like_the_command_line(
    craftsync: Craftsync, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(craftsync.folder / "state"))
    monkeypatch.setenv("CRAFTSYNC_CONFIG", str(craftsync.config))
    new = craftsync.folder / "new"
    report = package.migrate(str(source), str(new), verify="full")
    assert (report.copied, report.verified, files(new)) == (2, {"read back": 2}, files(source))
    assert package.check(f"file://{source}", str(new)).exit_code == 0
    with pytest.raises(UsageError, match="Unknown option 'verifi'"):
        package.migrate(str(source), str(new), verifi="full")  # type: ignore[call-arg]


PAGE = Path(__file__).parent.parent.parent / "docs" / "migrate.md"
CHAPTER = re.compile(r"^<!-- Migration: run .*?```console\n(.*?)^```$", re.M | re.S)


def test_migrate_page_is_true(craftsync: Craftsync, source: Path) -> None:
    (source / "third").write_bytes(b"3")
    (block,) = CHAPTER.findall(PAGE.read_text("utf-8"))
    prod = craftsync.folder / "prod"
    prod.mkdir()
    with serving(source) as one, serving(prod) as other:
        for name, served in (("dev", one), ("prod", other)):
            with craftsync.config.open("a") as config:
                config.write("environments:\n" if name == "dev" else "")
                config.write(
                    f"  {name}: {{store: craft-ai, url: {served.url!r},"
                    f" control_url: {served.url!r}, token_env: {name.upper()}_TOKEN}}\n"
                )
            craftsync.environment[f"{name.upper()}_TOKEN"] = served.token
        for step in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = step.partition("\n")
            run = craftsync(*command.split()[1:])
            pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
            assert re.match(pattern, run.text, re.S), f"$ {command}\n{run.text}{run.err}"
    assert files(prod) == files(source)


def test_one_environment_is_brought_to_another(craftsync: Craftsync, source: Path) -> None:
    (source / "large").write_bytes(bytes(range(256)) * (17 << 12))
    prod = craftsync.folder / "prod"
    prod.mkdir()
    with serving(source) as one, serving(prod) as other:
        craftsync.config.write_text(
            "environments:\n"
            f"  dev: {{store: craft-ai, url: {one.url!r}, control_url: {one.url!r}}}\n"
            f"  prod: {{store: craft-ai, url: {other.url!r}, control_url: {other.url!r}}}\n"
        )
        craftsync.environment["CRAFT_AI_SDK_TOKEN"] = one.token
        run = craftsync("migrate", "dev", "prod")
        assert (run.code, files(prod)) == (0, files(source)), run.err
        assert craftsync("migrate", "dev", "prod").lines[0].startswith("migrate: 3 unchanged")
        check = craftsync("check", "-v", "dev", "prod")
        assert (check.code, check.lines[0]) == (0, "= données.csv")
        again = craftsync("migrate", "dev", "dev")
        assert (again.code, "is the same as" in again.err) == (2, True)
