"""A migration by somebody who may not do everything: what is denied is named, and all else goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.cli import Craftsync, Run

NOBODY = 65534
MANY = 20
"""More than the failures in a row after which a store counts as broken."""

Somebody = Callable[..., Run]


@pytest.fixture
def craftsync() -> Iterator[Craftsync]:
    """Call the program in a folder that others may enter, which those of pytest are not."""
    with TemporaryDirectory(prefix="craftsync-test-") as folder:
        Path(folder).chmod(0o777)
        yield Craftsync(Path(folder))


@pytest.fixture
def somebody(craftsync: Craftsync) -> Somebody:
    """Run the program as a user without special rights, whoever runs the tests."""
    as_nobody = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups".split()
    prefix = as_nobody if os.geteuid() == 0 else []

    def run(*words: str) -> Run:
        return craftsync.anew(*words, through=prefix)

    with suppress(OSError):
        if run("--version").code == 0:
            return run
    pytest.skip("nobody else may run the program here")


def filled(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(MANY):
        (folder / f"{number:02}").write_text("1")


def test_files_that_cannot_be_read_are_named_and_all_others_arrive(
    craftsync: Craftsync, somebody: Somebody
) -> None:
    filled(craftsync.folder / "old")
    for file in (craftsync.folder / "old").iterdir():
        file.chmod(0)
    craftsync.write("old/readable")
    run = somebody("migrate", "./old", "./new")
    assert (run.code, set(craftsync.files("new"))) == (1, {"readable"})
    assert run.lines[0].startswith(f"migrate: 1 copied (7 bytes), {MANY} failed")
    (line,) = (line for line in run.err.splitlines() if line.startswith("problem: 07: "))
    assert line.endswith(
        "07 cannot be opened: Permission denied."
        " Check the owner and the permissions of the file and of the folders it is in."
    )


def test_unwritable_target_folder_does_not_block_the_rest(
    craftsync: Craftsync, somebody: Somebody
) -> None:
    filled(craftsync.folder / "old" / "closed")
    craftsync.write("old/open")
    (craftsync.folder / "new").mkdir()
    (craftsync.folder / "new").chmod(0o777)
    (craftsync.folder / "new" / "closed").mkdir(mode=0o555)
    run = somebody("migrate", "./old", "./new")
    assert (run.code, set(craftsync.files("new"))) == (1, {"open"})
    assert run.err.count("Permission denied") == MANY


def test_target_that_cannot_be_created_is_an_error_with_a_remedy(
    craftsync: Craftsync, somebody: Somebody
) -> None:
    craftsync.write("old/a")
    (craftsync.folder / "closed").mkdir()
    (craftsync.folder / "closed").chmod(0o700 if os.geteuid() == 0 else 0)
    run = somebody("migrate", "./old", "./closed/new")
    (craftsync.folder / "closed").chmod(0o700)
    assert (run.code, "closed/new: Permission denied." in run.err) == (3, True)
    assert "Check the owner and the permissions" in run.err
