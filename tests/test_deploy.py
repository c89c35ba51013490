"""The files of `deploy/`: the steps of the Dockerfile are run, as process 1 and as a user without a name."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from craftsync.config import file as configuration
from tests.support.cli import DEADLINE, SCRIPT, until
from tests.support.servers import free_port

PROJECT = Path(__file__).parent.parent
DEPLOY = PROJECT / "deploy"
NOBODY = 54321
"""A user id that no system has a name for."""
NAMELESS = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
PROCESS_1 = ("--pid", "--fork", "--kill-child", "--mount-proc")
SUITE = "trixie"
"""The Debian whose Python is that of the image."""


class Step(NamedTuple):
    """One instruction of a Dockerfile and what follows it."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The words of a command in exec form, which no shell reads."""
        found = json.loads(self.rest)
        assert isinstance(found, list)
        return found


class Stage(NamedTuple):
    """The instructions after one FROM."""

    image: str
    name: str
    steps: tuple[Step, ...]

    def of(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]

    @property
    def environment(self) -> dict[str, str]:
        return dict(step.rest.split("=", 1) for step in self.of("ENV"))

    @property
    def health_check(self) -> list[str]:
        [step] = self.of("HEALTHCHECK")
        return Step("CMD", step.rest.partition(" CMD ")[2]).words

    @property
    def command(self) -> list[str]:
        [entry], [command] = self.of("ENTRYPOINT"), self.of("CMD")
        return [*entry.words, *command.words]


def stages_of(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[Stage] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            stages.append(Stage(image, name, ()))
        else:
            stages[-1] = stages[-1]._replace(steps=(*stages[-1].steps, Step(word, rest.strip())))
    return stages


BUILD, FINAL = stages_of((DEPLOY / "Dockerfile").read_text("utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["craftsync"]
SECRET, CONFIG_MAP, STATEFUL_SET = yaml.safe_load_all(
    (DEPLOY / "kubernetes.yaml").read_text("utf-8")
)
POD = STATEFUL_SET["spec"]["template"]["spec"]
[SIDECAR] = POD["initContainers"]


def test_image_has_a_public_base_and_runs_without_root() -> None:
    assert [BUILD.image, FINAL.image] == ["python:3.13-slim"] * 2
    [user] = FINAL.of("USER")
    assert all(int(number) > 0 for number in user.rest.split(":"))
    [copied] = FINAL.of("COPY")
    assert copied.rest.startswith(f"--from={BUILD.name} ")
    assert FINAL.command == ["craftsync", "watch", "--stats", "10m"]
    assert FINAL.health_check[:3] == ["craftsync", "status", "--check"]


def test_configurations_in_deploy_are_valid_and_hold_no_secret() -> None:
    for text in ((DEPLOY / "config.yaml").read_text("utf-8"), CONFIG_MAP["data"]["config.yaml"]):
        config = configuration.parse(text, Path("config.yaml"))
        assert config.folders["data"].root == Path("/data")
        assert config.metrics_addr == ("0.0.0.0", 9469)
    token = "/run/secrets/craft-ai/token"
    mounts = {each["name"]: each["mountPath"] for each in SIDECAR["volumeMounts"]}
    assert f"token_file: {token}" in CONFIG_MAP["data"]["config.yaml"]
    assert f"{mounts['token']}/{next(iter(SECRET['stringData']))}" == token
    assert "token_file: /run/secrets/craft-ai-token" in (DEPLOY / "config.yaml").read_text("utf-8")
    assert COMPOSE["secrets"] == ["craft-ai-token"]


def test_compose_and_pod_mount_what_the_image_needs() -> None:
    needed = {"/data", FINAL.environment["CRAFTSYNC_STATE_DIR"], "/tmp"}
    mounted = {each["mountPath"] for each in SIDECAR["volumeMounts"]}
    config = Path(FINAL.environment["CRAFTSYNC_CONFIG"])
    assert needed | {str(config.parent)} <= mounted
    places = {volume.split(":")[1] for volume in COMPOSE["volumes"]} | set(COMPOSE["tmpfs"])
    assert needed | {str(config)} <= places
    claims = {each["metadata"]["name"] for each in STATEFUL_SET["spec"]["volumeClaimTemplates"]}
    volumes = {each["name"] for each in POD["volumes"]} | claims
    assert {each["name"] for each in SIDECAR["volumeMounts"]} <= volumes
    assert {"data", "state"} <= claims


def test_pod_is_probed_by_health_and_drained_before_it_stops() -> None:
    paths = {
        name: SIDECAR[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/readyz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert SIDECAR["ports"] == [{"name": "metrics", "containerPort": 9469}]
    drain = SIDECAR["lifecycle"]["preStop"]["exec"]["command"]
    assert drain == ["craftsync", "wait", "--timeout", "90s"]
    assert POD["terminationGracePeriodSeconds"] > 90
    assert POD["securityContext"]["runAsNonRoot"] is True


class Container:
    """A running image, as far as there is one: its folder, and how a command is run in it."""

    def __init__(self, place: Path, through: tuple[str, ...], variables: Mapping[str, str]) -> None:
        self.place = place
        self._through = through
        self._variables = variables

    def run(self, command: list[str]) -> tuple[int, str]:
        """Return the exit code of a command in it, and what it printed."""
        done = subprocess.run(
            [*self._through, *command],
            env=dict(self._variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return done.returncode, done.stdout


def get(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except OSError as error:
        return int(getattr(error, "code", 0))


def example(port: int, store: str) -> str:
    """Return the configuration in `deploy/` with a store that is there, and a port that is free."""
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "config.yaml").read_text("utf-8"))
    content["environments"]["dev"] = {"store": "directory", "path": store}
    content["folders"]["data"]["environment"] = "dev"
    content["metrics_addr"] = f"127.0.0.1:{port}"
    return yaml.safe_dump(content)


def lives_a_day(container: Container, started: subprocess.Popen[bytes], port: int) -> None:
    """Let files travel, ask for its health, drain it and stop it, as its owner would."""
    data = container.place / "data"
    until(lambda: get(port, "/readyz") == 200, "it to be ready")
    assert get(port, "/healthz") == 200
    assert container.run(FINAL.health_check)[0] == 0
    (data / "late.csv").write_text("late")
    code, printed = container.run(SIDECAR["lifecycle"]["preStop"]["exec"]["command"])
    assert (code, (container.place / "store/late.csv").exists()) == (0, True), printed
    assert container.run(["craftsync", "pause"])[0] == 0
    health_check = [(word != "15m" and word) or "0.000001s" for word in FINAL.health_check]
    assert container.run(health_check)[0] == 5
    [first] = children_of(started.pid)
    os.kill(first, signal.SIGTERM)
    assert started.wait(DEADLINE) == 0
    assert container.run(FINAL.health_check)[0] == 5


@contextmanager
def ended(started: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def can(*words: str) -> bool:
    there = shutil.which(words[0]) is not None
    return there and subprocess.run([*words, "true"], check=False).returncode == 0


@pytest.mark.parametrize("home", [None, "/"], ids=["without HOME", "at home in /"])
def test_image_runs_as_process_1_of_a_user_without_a_name(tmp_path: Path, home: str | None) -> None:
    if not can(*NAMELESS, *PROCESS_1):
        pytest.skip("no namespace can be made here")
    port = free_port()
    for name in ("data", "state", "store"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/early.csv").write_text("early")
    (tmp_path / "config.yaml").write_text(
        example(port, str(tmp_path / "store")).replace("/data", str(tmp_path / "data"))
    )
    variables = {
        **FINAL.environment,
        "PATH": f"{SCRIPT.parent}:{os.defpath}",
        "CRAFTSYNC_CONFIG": str(tmp_path / "config.yaml"),
        "CRAFTSYNC_STATE_DIR": str(tmp_path / "state"),
        **({} if home is None else {"HOME": home}),
    }
    container = Container(tmp_path, NAMELESS, variables)
    assert container.run(["python", "-c", "import os; print(os.getuid())"])[1].strip() == str(
        NOBODY
    )
    started = subprocess.Popen(
        [*NAMELESS, *PROCESS_1, *FINAL.command],
        env=variables,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with ended(started):
        lives_a_day(container, started, port)


def children_of(pid: int) -> list[int]:
    file = Path(f"/proc/{pid}/task/{pid}/children")
    until(lambda: file.read_text().split(), "process 1")
    return [int(word) for word in file.read_text().split()]


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian tree with the Python of the image, in which nothing else is.

    CRAFTSYNC_TEST_DEBIAN names one that is there already.
    """
    if os.getuid() or not can("unshare", "--mount", "--pid", "--fork"):
        pytest.skip("only root can fill a tree and enter it")
    if ready := os.environ.get("CRAFTSYNC_TEST_DEBIAN"):
        return Path(ready)
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed (apt install debootstrap)")
    tree = tmp_path_factory.mktemp("debian") / "tree"
    packages = "python3,python3-venv,ca-certificates"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, tree],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"Debian cannot be fetched: {done.stdout[-200:]}")
    (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for file in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(file, tree / file[1:])
    return tree


def entered(tree: Path, user: str, *words: str) -> tuple[str, ...]:
    """Return the command that becomes process 1 in a tree, as an engine makes it one."""
    script = f'mount -t proc proc {tree}/proc && exec chroot --userspec={user} {tree} "$@"'
    return ("unshare", "--mount", *PROCESS_1[:3], "sh", "-c", script, "sh", *words)


def build(stage: Stage, tree: Path, before: Path | None) -> None:
    """Carry out the steps of a stage in a tree; `before` is what COPY --from copies from."""
    variables = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PIP_DEFAULT_TIMEOUT": "180",
    }
    folder = "/"
    for step in stage.steps:
        if step.word == "WORKDIR":
            folder = step.rest
        elif step.word == "ENV":
            variables |= dict([step.rest.split("=", 1)])
        elif step.word == "COPY":
            *_, source, target = shlex.split(step.rest)
            copy(before, source, tree / target[1:])
        elif step.word == "RUN":
            command = ("sh", "-c", f"cd {folder} && {step.rest}")
            subprocess.run(entered(tree, "0:0", *command), env=variables, check=True)


def copy(before: Path | None, source: str, target: Path) -> None:
    """Copy what COPY copies: from an earlier stage, or from the repository what is not left out."""
    if before is not None:
        shutil.copytree(before / source[1:], target, symlinks=True)
        return
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for line in ignored:
        if line.startswith("!"):
            file = PROJECT / line[1:]
            target.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                no_cache = shutil.ignore_patterns("__pycache__")
                shutil.copytree(file, target / line[1:], ignore=no_cache)
            else:
                shutil.copy(file, target / line[1:])


@pytest.mark.exhaustive
def test_steps_of_the_dockerfile_make_an_image_that_runs(debian: Path, tmp_path: Path) -> None:
    trees = {}
    before = None
    for stage in (BUILD, FINAL):
        trees[stage] = tmp_path / (stage.name or "final")
        subprocess.run(["cp", "-a", debian, trees[stage]], check=True)
        build(stage, trees[stage], before)
        before = trees[stage]
    tree, port = trees[FINAL], free_port()
    (tree / "store").mkdir()
    (tree / "store").chmod(0o1777)
    (tree / "data/early.csv").write_text("early")
    (tree / "etc/craftsync/config.yaml").write_text(example(port, "/store"))
    for user in (FINAL.of("USER")[0].rest, f"{NOBODY}:0"):
        os.chown(tree / "data", int(user.partition(":")[0]), 0)
        shutil.rmtree(tree / "state")
        (tree / "state").mkdir()
        (tree / "state").chmod(0o1777)
        inside = ("env", "-i", *(f"{name}={value}" for name, value in FINAL.environment.items()))
        container = Container(tree, (*entered(tree, user), *inside), os.environ)
        words = [*entered(tree, user), *inside, *FINAL.command]
        with ended(subprocess.Popen(words, stdin=subprocess.DEVNULL)) as started:
            lives_a_day(container, started, port)
