"""`ls`, `tree`, `du` and `find`: one level and all, patterns, sizes, and what is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.cli import Craftsync
from tests.support.servers import S3Server
from tests.support.serving import Serving

FILES = {"top": 3, "models/a.csv": 5, "models/b.bin": 2048, "models/2026/c.csv": 1_500_000}


@pytest.fixture(scope="module")
def words(
    tmp_path_factory: pytest.TempPathFactory, moto: S3Server, served: Serving
) -> tuple[dict[str, str], dict[str, str]]:
    """Fill a store of each kind with the same; give their words, and the variables they need."""
    folder = tmp_path_factory.mktemp("listing")
    call = Craftsync(folder)
    for name, size in FILES.items():
        call.write(f"store/{name}", "x" * size)
    moto.make_bucket("listing")
    call.environment |= {**access(moto), **served.variables}
    found = {
        "directory": f"{folder / 'store'}",
        "craft-ai": "craft-ai://listing",
        "s3": "s3://listing/deep/er",
    }
    for kind in ("craft-ai", "s3"):
        assert call("put", "-r", "store", found[kind], "--store", found[kind]).code == 0
    return found, {**access(moto), **served.variables}


def access(server: S3Server) -> dict[str, str]:
    return server.variables


@pytest.fixture(params=["directory", "craft-ai", "s3"])
def store(
    request: pytest.FixtureRequest,
    craftsync: Craftsync,
    words: tuple[dict[str, str], dict[str, str]],
) -> str:
    craftsync.environment |= words[1]
    return f"{words[0][request.param]}/"


def test_ls_shows_one_level_a_file_or_a_pattern(craftsync: Craftsync, store: str) -> None:
    def listed(*words: str) -> list[tuple[str, int | None]]:
        return sorted(
            (line["path"], line["size"]) for line in craftsync("ls", "--json", *words).json
        )

    assert listed(store) == [("models/", None), ("top", 3)]
    models = [("2026/", None), ("a.csv", 5), ("b.bin", 2048)]
    assert listed(f"{store}models") == models
    assert listed(f"{store}top") == [("top", 3)]
    assert listed(f"{store}*/[ac].csv") == [("models/a.csv", 5)]
    everything = sorted(FILES.items())
    assert listed("-R", store) == everything
    assert listed(f"{store}**/*.csv") == [("models/2026/c.csv", 1_500_000), ("models/a.csv", 5)]
    if store.startswith("/"):
        assert listed(f"{store}models/") == models
        assert listed("-R", f"{store}mod*") == [each for each in everything if each[0] != "top"]


def test_ls_of_nothing_exits_3_and_names_what_is_near(
    craftsync: Craftsync, words: tuple[dict[str, str], dict[str, str]]
) -> None:
    store = f"{words[0]['directory']}/"
    for word, near in (
        ("modles", "models/"),
        ("models/a.cvs", "models/a.csv"),
        ("modles/deep/x", "models/"),
        ("models/*.parquet", ""),
    ):
        run = craftsync("ls", store + word)
        assert run.code == 3
        assert f"{store}{word}: " in run.err
        assert f"{store}{near}?" in run.err or not near, run.err


def test_ls_of_text_has_sizes_folders_and_headings(
    craftsync: Craftsync, words: tuple[dict[str, str], dict[str, str]]
) -> None:
    store = f"{words[0]['directory']}/"
    lines = craftsync("ls", "--human", f"{store}models").lines
    assert sorted(line.split()[-1] for line in lines) == ["2026/", "a.csv", "b.bin"]
    assert any(line.startswith("       2.0 KiB 20") for line in lines)
    two = craftsync("ls", f"{store}top", f"{store}models/2026").lines
    assert two[0] == f"{store}top:"
    assert two[2:4] == ["", f"{store}models/2026:"]
    assert len(craftsync("ls", "-l", f"{store}top").lines[0].split()) == 4


def test_ls_prefers_the_exact_name_to_the_pattern(craftsync: Craftsync) -> None:
    for name in ("lit[1]", "lit1", "lit2"):
        craftsync.write(f"store/{name}")
    for words in (("ls",), ("ls", "-R")):
        listed = craftsync(*words, "--json", "./store/lit[1]").json
        assert [line["path"] for line in listed] == ["lit[1]"]
    assert len(craftsync("ls", "./store/lit[12]").lines) == 2


def test_tree_and_du_add_up(craftsync: Craftsync, store: str) -> None:
    tree = craftsync("tree", store).lines
    assert tree == [
        store,
        "├── models/",
        "│   ├── 2026/",
        "│   │   └── c.csv  1500000",
        "│   ├── a.csv  5",
        "│   └── b.bin  2048",
        "└── top  3",
        "2 folders, 4 objects, 1.4 MiB",
    ]
    shallow = craftsync("tree", "-d", "1", "--human", store).lines
    assert shallow[1] == "├── models/  3 objects, 1.4 MiB"
    summed = craftsync("du", "-d", "2", "--json", store).json
    assert [(line["path"], line["size"], line["objects"]) for line in summed] == [
        ("models/", 1_502_053, 3),
        ("models/2026/", 1_500_000, 1),
        (store, 1_502_056, 4),
    ]
    if not store.startswith("/"):
        return
    (alone,) = craftsync("du", "-d", "0", "--human", f"{store}models").lines
    assert alone.split() == ["1.4", "MiB", "3", f"{store}models"]


def test_find_prints_words_that_other_commands_take(craftsync: Craftsync, store: str) -> None:
    found = craftsync("find", store, "--name", "*.csv", "--min-size", "1K").lines
    assert found == [f"{store}models/2026/c.csv"]
    assert craftsync("stat", *found, "--json").json[0]["size"] == 1_500_000
    (line,) = craftsync("find", f"{store}models", "--max-size", "5", "--json").json
    assert (line["path"], line["object"]) == ("a.csv", f"{store}models/a.csv")
    assert len(craftsync("find", store, "--max-age", "1h").lines) == len(FILES)
    if not store.startswith("/"):
        return
    assert craftsync("find", store, "--name", "*.parquet").code == 0
    assert craftsync("find", f"{store}nowhere").code == 3
    assert craftsync("find", store, "--max-age", "soon").code == 2


def test_old_files_are_left_out_by_max_age(craftsync: Craftsync) -> None:
    craftsync.write("store/new")
    old = craftsync.write("store/old")
    os.utime(old, (0, 0))
    assert craftsync("find", "./store", "--max-age", "1d").lines == ["./store/new"]


def test_empty_stores_are_listed_without_complaint(craftsync: Craftsync) -> None:
    (craftsync.folder / "store/empty").mkdir(parents=True)
    craftsync.config.write_text("environments: {dev: {store: directory, path: store}}")
    for words in (("ls",), ("ls", "-R"), ("tree",), ("du",), ("find",)):
        run = craftsync(*words, "./store" if words == ("ls",) else "dev:")
        assert run.code == 0, run.err


def test_big_tree_is_listed_level_by_level(craftsync: Craftsync) -> None:
    for number in range(40):
        folder = craftsync.folder / f"store/{number:02}"
        folder.mkdir(parents=True)
        for name in range(50):
            Path(folder, f"{name:02}").touch()
    assert len(craftsync("ls", "./store").lines) == 40
    assert craftsync("tree", "./store").lines[-1] == "40 folders, 2,000 objects, 0 bytes"
    assert len(craftsync("ls", "./store/*/07").lines) == 40
    assert len(craftsync("find", "./store", "--name", "0*").lines) == 400


def test_words_inside_a_configured_store_are_relative_to_it(craftsync: Craftsync) -> None:
    craftsync.config.write_text("environments: {dev: {store: directory, path: store}}")
    craftsync.write("store/models/a", "a")
    assert craftsync("stat", "./store/models/a").text == craftsync("stat", "dev:models/a").text
    assert craftsync("find", "dev:").lines == ["dev:models/a"]
    assert craftsync("stat", "dev:models/a").lines[0].split()[-1] == "models/a"
    assert craftsync("ls", "dev:../x").code == 2
