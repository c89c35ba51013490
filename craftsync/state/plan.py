"""The plan table: the steps of the current run. Also `Replacements`: the versions that runs replaced.

The plan is in the database so that it can be larger than memory, SQL can count, order and pair its
steps, and the next run finds it after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from craftsync.core.model import Action, BaselineRow, Kind, LocalFile, RemoteObject
from craftsync.core.paths import relatives
from craftsync.state.cut_off import CutOff
from craftsync.state.database import Database
from craftsync.state.transfers import Intents

_PAGE = 1000
_ARRIVALS = "('upload', 'download', 'move-remote', 'move-local', 'reconcile')"
_DELETES = "('delete-remote', 'delete-local')"
_SMALL = f"(max(coalesce(p.size, 0), coalesce(p.remote_size, 0)) <= {1 << 20})"
"""Whether a step is small."""


class Step(NamedTuple):
    """A numbered action of the plan. All steps of a stage end before the next stage begins."""

    id: int
    stage: int
    action: Action


class Totals(NamedTuple):
    """Number of steps in a plan, and the bytes of its uploads and downloads."""

    files: int
    bytes: int


class Plan:
    """The steps of one run, in the database.

    `new_id` returns a new unique id; a run's operation ids start with one.
    """

    def __init__(
        self,
        database: Database,
        new_id: Callable[[], str],
        intents: Intents,
        cut_off: CutOff,
        identity: str = "inode",
    ) -> None:
        """`identity` as in `Baseline`."""
        self._db = database.connection
        self._columns = (
            f"stage, kind, path, source, rule, size, mtime_ns, ctime_ns, {identity}, remote_size,"
            " modified_ns, version"
        )
        self._identity = identity
        self._proof = "" if identity == "inode" else ", b.verified"
        self._new_id = new_id
        self._intents = intents
        self._cut_off = cut_off
        self._run = ""
        self._last = 0
        self._by_operation = False
        self._as_new = False

    def operation(self, step: int) -> str:
        """Return the operation id of a step."""
        return f"{self._run}.{step}"

    def begin(
        self, *, by_operation: bool, again: Iterable[str] | None = None, as_new: bool = False
    ) -> None:
        """Clear the plan, and save what may have been carried out of the last run's plan.

        `by_operation`: the store keeps operation ids, which identify writes of the last run.
        `as_new`: steps get no baseline row, like those of new paths. With `again`, only unfinished
        steps and the steps of these paths are removed: other steps of this run that failed stay
        (`undone`).
        """
        if again is not None:
            self._db.execute("DELETE FROM plan WHERE stage <> ?", (_UNDONE,))
            self._db.executemany("DELETE FROM plan WHERE path = ?", ((path,) for path in again))
            return
        self._by_operation, self._as_new = by_operation, as_new
        previous = self._db.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
        self._intents.take_over(previous[0] if previous else "", by_operation=by_operation)
        self._cut_off.begin()
        self._run = self._new_id()
        self._db.execute("DELETE FROM plan")
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?)", (self._run,))

    def add(self, actions: Iterable[Action]) -> None:
        self._db.executemany(
            f"INSERT INTO plan ({self._columns}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            map(_to_row, actions),
        )

    def add_during_run(self, actions: Iterable[Action]) -> list[Step]:
        """Add steps to the plan being carried out, and return them; `steps` does not yield them.

        They get new numbers: with a reused operation id, one write would look like another.
        """
        steps = []
        for action in actions:
            self._last += 1
            steps.append(Step(self._last, _TAKEN_IN, action))
            row = (self._last, _TAKEN_IN, *_to_row(action)[1:])
            self._db.execute(f"INSERT INTO plan (id, {self._columns}) VALUES ({_marks(row)})", row)
        return steps

    def give_up(self, path: str) -> None:
        """Remove the step of a path, so that another can be added; keep an intent of its possible write."""
        self._intents.take_over(self._run, by_operation=self._by_operation, path=path)
        self._db.execute("DELETE FROM plan WHERE path = ?", (path,))

    def undone(self, steps: Iterable[int]) -> None:
        """Mark steps as failed; `steps` no longer yields them."""
        self._db.executemany(
            "UPDATE plan SET stage = ? WHERE id = ?", ((_UNDONE, step) for step in steps)
        )

    def not_moved(self, step: int) -> None:
        """Note that a move certainly left its source in place. It may have written the new path."""
        self._db.execute("UPDATE plan SET source = NULL WHERE id = ?", (step,))

    def mark_out_of_sync(self, path: str) -> None:
        """Record that a path is no longer in sync."""
        self._db.execute(
            "INSERT INTO plan (stage, kind, path, rule) VALUES (?, ?, ?, '')",
            (_UNDONE, Kind.FORGET, path),
        )

    def touches(self, path: str) -> bool:
        """Return whether an open step concerns a path, a folder above it, or anything below it."""
        above, below = relatives(path)
        places = (path, *above)
        found = self._db.execute(
            f"SELECT 1 FROM plan WHERE path IN ({_marks(places)})"
            " UNION ALL SELECT 1 FROM plan WHERE path > ? AND path < ?"
            f" UNION ALL SELECT 1 FROM plan WHERE source IN ({_marks(places)})"
            " UNION ALL SELECT 1 FROM plan WHERE source > ? AND source < ? LIMIT 1",
            (*places, *below, *places, *below),
        )
        return found.fetchone() is not None

    def repeated(self) -> str | None:
        """Return a path with two steps, which only an edited plan file has, or `None`."""
        query = "SELECT path FROM plan GROUP BY path HAVING count(*) > 1 LIMIT 1"
        found = self._db.execute(query).fetchone()
        return None if found is None else str(found[0])

    def arrange(self) -> None:
        """Move deletes that obstruct other steps to the first stage. All others stay in the last."""
        if not self._any(Kind.DELETE_REMOTE) and not self._any(Kind.DELETE_LOCAL):
            return
        self._db.execute(
            f"UPDATE plan SET stage = 0 WHERE id IN (SELECT d.id FROM plan a JOIN plan d"
            f" ON d.path > a.path || '/' AND d.path < a.path || '0'"
            f" WHERE a.kind IN {_ARRIVALS} AND d.kind IN {_DELETES} AND d.stage <> {_UNDONE})"
        )
        self._db.execute(
            f"UPDATE plan AS d SET stage = 0"
            f" WHERE d.kind IN {_DELETES} AND d.stage <> {_UNDONE} AND EXISTS"
            f" (SELECT 1 FROM plan a WHERE a.path > d.path || '/' AND a.path < d.path || '0'"
            f" AND a.kind IN {_ARRIVALS})"
        )

    def _any(self, kind: Kind) -> bool:
        found = self._db.execute("SELECT 1 FROM plan WHERE kind = ? LIMIT 1", (kind,))
        return found.fetchone() is not None

    def count(self, kind: Kind) -> int:
        query = "SELECT count(*) FROM plan WHERE kind = ? AND stage <> ?"
        return int(self._db.execute(query, (kind, _UNDONE)).fetchone()[0])

    def remove(self, kind: Kind) -> Iterator[str]:
        """Yield the paths of all steps of a kind, and then remove the steps."""
        steps = "FROM plan WHERE kind = ? AND stage <> ?"
        for (path,) in self._db.execute(f"SELECT path {steps} ORDER BY path", (kind, _UNDONE)):
            yield path
        self._db.execute(f"DELETE {steps}", (kind, _UNDONE))

    def totals(self) -> Totals:
        files, size = self._db.execute(
            "SELECT count(*), total(CASE kind WHEN 'upload' THEN size"
            " WHEN 'download' THEN remote_size END) FROM plan"
            " WHERE kind NOT IN ('adopt', 'forget') AND stage <> ?",
            (_UNDONE,),
        ).fetchone()
        return Totals(int(files), int(size))

    def steps(self, may_begin_large: Callable[[], bool] = lambda: True) -> Iterator[Step]:
        """Yield the steps in the order of execution, deletes deepest first.

        Small and large steps alternate, so that neither kind waits for the other; large ones are
        postponed while `may_begin_large` returns False. Reads the table in pages, so that outcomes
        can be recorded between them.
        """
        self._last = self._db.execute("SELECT coalesce(max(id), 0) FROM plan").fetchone()[0]
        if not self._last:
            return
        yield from self._pages(0, "DESC")
        small, large = self._pages(1, "ASC", _SMALL), self._pages(1, "ASC", f"NOT {_SMALL}")
        yield from _by_turns(small, large, may_begin_large)
        yield from self._pages(2, "DESC")

    def _pages(self, stage: int, order: str, which: str = "1") -> Iterator[Step]:
        behind = "<" if order == "DESC" else ">"
        last = "\U0010ffff\U0010ffff" if order == "DESC" else ""
        while True:
            page = self._db.execute(
                f"SELECT p.id, p.kind, p.path, p.source, p.rule, p.size, p.mtime_ns, p.ctime_ns,"
                f" p.{self._identity}, p.remote_size, p.modified_ns, p.version,"
                f" b.size, b.mtime_ns, b.ctime_ns, b.{self._identity}, b.racy, b.digest, b.modified_ns,"
                f" b.version, b.uploaded{self._proof} FROM plan p"
                f" LEFT JOIN baseline b ON {not self._as_new:d} AND b.path = coalesce(p.source, p.path)"
                f" WHERE p.stage = ? AND p.path {behind} ? AND {which}"
                f" ORDER BY p.path {order} LIMIT {_PAGE}",
                (stage, last),
            ).fetchall()
            yield from map(partial(_to_step, stage), page)
            if len(page) < _PAGE:
                return
            last = page[-1][2]

    def done(self, steps: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM plan WHERE id = ?", ((step,) for step in steps))


_KINDS = {str(kind): kind for kind in Kind}
_STAGES = {Kind.DELETE_REMOTE: 2, Kind.DELETE_LOCAL: 2}
_TAKEN_IN = 3
"""The stage of steps added during the run."""
_UNDONE = 4
"""The stage of failed steps that must be remembered."""


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _by_turns(
    small: Iterator[Step], large: Iterator[Step], may_begin_large: Callable[[], bool]
) -> Iterator[Step]:
    next_large = next(large, None)
    for step in small:
        yield step
        if next_large is not None and may_begin_large():
            yield next_large
            next_large = next(large, None)
    if next_large is not None:
        yield next_large
        yield from large


def _to_row(action: Action) -> tuple[object, ...]:
    local = action.local[1:] if action.local else (None, None, None, None)
    remote = action.remote[1:4] if action.remote else (None, None, None)
    stage = _STAGES.get(action.kind, 1)
    return (stage, action.kind, action.path, action.source, action.rule, *local, *remote)


def _to_step(stage: int, row: tuple[object, ...]) -> Step:
    number, kind, path, source, rule = row[:5]
    local = None if row[5] is None else LocalFile._make((path, *row[5:9]))
    remote = None if row[9] is None else RemoteObject(path, *row[9:12])  # type: ignore[arg-type]
    baseline = None if row[12] is None else BaselineRow(source or path, *row[12:])  # type: ignore[arg-type]
    action = Action(_KINDS[kind], path, rule, local, baseline, remote, source)  # type: ignore[arg-type, index]
    return Step(number, stage, action)  # type: ignore[arg-type]


class Result(NamedTuple):
    """The version that a run left at a path on both sides. `digest` is SHA-256, `version` the store's token."""

    size: int
    digest: bytes | None
    version: str | None


class Replaced(NamedTuple):
    """A version that one side ("root" or "store") held before the run. `size` is in bytes.

    `stamp` is its folder in the trash, `None` if it was not kept. `version` is the store's token,
    `None` for a file. `result` is `None` if the run deleted the path.
    """

    path: str
    side: str
    stamp: str | None
    size: int
    version: str | None
    result: Result | None


class Replacements:
    """The table of replaced versions, for undo. Writes belong to the caller's transaction.

    Its columns `left_…` are those of `Result`: what the run left there, not the left side.
    """

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def add(self, run: int, replaced: Iterable[Replaced]) -> None:
        """Record the versions that a run replaced. Of a path replaced twice, keep the first version and last result."""
        self._db.executemany(
            "INSERT INTO replaced VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " left_size = excluded.left_size, left_digest = excluded.left_digest,"
            " left_version = excluded.left_version",
            ((run, *one[:5], *(one.result or (None, None, None))) for one in replaced),
        )

    def of(self, run: int) -> Iterator[Replaced]:
        """Yield the versions that a run replaced or deleted, by path."""
        rows = self._db.execute(
            "SELECT path, side, stamp, size, version, left_size, left_digest, left_version"
            " FROM replaced WHERE run = ? ORDER BY path",
            (run,),
        )
        for row in rows:
            result = None if row[5] is None else Result(*row[5:])
            yield Replaced(row[0], row[1], row[2], row[3], row[4], result)

    def drop_before(self, run: int) -> None:
        """Forget the versions that earlier runs replaced."""
        self._db.execute("DELETE FROM replaced WHERE run < ?", (run,))


def in_order(
    database: Database, objects: Iterable[RemoteObject], *, name: str = "listing"
) -> Iterator[RemoteObject]:
    """Read the whole listing, then yield it in the byte order of the UTF-8 path.

    `name` names the temporary table. Listings in use at the same time need different names.
    """
    db = database.connection
    db.execute(f"DROP TABLE IF EXISTS temp.{name}")
    db.execute(
        f"CREATE TEMP TABLE {name} (path TEXT PRIMARY KEY, size, modified_ns, version) WITHOUT ROWID"
    )
    db.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?,?,?,?)", (o[:4] for o in objects))
    rows = db.execute(f"SELECT path, size, modified_ns, version FROM {name} ORDER BY path")
    return (RemoteObject(*row) for row in rows)
