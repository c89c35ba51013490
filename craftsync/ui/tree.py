"""A tree of folders with counts and sizes, in which the user selects paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui

from craftsync.wording import counted, size_shown

# Quasar gives the checkbox of a node no accessible name.
_NAMED = """<q-icon v-if="props.node.icon" :name="props.node.icon" class="q-tree__icon q-mr-sm" aria-hidden="true" />
  <span :ref="(it) => it?.closest('.q-tree__node-header')?.querySelector('.q-checkbox')
  ?.setAttribute('aria-label', props.node.label)">{{ props.node.label }}</span>"""
MOST_PATHS = 5_000
"""The most paths that a tree shows; more make a browser slow."""


@dataclass(slots=True)
class Node:
    """A folder: its entries, and the number and size of all files below it."""

    path: str = ""
    folders: dict[str, Node] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    """Sizes in bytes, by path."""
    count: int = 0
    bytes: int = 0

    def add(self, path: str, size: int) -> None:
        node = self
        node.count, node.bytes = node.count + 1, node.bytes + size
        *folders, _ = path.split("/")
        for depth, name in enumerate(folders, 1):
            node = node.folders.setdefault(name, Node("/".join(path.split("/")[:depth])))
            node.count, node.bytes = node.count + 1, node.bytes + size
        node.files[path] = size

    def ticked(self, leaves: frozenset[str], split: Callable[[str], bool]) -> list[str]:
        """Return the fewest paths that select these files: a folder with all its files is one, unless it is `split`."""
        found: list[str] = []
        for node in self.folders.values():
            inside = node.ticked(leaves, split)
            is_whole = sum(map(node.covered, inside)) == node.count
            found += [node.path] if is_whole and not split(node.path) else inside
        return found + [path for path in self.files if path in leaves]

    def covered(self, path: str) -> int:
        """Return the number of files that a path below this folder selects."""
        if path in self.files:
            return 1
        node = self
        for name in path[len(self.path) :].strip("/").split("/"):
            if name not in node.folders:
                return 1
            node = node.folders[name]
        return node.count

    def shown(self) -> list[dict[str, Any]]:
        """Return the tree in the format of `ui.tree`."""
        folders = [
            {
                "id": f"{node.path}/",
                "label": f"{name} ({counted(node.count, 'file')}, {size_shown(node.bytes)})",
                "icon": "folder",
                "children": node.shown(),
            }
            for name, node in self.folders.items()
        ]
        files = [
            {"id": path, "label": f"{path.rpartition('/')[2]} ({size_shown(size)})"}
            for path, size in self.files.items()
        ]
        return folders + files


class Ticks:
    """A tree with a checkbox at each path.

    A selected folder stands for all its files, unless one of `others`, paths
    outside this tree, is below it, or `exact` is set.
    """

    def __init__(
        self,
        paths: Mapping[str, int] | Iterable[tuple[str, int]],
        name: str,
        *,
        others: Iterable[str] = (),
        exact: bool = False,
    ) -> None:
        self._exact = exact
        self._split = {above for path in others for above in _above(path)}
        self._root = Node()
        for path, size in paths.items() if isinstance(paths, Mapping) else paths:
            self._root.add(path, size)
        self._tree = ui.tree(self._root.shown(), label_key="label", tick_strategy="leaf")
        self._tree.props["aria-label"] = name
        self._tree.add_slot("default-header", _NAMED)
        if self._root.count <= 40:
            self._tree.expand()

    @property
    def bytes(self) -> int:
        return self._root.bytes

    def ticked(self) -> Sequence[str]:
        """Return the selected paths, whole folders as one."""
        leaves = frozenset(self._tree.props.get("ticked") or ())
        return self._root.ticked(leaves, lambda folder: self._exact or folder in self._split)


def _above(path: str) -> Iterator[str]:
    """Yield each folder above a path."""
    while path := path.rpartition("/")[0]:
        yield path
