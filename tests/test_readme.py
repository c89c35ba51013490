"""README and docs are true: their commands run, the picture is what `make run` prints.

In a `console` block, each line after `$` is run, and the lines below it are the
expected output, where `…` stands for anything; a command without lines below
it only has to succeed. The blocks of a page share one folder, from top to bottom.
Commands in `sh` blocks are not run; their subcommands and options must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import calls
from tests.support.cli import SCRIPT, Craftsync, started, until
from tests.support.servers import S3Server

PROJECT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^(?:<!-- (?P<note>.*?) -->\n)?```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)
SEPARATOR = "\x1e"


class Block(NamedTuple):
    """A fenced block of the README, and the comment right above it."""

    note: str
    kind: str
    body: str


class Step(NamedTuple):
    """A command of a `console` block and the output shown below it."""

    command: str
    output: str


PAGES = ["README.md", *sorted(f"docs/{file.name}" for file in (PROJECT / "docs").glob("*.md"))]
README_LIMIT = 8 * 1024
"""Bytes: what a stranger reads before the first command."""


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    text = (PROJECT / page).read_text("utf-8")
    return [
        Block(found["note"] or "", found["kind"], found["body"]) for found in BLOCK.finditer(text)
    ]


BLOCKS = {page: blocks_of(page) for page in PAGES}
OFFLINE = [
    page
    for page in PAGES
    if any(block.kind == "console" and not block.note for block in BLOCKS[page])
]
CRAFT_AI = [block for block in BLOCKS["docs/craft-ai.md"] if block.note.startswith("Craft AI")]
S3 = [
    block
    for page in ("docs/s3.md", "docs/migrate.md")
    for block in BLOCKS[page]
    if block.kind == "console" and "S3" in block.note
]


def steps_of(block: Block) -> list[Step]:
    parts = re.split(r"^\$ ", block.body, flags=re.M)
    return [Step(*part.partition("\n")[::2]) for part in parts[1:]]


def environment(home: Path) -> dict[str, str]:
    """Return variables that lead to the installed program and to nobody's own settings."""
    return {
        "HOME": str(home),
        "PATH": f"{SCRIPT.parent}:{os.defpath}",
        "CRAFTSYNC_STATE_DIR": str(home / "state"),
    }


def run_block(block: Block, folder: Path, variables: dict[str, str]) -> None:
    """Run the block's commands in one shell; check each one's success and output."""
    steps = steps_of(block)
    script = "".join(f"printf {shlex.quote(SEPARATOR)}\n{step.command}\n" for step in steps)
    forking, inherited = calls.for_shell(SCRIPT) if calls.may_fork(variables) else ("", ())
    run = subprocess.run(
        ["bash", "-e", "-c", forking + script],
        cwd=folder,
        env=variables,
        pass_fds=inherited,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    outputs = run.stdout.split(SEPARATOR)[1:]
    assert run.returncode == 0, f"$ {steps[len(outputs) - 1].command}\n{outputs[-1]}"
    for step, output in zip(steps, outputs, strict=True):
        assert shows(step.output, output), f"$ {step.command}\n{output}"


def run_python(block: Block, folder: Path, variables: dict[str, str]) -> str:
    """Run the block as a program of its own; return what it printed."""
    run = subprocess.run(
        [sys.executable, "-c", block.body],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def shows(expected: str, output: str) -> bool:
    """Say whether the output is the expected one, `…` standing for anything; nothing expects nothing."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    return not pattern or re.fullmatch(pattern, output.strip(), re.S) is not None


def test_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_bytes()) <= README_LIMIT


@pytest.mark.parametrize("page", OFFLINE)
def test_shown_commands_work(page: str, tmp_path: Path) -> None:
    for block in BLOCKS[page]:
        if block.kind == "console" and not block.note:
            run_block(block, tmp_path, environment(tmp_path))


def test_shown_s3_commands_work(tmp_path: Path, moto: S3Server) -> None:
    moto.make_bucket("my-bucket")
    assert S3
    for block in S3:
        run_block(block, tmp_path, environment(tmp_path) | moto.variables)


def test_shown_python_works(tmp_path: Path) -> None:
    (tmp_path / "project" / "datasets").mkdir(parents=True)
    (tmp_path / "project" / "datasets" / "clients.csv").write_text("id;name\n1;Zoé\n")
    (tmp_path / "backup").mkdir()
    (tmp_path / "second").mkdir()
    dev = "environments: {dev: {store: directory, path: ./backup}}"
    (tmp_path / "config.yaml").write_text(dev)
    variables = environment(tmp_path) | {"CRAFTSYNC_CONFIG": str(tmp_path / "config.yaml")}
    blocks = [block.body for block in BLOCKS["docs/python.md"] if block.kind == "python"]
    printed = run_python(Block("", "python", "\n".join(blocks)), tmp_path, variables)
    assert printed.startswith("1 files uploaded, exit code 0\n")
    assert printed.endswith("clients.csv removed\n1\n")
    assert (tmp_path / "clients.csv").read_text() == "id;name\n1;Zoé\n"
    assert (tmp_path / "copy/datasets/clients.csv").exists()


def craft_ai_block(note: str) -> str:
    """Return the content of the only block whose note is "Craft AI: " and this."""
    [body] = [block.body for block in CRAFT_AI if block.note == f"Craft AI: {note}"]
    return body


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start the server as the README does, but on a free port; give the variables it prints."""
    words = shlex.split(craft_ai_block("started by tests/test_readme.py"))[1:]
    (tmp_path / "datastore").mkdir()
    words += ["--port", "0"]
    with started(words, tmp_path, environment(tmp_path), stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            printed = [server.stdout.readline().decode() for _ in range(3)]
            expected = craft_ai_block("what serve prints").replace("8790", "…")
            assert shows(expected, "".join(printed)), printed
            settings = [shlex.split(line)[1].partition("=") for line in printed]
            yield {name: value for name, _, value in settings}
        finally:
            server.terminate()


def watch_until_stopped(folder: Path, variables: dict[str, str]) -> None:
    """Start what keeps folder and store in sync, see a new file arrive, and press Ctrl-C."""
    words = shlex.split(craft_ai_block("started and stopped by tests/test_readme.py"))[1:]
    watching = started(words, folder, variables)
    try:
        (folder / "project" / "new.csv").write_text("new")
        until((folder / "datastore" / "new.csv").exists, "the new file to arrive")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()


def test_craft_ai_page_works_beside_the_real_sdk(tmp_path: Path, served: dict[str, str]) -> None:
    address, example = served["CRAFT_AI_ENVIRONMENT_URL"], "https://my-env.mlops-platform.craft.ai"
    variables = environment(tmp_path) | {"CRAFTSYNC_CONFIG": str(tmp_path / "config.yaml")}
    dotenv = craft_ai_block("the file .env").replace(example, address)
    dotenv = dotenv.replace("<your token>", served["CRAFT_AI_SDK_TOKEN"])
    (tmp_path / ".env").write_text(f"{dotenv}CRAFT_AI_CONTROL_URL={address}\n")
    config = craft_ai_block("the configuration")
    (tmp_path / "config.yaml").write_text(
        config.replace(f"url: {example}", f"url: {address}, control_url: {address}")
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "iris.joblib").write_text("weights")
    for block in CRAFT_AI:
        if block.kind == "console":
            run_block(block, tmp_path, variables)
    watch_until_stopped(tmp_path, variables)
    bring, unchanged = [block for block in CRAFT_AI if block.kind == "python"]
    run_python(bring, tmp_path, variables)
    assert (tmp_path / "data" / "clients.csv").read_text() == "id;name\n"
    assert (tmp_path / "datastore" / "models" / "iris.joblib").read_text() == "weights"
    assert "'datasets/copy.csv'" in run_python(unchanged, tmp_path, variables | served)


def test_readme_picture_is_what_make_run_prints(tmp_path: Path) -> None:
    [picture] = [block.body for block in BLOCKS["README.md"] if block.note.startswith("picture")]
    run = subprocess.run(
        [sys.executable, PROJECT / "docs" / "demo.py", tmp_path / "demo"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert _without_times(run.stdout) == _without_times(picture)


def _without_times(text: str) -> str:
    return re.sub(r"after \d+\.\d s", "after … s", text)


SHOWN = [
    line.partition("#")[0].strip()
    for blocks in BLOCKS.values()
    for block in blocks
    if block.kind == "sh"
    for line in block.body.splitlines()
]


@pytest.mark.parametrize("line", [line for line in SHOWN if line.startswith("make ")])
def test_shown_make_targets_exist(line: str) -> None:
    subprocess.run([*shlex.split(line), "--dry-run"], cwd=PROJECT, check=True, capture_output=True)


@pytest.mark.parametrize("line", [line for line in SHOWN if line.startswith("craftsync ")])
def test_commands_and_options_exist(line: str, tmp_path: Path) -> None:
    _, command, *words = shlex.split(line)
    # Of a group, the command in it.
    inner = [word for word in words[:1] if not word.startswith("-")]
    run = Craftsync(tmp_path)(command, *inner, "--help")
    assert run.code == 0, run.err
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", run.text), run.text


EXTRAS = {
    extra
    for page in PAGES
    for extra in re.findall(r"craftsync\[([\w-]+)\]", (PROJECT / page).read_text("utf-8"))
}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_shown_extras_exist(extra: str) -> None:
    assert extra in metadata("craftsync").get_all("Provides-Extra", [])


LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(
        r"\]\((?!https?:)([^)#]+)\)",
        re.sub(r"```.*?```", "", (PROJECT / page).read_text(), flags=re.S),
    )
]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_to_files(page: str, target: str) -> None:
    assert ((PROJECT / page).parent / target).exists()


def test_an_ellipsis_matches_anything_and_all_else_must_be_equal() -> None:
    assert shows("= a\n…\n", "= a\n= b\n")
    assert shows("", "anything")
    assert not shows("= a\n", "= a\n= b\n")
    assert not shows("* a\n…", "= a\n")
