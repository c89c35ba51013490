"""Which folder a watch stands for, whatever happens to the folders."""

from __future__ import annotations

import pytest

from craftsync.local.watching.folders import Node, WatchedFolders


@pytest.fixture
def folders() -> WatchedFolders:
    """The root is 1; a, a/b and a/b/c are 2, 3 and 4; d is 5."""
    made = WatchedFolders()
    for watch, path in enumerate(["", "a", "a/b", "a/b/c", "d"], start=1):
        made.place(watch, path)
    return made


def node(folders: WatchedFolders, watch: int) -> Node:
    found = folders.get(watch)
    assert found is not None
    return found


def path(folders: WatchedFolders, watch: int) -> str | None:
    return folders.path_of(node(folders, watch))


def test_every_folder_has_its_path(folders: WatchedFolders) -> None:
    assert [path(folders, watch) for watch in range(1, 6)] == ["", "a", "a/b", "a/b/c", "d"]


def test_a_moved_folder_takes_all_below_it_along(folders: WatchedFolders) -> None:
    moved = folders.detach(node(folders, 1), "a")
    assert moved is not None
    assert path(folders, 4) is None
    folders.attach(moved, node(folders, 5), "new")
    assert [path(folders, watch) for watch in (2, 3, 4)] == ["d/new", "d/new/b", "d/new/b/c"]
    assert folders.lost() == []


def test_a_folder_that_left_has_no_path_and_neither_has_what_is_below(
    folders: WatchedFolders,
) -> None:
    folders.detach(node(folders, 2), "b")
    assert sorted(folders.lost()) == [3, 4]
    for watch in folders.lost():
        folders.forget(watch)
    assert len(folders) == 3
    assert folders.detach(node(folders, 2), "b") is None


def test_a_folder_found_elsewhere_is_put_there(folders: WatchedFolders) -> None:
    folders.place(3, "d/moved without a word")
    assert path(folders, 4) == "d/moved without a word/c"


def test_a_folder_that_takes_a_place_drives_out_what_stood_there(folders: WatchedFolders) -> None:
    folders.place(6, "a/b")
    assert path(folders, 6) == "a/b"
    assert sorted(folders.lost()) == [3, 4]


def test_a_folder_never_becomes_its_own_parent(folders: WatchedFolders) -> None:
    folders.attach(node(folders, 2), node(folders, 4), "circle")
    assert path(folders, 4) == "a/b/c"


def test_a_folder_without_a_watched_parent_is_left_out(folders: WatchedFolders) -> None:
    folders.place(9, "unknown/inner")
    assert folders.get(9) is None


def test_forgetting_an_unknown_watch_is_no_error(folders: WatchedFolders) -> None:
    folders.forget(77)
    folders.forget(3)
    folders.forget(3)
    assert path(folders, 2) == "a"
    assert folders.lost() == [4]


def test_without_a_root_no_folder_has_a_path(folders: WatchedFolders) -> None:
    folders.forget(1)
    assert sorted(folders.lost()) == [2, 3, 4, 5]
