"""Two trees in memory and the effects of a plan on them: the simplest world the rules can be tried in.

Content is a small number; `FOLDER` stands for an empty folder (or a folder
marker in the store). Nothing here is craftsync's own code but the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from craftsync.core.decide import decide
from craftsync.core.filters import Sieve
from craftsync.core.merge import merge
from craftsync.core.model import (
    Action,
    BaselineRow,
    Kind,
    LocalFile,
    Policy,
    RemoteObject,
    as_left,
)

FOLDER = -1
Tree = dict[str, int]


# The sides hold no more than a few values again and again.
@cache
def local_file(path: str, content: int) -> LocalFile:
    return LocalFile(path, content + 1, content, content, content)


@cache
def left_object(path: str, content: int) -> LocalFile:
    """Return an object of a store that stands where the folder does."""
    return as_left(remote_object(path, content))


@cache
def remote_object(path: str, content: int) -> RemoteObject:
    return RemoteObject(path, content + 1, content, f"v{content}")


@cache
def row(path: str, content: int) -> BaselineRow:
    return BaselineRow(
        path,
        content + 1,
        content,
        content,
        content,
        False,
        bytes([content]),
        content,
        f"v{content}",
    )


@dataclass
class World:
    """A root, a baseline and a store, each a mapping from path to content."""

    local: Tree
    baseline: Tree
    remote: Tree
    between_stores: bool = False
    trash: set[int] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)

    def contents(self) -> set[int]:
        """Return every content that can still be had."""
        held = {c for tree in (self.local, self.remote) for c in tree.values() if c != FOLDER}
        return held | self.trash

    def plan(self, policy: Policy, sieve: Sieve | None = None) -> Iterator[Action]:
        left = left_object if self.between_stores else local_file
        local = (left(p, c) for p, c in sorted(self.local.items()) if c != FOLDER)
        rows = (
            BaselineRow(*left(p, c), *row(p, c)[5:])
            for p, c in sorted(self.baseline.items())
            if c != FOLDER
        )
        remote = (remote_object(p, c) for p, c in sorted(self.remote.items()) if c != FOLDER)
        triples = merge(local, rows, remote)
        for path, here, agreed, there in sieve.of(triples) if sieve else triples:
            decision = decide(here, agreed, there, policy)
            if decision is not None:
                yield Action(decision.kind, path, decision.rule, here, agreed, there)

    def apply(self, action: Action) -> None:
        """Carry out one action as the executor would, blocked paths included."""
        path = action.path
        match action.kind:
            case Kind.UPLOAD:
                self._keep(self.remote, path)
                self.remote[path] = self.baseline[path] = self.local[path]
            case Kind.DOWNLOAD:
                self._download(path, self.remote[path])
            case Kind.DELETE_REMOTE:
                self._keep(self.remote, path)
                self._forget(self.remote, path)
            case Kind.DELETE_LOCAL:
                self._keep(self.local, path)
                self._forget(self.local, path)
            case Kind.RECONCILE:
                self._reconcile(path)
            case Kind.FORGET | Kind.ADOPT:
                self.baseline.pop(path, None)

    def _forget(self, tree: Tree, path: str) -> None:
        tree.pop(path, None)
        self.baseline.pop(path, None)

    def _keep(self, tree: Tree, path: str) -> None:
        if tree.get(path, FOLDER) != FOLDER:
            self.trash.add(tree[path])

    def _download(self, path: str, content: int) -> None:
        if self._obstructed(path):
            self.blocked.add(path)
            return
        self._keep(self.local, path)
        self.local[path] = self.baseline[path] = content

    def _obstructed(self, path: str) -> bool:
        parts = path.split("/")
        above = ("/".join(parts[:n]) for n in range(1, len(parts)))
        below = any(p.startswith(path + "/") and c != FOLDER for p, c in self.local.items())
        return below or any(self.local.get(p, FOLDER) != FOLDER for p in above)

    def _reconcile(self, path: str) -> None:
        if self.local[path] != self.remote[path]:
            copy = f"{path} (conflict)"
            self.local[copy] = self.remote[copy] = self.baseline[copy] = self.remote[path]
            self.remote[path] = self.local[path]
        self.baseline[path] = self.local[path]
