"""What common changes cost in requests, and in waits one after the other: the tables of docs/benchmarks.md.

`python -m tests.support.round_trips` writes them; a test compares them. Each row
is a real run over a real server that answers in waves (`tests.support.waves`).
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import craftsync
from craftsync.stores.s3 import store
from craftsync.stores.s3.preconditions import Limits
from tests.support.platform import faulty_platform
from tests.support.s3 import PERSONALITIES, served
from tests.support.servers import ACCESS_KEY, SECRET_KEY
from tests.support.waves import HeldPlatform, HeldS3, Waves, counting

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
LARGE = 20 << 20
"""Bytes of a file that goes in parts."""
MANY = 40
_S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
_NAMES = {"information": "stat", "POST bytes": "bytes up", "GET bytes": "bytes down"}
_NAMES |= {"upload": "address up", "download": "address down", "refresh": "token"}


class Cost(NamedTuple):
    """What a change cost: the names of the requests of each wave."""

    what: str
    waves: tuple[tuple[str, ...], ...]

    @property
    def requests(self) -> int:
        return sum(map(len, self.waves))

    def row(self) -> str:
        """Return it as a row of a table; many requests are counted, and not named, but for those of a probe."""
        named = sum(name != "probe" for wave in self.waves for name in wave) < 15
        which = " → ".join(map(_together, self.waves)) if named else ""
        return f"| {self.what} | {self.requests} | {len(self.waves)} | {which} |"


def _together(wave: tuple[str, ...]) -> str:
    counted = sorted(Counter(_NAMES.get(name, name) for name in wave).items())
    return " + ".join(f"{count} × {name}" if count > 1 else name for name, count in counted)


class Runs:
    """Runs over one folder and one store, and what each cost."""

    def __init__(self, folder: Path, url: str, waves: Waves, **options: Any) -> None:
        self.root, self.other = folder / "root", folder / "other"
        for root in (self.root, self.other):
            root.mkdir()
        self.url = url
        self.costs: list[Cost] = []
        self._waves = waves
        self._options = {"state_dir": folder / "state", **options}

    def counted(self, what: str, run: Callable[..., Any], *words: Any, **options: Any) -> None:
        """Make a run and note what it cost."""
        self.uncounted(run, *words, **options)
        waves = tuple(tuple(sorted(wave)) for wave in self._waves.waves)
        self.costs.append(Cost(what, waves))

    def uncounted(self, run: Callable[..., Any], *words: Any, **options: Any) -> None:
        self._waves.waves = []
        report = run(*words, **self._options, **options)
        assert report.exit_code == 0, report

    def changes(self) -> None:
        """Make the changes that every store is asked for."""
        root, url = self.root, self.url
        (root / "a").write_text("1")
        self.counted("first contact, and one file", craftsync.push, root, url)
        self.uncounted(craftsync.push, root, url)
        self.counted("nothing new", craftsync.sync, root, url)
        (root / "b").write_text("1")
        self.counted("a new file", craftsync.push, root, url)
        (root / "b").write_text("2")
        self.counted("an edit", craftsync.push, root, url)
        self.uncounted(craftsync.pull, self.other, url)
        (self.other / "b").write_text("3")
        self.uncounted(craftsync.sync, self.other, url)
        self.counted("another's edit, fetched", craftsync.sync, root, url)
        (root / "b").write_text("4")
        self.counted("an edit of what another wrote", craftsync.sync, root, url)
        (root / "b").rename(root / "c")
        self.counted("a rename", craftsync.sync, root, url)
        (root / "c").unlink()
        self.counted("a delete", craftsync.sync, root, url)

    def large(self) -> None:
        (self.root / "large").touch()
        os.truncate(self.root / "large", LARGE)
        self.counted("a file of 20 MiB, sent", craftsync.push, self.root, self.url)
        self.counted("a file of 20 MiB, fetched", craftsync.pull, self.other, self.url)

    def many(self) -> None:
        """Rename a folder, then delete it."""
        root, url = self.root, self.url
        (root / "many").mkdir()
        for number in range(MANY):
            (root / "many" / f"{number}").write_text(f"{number}")
        self.uncounted(craftsync.push, root, url)
        (root / "many").rename(root / "renamed")
        self.counted(f"{MANY} files renamed", craftsync.sync, root, url, transfers=MANY)
        for file in (root / "renamed").iterdir():
            file.unlink()
        run = craftsync.sync
        self.counted(f"{MANY} files deleted", run, root, url, transfers=MANY, force_delete=True)

    def migrations(self, target: str) -> None:
        self.uncounted(craftsync.migrate, self.url, target)
        for what, stream in (("by the server", False), ("streamed", True)):
            (self.root / "d").write_text(what)
            self.uncounted(craftsync.push, self.root, self.url)
            what = f"migrate: one changed object, {what}"
            self.counted(what, craftsync.migrate, self.url, target, stream=stream)


def _patiently() -> AbstractContextManager[object]:
    """Let a listing prove for longer what is absent, so that a slow machine asks for no stats."""
    return patch.object(store, "Limits", partial(Limits, fresh_listing_seconds=3600.0))


@contextmanager
def _environment(home: Path, variables: Mapping[str, str]) -> Iterator[None]:
    with patch.dict(os.environ, {"HOME": str(home), **variables}):
        yield


def over_s3(personality: str) -> list[Cost]:
    """Return what changes cost over a server of this personality."""
    fake = HeldS3(PERSONALITIES[personality], (ACCESS_KEY, SECRET_KEY))
    fake.bucket("bucket"), fake.bucket("second")
    with TemporaryDirectory() as folder, counting() as waves:
        fake.waves = waves
        with (
            served(fake) as server,
            _environment(Path(folder), _S3_ENVIRONMENT),
            _patiently(),
        ):
            runs = Runs(Path(folder), "s3://bucket", waves, endpoint_url=server.endpoint)
            runs.changes()
            runs.large()
            runs.many()
            runs.migrations("s3://second")
    return runs.costs


def over_craft_ai() -> list[Cost]:
    """Return what changes cost over a Craft AI environment."""
    with (
        TemporaryDirectory() as folder,
        counting() as waves,
        faulty_platform(HeldPlatform, tick=0.001) as platform,
    ):
        platform.waves = waves  # type: ignore[attr-defined]
        variables = {
            "CRAFT_AI_ENVIRONMENT_URL": platform.url,
            "CRAFT_AI_CONTROL_URL": platform.url,
            "CRAFT_AI_SDK_TOKEN": platform.token,
        }
        with _environment(Path(folder), variables):
            runs = Runs(Path(folder), "craft-ai://", waves)
            runs.changes()
    return runs.costs


TABLES: Mapping[str, Callable[[], list[Cost]]] = {
    "s3": lambda: over_s3("plain"),
    "s3-without-conditions": lambda: over_s3("ignores-conditions"),
    "craft-ai": over_craft_ai,
}


def table(name: str) -> str:
    """Return a table of docs/benchmarks.md, made anew."""
    head = "| change | requests | waits one after the other | which |\n|---|---|---|---|"
    return "\n".join([head, *(cost.row() for cost in TABLES[name]()), ""])


def documented(name: str, text: str) -> str:
    """Return a table as a document has it."""
    found = re.search(_between(name), text, re.DOTALL)
    return found[1] if found else ""


def _between(name: str) -> str:
    return f"(?<=<!-- round-trips-{name}: begin -->\n)(.*?)(?=<!-- round-trips-{name}: end -->)"


def main() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name in TABLES:
        made = table(name)
        text = re.sub(_between(name), lambda _, made=made: made, text, flags=re.DOTALL)  # type: ignore[misc]
        sys.stdout.write(f"{name}\n{made}\n")
    DOCUMENT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
