"""Help, versions, and what is answered to words that make no sense."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import click
import pytest

from craftsync import __version__
from craftsync.cli import MODULES, runs
from craftsync.config.options import RunOptions
from tests.support.cli import SCRIPT, Craftsync, until

COMMANDS = [
    *MODULES,
    *("trash list", "trash restore", "trash purge"),
    *("config list", "config show", "config remove", "config example"),
]


def test_the_version_is_that_of_the_package(craftsync: Craftsync) -> None:
    run = craftsync("--version")
    assert (run.code, run.text) == (0, f"craftsync {__version__}\n")


def test_the_package_runs_as_a_module_too(craftsync: Craftsync) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "craftsync", "--version"],
        env=craftsync.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.decode() == f"craftsync {__version__}\n"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_lists_every_command(craftsync: Craftsync, word: str) -> None:
    run = craftsync(word)
    assert run.code == 0
    listed = re.findall(r"^  ([a-z]+)  ", run.text, re.M)
    assert listed == list(MODULES)


@pytest.mark.parametrize(
    "words", [[], ["conflicts"], ["deletes"], ["service"], ["trash"], ["config"]]
)
def test_help_has_no_truncated_sentence(craftsync: Craftsync, words: list[str]) -> None:
    listed = craftsync(*words, "--help", COLUMNS="80").text.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_of_it(craftsync: Craftsync, command: str) -> None:
    run = craftsync(*command.split(), "--help")
    assert run.code == 0
    examples = run.text.partition("Example")[2].partition("Options:")[0]
    assert f"craftsync {command}" in examples


@pytest.mark.parametrize("command", {module: name for name, module in MODULES.items()}.values())
def test_each_module_of_commands_loads_all_that_it_needs_itself(
    craftsync: Craftsync, command: str
) -> None:
    run = craftsync.anew(command, "--help")
    assert (run.code, run.err) == (0, "")


_OF_THE_CALL = {"pair", "folder", "root", "store", "json", "quiet", "verbose", "stats", "log_file"}
"""What names the folder, and what is printed."""


@pytest.mark.parametrize("command", [runs.push, runs.pull, runs.sync], ids=lambda each: each.name)
def test_every_flag_of_a_run_is_an_option_of_the_run(command: click.Command) -> None:
    # `params.asked_of` hands over no other.
    flags = {param.name for param in command.params} - _OF_THE_CALL
    assert flags - set(RunOptions.__annotations__) == set()


def test_version_and_help_load_no_yaml_rich_or_cloud_library(
    craftsync: Craftsync,
) -> None:
    heavy = {"yaml", "rich", "pathspec", "platformdirs", "boto3", "sqlite3", "ctypes"}
    probe = "import sys, craftsync.cli as c\ntry: c.main()\nfinally: print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe, "--version"],
        env=craftsync.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stdout.decode().split())
    assert "click" in loaded
    assert not loaded & heavy


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["frobnicate"], "No such command"),
        (["push", "--frobnicate"], "No such option"),
        (["pusch", "root", "./store"], "No such command 'pusch'. Did you mean push?"),
        (["deletes", "aprove"], "Did you mean approve?"),
        (["head", "dev:x.csv"], "Did you mean cat?"),
        (["restore", "x.csv"], "Did you mean trash restore?"),
        (["start"], "Did you mean watch or service install?"),
        (["list", "dev:"], "Did you mean ls?"),
        (["ls", "dev:"], "write s3://BUCKET"),
        (["sync", "s3://bucket/models", "./zz"], "Write ./zz s3://bucket/models"),
        (["ls", "craftsync://s3://bucket/x"], "Write s3://bucket/x."),
        (["service", "install", "data"], "craftsync init"),
        (["push"], "No folder given, and none is configured"),
        (["push", "datasets"], "'datasets' is not a folder of the configuration"),
        (["push", "~nobody-here/x", "./store"], "~nobody-here/x starts with the home folder of"),
        (["push", "root", "./store", "--log-file", "~nobody-here/x"], "Write the path in full."),
        (["push", "root", "store"], "'store' is not an environment of the configuration"),
        (["push", "root", "./store", "more"], "Too many arguments"),
        (["push", "root", "gs://bucket"], "unknown kind of store gs"),
        (["push", "root", "craft-ai://"], "CRAFT_AI_ENVIRONMENT_URL is not set"),
        (["push", "root", "./root/store"], "lies inside the linked folder"),
        (["push", "root", "./root"], "is the same folder as the linked folder"),
        (["push", "root", "./store", "--max-delete", "many"], "--max-delete: 'many'"),
        (["push", "root", "./store", "--bwlimit", "fast"], "--bwlimit: 'fast'"),
        (["push", "root", "./store", "--conflict", "ask"], "--conflict: 'ask'"),
        (["push", "root", "./store", "--transfers", "0"], "--transfers: '0'"),
        (["push", "root", "./store", "-c", "--size-only"], "contradict each other"),
        (["plan", "root", "./store", "--mode", "mirror"], "--mode: 'mirror' is not a mode"),
        (["apply", "missing.plan"], "missing.plan cannot be read"),
        (["why", "a", "--root", "root"], "--root and --store together"),
        (["ls", "store"], "write ./store"),
        (["ls"], "Missing argument"),
        (["-v", "push"], "Options of a command go after its name"),
        (
            ["push", "--recursive", "root", "./store"],
            "Folders always include everything below them.",
        ),
        (["put", "-a.txt", "./store/"], "For the file of that name write ./-a.txt."),
        (["help", "pusch"], "Did you mean push?"),
        (["find", "./root", "-name", "a"], "Did you mean --name?"),
        (["rm", "./root/a.txt"], "lies in the linked folder"),
    ],
)
def test_invalid_arguments_exit_2_with_a_message(
    craftsync: Craftsync, words: list[str], sentence: str
) -> None:
    craftsync.write("root/a.txt")
    craftsync.write("root/.craftsync/root-id")
    craftsync.write("-a.txt")
    run = craftsync(*words)
    assert run.code == 2
    assert sentence in run.err
    assert "Traceback" not in run.err
    assert run.out == b""
    assert not (craftsync.folder / "store").exists()


@pytest.mark.parametrize(
    ("words", "sentence", "has_summary"),
    [
        (["push", "--frobnicate", "--json", "root", "./store"], "No such option", True),
        (["push", "--json", "--folder", "a", "root", "./store"], "by words or by flags", True),
        (["cp", "--json"], "Missing argument", True),
        (["cp", "--json", "./here"], "give a source and a target", True),
        (["trash", "restore", "--json", "--run", "last"], "'last' is not a valid", True),
        (["deletes", "approve", "--json"], "Give each PATH", True),
        (["watch", "--json", "--frobnicate"], "No such option", True),
        (["watch", "--json", "--folder", "a", "root", "./store"], "by words or by flags", True),
        (["doctor", "--json", ""], "is empty", True),
        (["ls", "--json"], "Missing argument", False),
        (["wait", "--json", "--timeout", "soon"], "--timeout: 'soon'", False),
        (["pusch", "--json"], "Did you mean push?", False),
        (["--json", "push"], "Options of a command go after its name", False),
        (["deletes", "aprove", "--json"], "Did you mean approve?", False),
    ],
)
def test_usage_errors_are_lines_of_json_too(
    craftsync: Craftsync, words: list[str], sentence: str, has_summary: bool
) -> None:
    run = craftsync(*words)
    assert (run.code, sentence in run.err) == (2, True), run.err
    error, *rest = run.json
    assert error | {"message": "", "remedy": ""} == {
        **{"type": "error", "message": "", "remedy": "", "exit_code": 2},
    }
    assert (sentence in error["message"], bool(error["remedy"])) == (True, True), error
    assert [line["type"] for line in rest] == ["summary"] * has_summary
    if has_summary:
        name = " ".join(words).removeprefix("trash ").removeprefix("deletes ").split()[0]
        assert (run.summary["command"], run.summary["exit_code"]) == (name, 2)


@pytest.mark.parametrize(
    ("words", "types"),
    [
        (["push", "--frobnicate", "root", "./store"], ["error", "summary"]),
        (["watch", "--frobnicate"], ["error", "summary"]),
        (["trash", "restore", "--run", "last"], ["error", "summary"]),
        (["ls"], ["error"]),
        (["pusch"], ["error"]),
        (["deletes", "aprove"], ["error"]),
        (["--frobnicate"], ["error"]),
        (["pause", "--frobnicate"], []),
    ],
)
def test_usage_errors_are_json_with_the_variable_too(
    craftsync: Craftsync, words: list[str], types: list[str]
) -> None:
    """`pause` has no --json: its other errors are text, too."""
    for value in ("1", "true"):
        run = craftsync(*words, CRAFTSYNC_JSON=value)
        assert (run.code, "Error:" in run.err) == (2, True), run.err
        assert [line["type"] for line in run.json] == types
        assert {line["exit_code"] for line in run.json} <= {2}


@pytest.mark.parametrize("value", ["", "0", "maybe"])
def test_usage_errors_stay_text_without_json(craftsync: Craftsync, value: str) -> None:
    run = craftsync("push", "--frobnicate", "root", "./store", CRAFTSYNC_JSON=value)
    assert (run.code, run.out, "No such option" in run.err) == (2, b"", True), run.err


def test_json_after_two_dashes_is_a_file(craftsync: Craftsync) -> None:
    run = craftsync("push", "--frobnicate", "--", "--json")
    assert (run.code, run.out) == (2, b"")


def test_help_and_version_are_commands_too(craftsync: Craftsync) -> None:
    assert craftsync("help").text == craftsync("--help").text
    assert craftsync("help", "trash", "list").text == craftsync("trash", "list", "-h").text
    assert craftsync("version").text == craftsync("--version").text


def test_the_path_of_a_linked_folder_names_it(craftsync: Craftsync) -> None:
    craftsync.config.write_text(
        "environments: {s: {store: directory, path: store}}\n"
        "folders: {work: {root: root, environment: s}}\n"
    )
    craftsync.write("root/a.txt")
    assert "./root is the path of work: write the name." in craftsync("sync", "./root").err
    run = craftsync("config", "remove", "wrok")
    assert run.err.rstrip().endswith("Known: work, s.")
    run = craftsync("push", "root/a.txt", "./store")
    assert (run.code, "craftsync put" in run.err) == (3, True)


def test_invalid_configuration_exits_78_with_a_remedy(craftsync: Craftsync) -> None:
    craftsync.config.write_text("environments: {dev: {store: s3, bukcet: b}}")
    run = craftsync("ls", "dev")
    assert run.code == 78
    assert run.err.splitlines() == [
        f"craftsync: {craftsync.config}: environments.dev.bukcet: unknown key (its value is 'b').",
        "Did you mean bucket? Known keys: store, bucket, prefix, profile, region, endpoint_url, "
        "request_payer, content_type, storage_class, sse.",
    ]


@pytest.mark.parametrize("after", [False, True])
def test_the_global_options_stand_before_or_after_the_command(
    craftsync: Craftsync, after: bool
) -> None:
    craftsync.config.write_text("folder: {}")
    other = craftsync.write("other.yaml", "environments: {e: {store: directory, path: store}}")
    craftsync.write("store/a.txt")
    words = ["--config", str(other)]
    run = craftsync("ls", "e", *words) if after else craftsync(*words, "ls", "e")
    assert (run.code, run.err) == (0, "")
    assert run.text.endswith(" a.txt\n")


def test_missing_config_file_given_by_flag_exits_78(craftsync: Craftsync) -> None:
    run = craftsync("--config", "none.yaml", "ls", "./store")
    assert run.code == 78
    assert "none.yaml: file not found" in run.err


def test_flags_override_variables_which_override_the_file(craftsync: Craftsync) -> None:
    craftsync.config.write_text(
        "environments: {e: {store: directory, path: store}}\n"
        "folders: {f: {root: root, environment: e, conflict: newer}}"
    )
    craftsync.write("root/a.txt")
    by_variable = craftsync("push", "f", CRAFTSYNC_CONFLICT="variable")
    assert "--conflict: 'variable'" in by_variable.err
    by_flag = craftsync("push", "f", "--conflict", "flag", CRAFTSYNC_CONFLICT="variable")
    assert "--conflict: 'flag'" in by_flag.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_own_code(
    craftsync: Craftsync, number: signal.Signals, code: int
) -> None:
    pipe = craftsync.folder / "pipe"
    os.mkfifo(pipe)
    # Without a writer it waits for content; opening the pipe must not wait already.
    process = craftsync.start("put", "pipe", "./store", "a")
    opened = Path(f"/proc/{process.pid}/fd")
    until(lambda: pipe in [each.resolve() for each in opened.iterdir()], "the pipe is open")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert not (craftsync.folder / "store" / "a").exists()


def test_no_failure_ends_with_a_traceback(craftsync: Craftsync, tmp_path: Path) -> None:
    file = craftsync.write("file")
    run = craftsync("--state-dir", str(file), "sync", "root", "./store")
    assert run.code != 0
    assert "Traceback" not in run.err
    assert run.err.startswith("craftsync: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(craftsync: Craftsync, closed: str) -> None:
    craftsync.write("root/a", "content")
    # What does nothing but print is tried where there is nothing to print to.
    that_print = ("ls ./store", "--version") if ">&-" in closed.split() else ()
    for words in ("sync root ./store", "get ./store a -", *that_print):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{SCRIPT} {words} {closed}"],
            cwd=craftsync.folder,
            env=craftsync.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert craftsync.files("store") == {"a": "content"}


@pytest.mark.parametrize("words", ["sync root ./store", "ls --json ./store", "status root ./store"])
def test_unwritable_standard_output_is_an_error(craftsync: Craftsync, words: str) -> None:
    craftsync.write("root/a", "content")
    craftsync("push", "root", "./store")
    with (
        Path("/dev/full").open("wb") as full,
        craftsync.started(*words.split(), stdout=full.fileno(), stderr=PIPE) as process,
    ):
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Cannot write to standard output: No space left on device" in err


def test_file_names_are_utf8_in_any_locale(craftsync: Craftsync) -> None:
    old = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    craftsync.write("données/été.csv", "content")
    assert craftsync("sync", "données", "./magasin").code == 0
    run = craftsync("sync", "--json", "données", "./magasin", **old)
    assert run.code == 0, run.err
    assert run.summary["unchanged"] == 1
    assert "été.csv" in craftsync("ls", "./magasin", **old).text


@pytest.mark.parametrize("home", ["/dev/null", "/proc/1"])
def test_without_home_state_dir_is_required(craftsync: Craftsync, home: str) -> None:
    craftsync.write("root/a", "content")
    nowhere = {"HOME": home, "CRAFTSYNC_CONFIG": "", "CRAFTSYNC_STATE_DIR": ""}
    run = craftsync("sync", "root", "./store", **nowhere)
    assert run.code == 7
    assert f"the folder {home}/.local/state/craftsync/pairs/" in run.err
    assert "--state-dir" in run.err
    assert craftsync("--state-dir", "state", "sync", "root", "./store", **nowhere).code == 0


@pytest.mark.parametrize("place", ["file/below", "loop/below", "long" * 100])
@pytest.mark.parametrize("words", [("sync",), ("sync", "-n"), ("push",)], ids=" ".join)
def test_unusable_state_dir_error_names_the_option(
    craftsync: Craftsync, words: tuple[str, ...], place: str
) -> None:
    craftsync.write("root/a", "content")
    craftsync.write("file")
    (craftsync.folder / "loop").symlink_to("loop")
    run = craftsync("--state-dir", place, *words, "root", "./store")
    dry_run = "-n" in words and place == "file/below"
    assert run.code == (0 if dry_run else 7), run.err
    assert dry_run or "--state-dir" in run.err
    assert "Traceback" not in run.err
