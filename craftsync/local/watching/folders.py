"""Which kernel watch stands for which folder of the root, through moves and removals.

A kernel watch sticks to an inode and never says where that is now. So the
folders are kept as a tree of nodes that know their parents: a moved folder
takes everything below it along by changing one parent, and a folder that has
left the root has no path any more. No I/O, and not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator


class Node:
    """One watched folder. `watch` is the kernel's number for it."""

    __slots__ = ("children", "name", "parent", "watch")

    def __init__(self, watch: int, name: str, parent: Node | None) -> None:
        self.watch = watch
        self.name = name
        self.parent = parent
        self.children: dict[str, Node] = {}


class WatchedFolders:
    """All watched folders of a root, by number and by place."""

    def __init__(self) -> None:
        self._by_watch: dict[int, Node] = {}
        self._root: Node | None = None

    def __len__(self) -> int:
        return len(self._by_watch)

    def place(self, watch: int, path: str) -> None:
        """Note that the watch stands for the folder at `path`; "" is the root.

        A folder whose parent is not watched (any more) is left out: the parent
        will be looked at again, and the folder with it.
        """
        if not path:
            self._root = self._by_watch[watch] = Node(watch, "", None)
            return
        above, _, name = path.rpartition("/")
        parent = self._at(above)
        if parent is None:
            return
        node = self._by_watch.get(watch)
        if node is None:
            node = self._by_watch[watch] = Node(watch, name, None)
        self.attach(node, parent, name)

    def get(self, watch: int) -> Node | None:
        return self._by_watch.get(watch)

    def path_of(self, node: Node) -> str | None:
        """Return where the folder is; `None` once it has left the root."""
        names: list[str] = []
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names)) if node is self._root else None

    def detach(self, parent: Node, name: str) -> Node | None:
        """Take the folder of that name out of its place, with all below it; `None` if it is not watched."""
        node = parent.children.pop(name, None)
        if node is not None:
            node.parent = None
        return node

    def attach(self, node: Node, parent: Node, name: str) -> None:
        """Give the folder a place. What stood there before has lost its own."""
        if node is self._root or self._is_within(parent, node):
            return
        if node.parent is not None and node.parent.children.get(node.name) is node:
            del node.parent.children[node.name]
        self.detach(parent, name)
        node.parent, node.name = parent, name
        parent.children[name] = node

    def forget(self, watch: int) -> None:
        """Forget a watch the kernel has given up; an unknown one is no error."""
        node = self._by_watch.pop(watch, None)
        if node is None:
            return
        if node.parent is not None and node.parent.children.get(node.name) is node:
            del node.parent.children[node.name]
        for child in node.children.values():
            child.parent = None
        node.children = {}
        if node is self._root:
            self._root = None

    def lost(self) -> list[int]:
        """Return the watches of folders that have left the root."""
        return [watch for watch, node in self._by_watch.items() if self.path_of(node) is None]

    def _at(self, path: str) -> Node | None:
        node = self._root
        for name in path.split("/") if path else ():
            if node is None:
                return None
            node = node.children.get(name)
        return node

    def _is_within(self, node: Node, folder: Node) -> bool:
        return any(above is folder for above in _upwards(node))


def _upwards(node: Node | None) -> Iterator[Node]:
    while node is not None:
        yield node
        node = node.parent
