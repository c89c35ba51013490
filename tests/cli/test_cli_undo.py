"""`trash restore --run`: one run is undone, on each kind of store."""

from __future__ import annotations

from secrets import token_hex

import pytest

from tests.support.cli import Craftsync, Run
from tests.support.servers import S3Server
from tests.support.serving import Serving


@pytest.fixture(params=["directory", "s3", "craft-ai"])
def store(craftsync: Craftsync, request: pytest.FixtureRequest) -> str:
    name = f"undo-{token_hex(6)}"
    if request.param == "directory":
        return "./store"
    if request.param == "s3":
        moto: S3Server = request.getfixturevalue("moto")
        moto.make_bucket(name)
        craftsync.environment |= moto.variables
        return f"s3://{name}/p"
    served: Serving = request.getfixturevalue("served")
    craftsync.environment |= served.variables
    return f"craft-ai://{name}"


def change_both_sides(craftsync: Craftsync, store: str, trash: str) -> None:
    """Let run 2 replace on both sides: "edited" and "changed" in the store, "theirs" in the folder."""
    craftsync.config.write_text(f"trash: {{store: {trash}}}\n")
    for path in ("edited", "changed", "gone", "theirs"):
        craftsync.write(f"root/{path}", f"old {path}")
    assert craftsync("sync", "root", store).code == 0
    for path in ("edited", "changed"):
        craftsync.write(f"root/{path}", f"newer {path}")
    (craftsync.folder / "root/gone").unlink()
    craftsync.write("elsewhere/theirs", "newer theirs")
    assert craftsync("put", "elsewhere/theirs", store, "theirs").code == 0
    assert craftsync("sync", "root", store, "--force-delete").code == 0
    assert craftsync.files("root")["theirs"] == "newer theirs"


def undo(craftsync: Craftsync, store: str, run: int, *words: str) -> Run:
    return craftsync(
        *("trash", "restore", "--json", "--run", str(run), "--root", "root", "--store", store),
        *words,
    )


def ended(run: Run) -> dict[str, str]:
    """Return how each path ended: `done`, `planned`, or why it was skipped."""
    lines = [line for line in run.json if line["type"] != "summary"]
    return {line["path"]: line.get("status") or line["reason"] for line in lines}


def in_store(craftsync: Craftsync, store: str) -> dict[str, str]:
    assert craftsync("pull", "copy", store).code == 0
    return craftsync.files("copy")


CHANGED = "it was changed or deleted in the folder since that run"


def test_undo_replaces_what_is_as_the_run_left_it_and_keeps_it(
    craftsync: Craftsync, store: str
) -> None:
    change_both_sides(craftsync, store, "all")
    craftsync.write("root/changed", "newest changed")
    before = craftsync.files("root")
    shown = undo(craftsync, store, 2, "-n")
    undoable = ("edited", "gone", "theirs")
    assert (shown.code, ended(shown)) == (
        6,
        {**dict.fromkeys(undoable, "planned"), "changed": CHANGED},
    )
    assert craftsync.files("root") == before
    run = undo(craftsync, store, 2)
    assert (run.code, ended(run)) == (6, {**dict.fromkeys(undoable, "done"), "changed": CHANGED})
    after = {**{path: f"old {path}" for path in undoable}, "changed": "newest changed"}
    assert craftsync.files("root") == after
    assert craftsync("sync", "root", store).code == 0
    assert in_store(craftsync, store) == after
    # What the undo replaced is kept, and comes back in the same way.
    words = ("edited", "theirs")
    assert ended(undo(craftsync, store, 3, *words)) == dict.fromkeys(words, "done")
    newer = {path: f"newer {path}" for path in words}
    assert craftsync.files("root") == {**after, **newer}


@pytest.mark.parametrize("trash", ["foreign", "off"])
def test_undo_lists_what_the_store_did_not_keep(
    craftsync: Craftsync, store: str, trash: str
) -> None:
    change_both_sides(craftsync, store, trash)
    run = undo(craftsync, store, 2)
    not_kept = "no version of it was kept (trash: store in the configuration)"
    gone = "done" if trash == "foreign" else not_kept
    assert (run.code, ended(run)) == (
        6,
        {**dict.fromkeys(("changed", "edited"), not_kept), "gone": gone, "theirs": "done"},
    )
    assert craftsync.files("root")["edited"] == "newer edited"
    assert craftsync("sync", "root", store).code == 0
    # The store replaced its version without keeping it: the folder's trash has it.
    words = ("trash", "restore", "theirs", "--overwrite", "--root", "root", "--store", store)
    assert craftsync(*words).code == 0
    assert craftsync.files("root")["theirs"] == "newer theirs"


def test_undo_leaves_an_object_that_another_program_replaced_since(
    craftsync: Craftsync, store: str
) -> None:
    change_both_sides(craftsync, store, "all")
    craftsync.write("elsewhere/edited", "of another")
    assert craftsync("put", "elsewhere/edited", store, "edited").code == 0
    run = undo(craftsync, store, 2, "edited")
    reason = "it was changed or deleted in the store since that run"
    assert (run.code, ended(run)) == (6, {"edited": reason})
    assert craftsync.files("root")["edited"] == "newer edited"
