"""What craftsync finds out about each kind of S3 server, what it then does, and that nothing is lost.

The table of docs/stores.md is made here, see `REFRESH`.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from craftsync.core.model import OWN_FOLDER
from craftsync.engine.report import Issue, IssueEvent, Options
from craftsync.engine.review.deletes import Approval
from craftsync.errors import CraftsyncError
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import Limits, ProbedFacts, S3Store
from craftsync.stores.s3.objects import Form
from tests.support.clock import FakeClock
from tests.support.fake_s3 import Request
from tests.support.s3 import FAULTY, PERSONALITIES, FakeS3, Personality, fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY
from tests.support.world import World

PAGE = Path(__file__).parent.parent.parent / "docs" / "stores.md"
REFRESH = "python -m tests.contract.test_store_personalities --write"
BEGIN, END = f"<!-- personalities: {REFRESH} -->", "<!-- personalities end -->"
HEAD = """| kind | what it does | what probing finds | what a run then does | the end |
|---|---|---|---|---|"""
ALL = PERSONALITIES | FAULTY
BUCKET, PREFIX = "bucket", "données/"
LIMITS = Limits(single_put=5000, smallest_part=5000, page=5, fresh_listing_seconds=0.0)
LARGE = "x" * 12_000


@dataclass
class Seen:
    """What came of one personality. `facts` is `None` where it could not be probed."""

    facts: ProbedFacts | None = None
    refusal: str = ""
    requests: list[Request] = field(default_factory=list)
    trouble: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    in_sync: bool = False
    needed: list[str] = field(default_factory=list)
    """What a person had to do until both were in sync."""


@contextmanager
def opened(
    personality: Personality, folder: Path
) -> Iterator[tuple[FakeS3, Callable[[], S3Store]]]:
    """Serve a personality, and give what opens a store on it as a user of this kind of server would."""
    config = folder / "aws-config"
    virtual = "s3 =\n  addressing_style = virtual\n" if personality.virtual_hosts_only else ""
    config.write_text(f"[default]\n{virtual}")
    with fake_s3(personality, BUCKET) as (server, fake):
        environment = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": str(config),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        endpoint = server.endpoint
        if virtual:
            # The fake stands for the proxy too, so that its names need no resolver.
            environment["http_proxy"], endpoint = endpoint, "http://s3.test"
        stores: list[S3Store] = []

        def make() -> S3Store:
            stores.append(
                S3Store(
                    BUCKET,
                    PREFIX,
                    endpoint_url=endpoint,
                    request_payer=personality.requester_pays,
                    clock=FakeClock(),
                    limits=LIMITS,
                )
            )
            return stores[-1]

        with patch.dict("os.environ", environment):
            yield fake, make
            for store in stores:
                store.close()


def observe(personality: Personality, folder: Path) -> Seen:
    """Probe a server of this kind, and tell two folders' story on it."""
    # Small parts and pages; everything else is the personality's.
    personality = replace(personality, smallest_part=1)
    seen = Seen()
    with opened(personality, folder) as (fake, make):
        try:
            seen.facts = probed(make(), personality)
        except CraftsyncError as error:
            seen.refusal = plain_words(str(error))
        _tell(seen, fake, make, folder)
    return seen


def patient(store: S3Store, personality: Personality) -> RetryingStore:
    """Return the store for a client that tries again as usual; a server that is busy at random needs more."""
    retrying = partial(RetryingStore, store, clock=store.clock, rng=random.Random(0))
    return retrying(attempts=40, deadline_seconds=1e6) if personality.slow_down else retrying()


def probed(store: S3Store, personality: Personality) -> ProbedFacts:
    patient(store, personality).prepare(None)
    return store.facts


def _tell(seen: Seen, fake: FakeS3, make: Callable[[], S3Store], folder: Path) -> None:
    """Two folders get in sync, people change both and the bucket, and runs follow until nothing changes."""
    mine, plain = fake.personality, replace(PERSONALITIES["plain"], smallest_part=1)
    fake.personality = plain if mine.passing else mine
    # Theirs comes first: what a store that copies nothing keeps is what another client uploaded.
    ours, theirs = (_world(folder / name, patient(make(), mine)) for name in ("ours", "theirs"))
    written = {path: f"{path} at first" for path in ("edited", "deleted", "renamed", "both", "f/a")}
    written |= {f"f/{number}": f"f/{number} at first" for number in range(6)}
    written["large"] = f"large at first {LARGE}"
    for path, content in written.items():
        theirs.write(path, content)
    contents = set(written.values())
    for world in (theirs, ours):
        world.run()
    assert ours.here() == theirs.here() == written == _objects(fake)
    fake.personality = mine
    fake.requests.clear()
    changes = {"edited": "edited again", "large": f"large again {LARGE}", "both": "both by us"}
    for path, content in changes.items():
        ours.write(path, content)
    ours.remove("deleted")
    (ours.root / "renamed").rename(ours.root / "new name")
    theirs.write("both", "both by them")
    theirs.write("f/theirs", "new from them")
    contents |= {*changes.values(), "both by them", "new from them"}
    _run(seen, ours)
    seen.requests = [request for request in fake.requests if "/probe/" not in request.target]
    for world in (theirs, ours, theirs, ours):
        _run(seen, world)
    if mine.passing:
        fake.personality = plain
        for world in (theirs, ours, theirs):
            _run(Seen(), world)
        _tidy_up(seen, fake, contents, ours, theirs)
    seen.lost = contents - _everything(fake, ours, theirs)
    seen.in_sync = ours.here() == theirs.here() == _objects(fake)


def _tidy_up(seen: Seen, fake: FakeS3, contents: set[str], *worlds: World) -> None:
    """Do what is left to a person after a fault: remove damaged objects, and approve held deletes that are right."""
    if damaged := [path for path, text in _objects(fake).items() if text not in contents]:
        seen.needed.append("damaged objects are removed")
        for path in damaged:
            fake.bucket(BUCKET).delete(fake.personality, PREFIX + path, None)
    for world in worlds:
        with world.open() as session:
            if session.state.held.count():
                seen.needed.append("held deletes are approved")
                session.resolve_held(Approval(True, None), Options(), world.listen)
    for world in (*worlds, *worlds):
        _run(Seen(), world)


def _world(folder: Path, store: RetryingStore) -> World:
    folder.mkdir()
    return World(folder, store)


def _run(seen: Seen, world: World) -> None:
    try:
        world.run()
    except CraftsyncError as error:
        seen.trouble.add(f"stops: {plain_words(str(error))}")
    for event in world.events:
        if isinstance(event, IssueEvent) and event.issue is not Issue.CONFLICT:
            seen.trouble.add(f"{event.issue}: {plain_words(event.reason)}")


def plain_words(message: str) -> str:
    """Return the first sentence of a message, without what differs from path to path and from run to run."""
    first = re.sub(r"[0-9a-f]{32}", "…", message).replace(
        f"s3://{BUCKET}/{PREFIX}"[:-1], "the store"
    )
    first = re.sub(
        r"\b(?:données/)?(?:f/)?(both|edited|large|theirs|new name|deleted)\b", "PATH", first
    )
    return re.split(r"\.( |$)", first)[0]


def _everything(fake: FakeS3, *worlds: World) -> set[str]:
    """Return all contents that there are on any side, in trashes and in versions."""
    found = {
        stored.content.decode(errors="replace")
        for versions in fake.bucket(BUCKET).versions.values()
        for stored in versions
    }
    for world in worlds:
        files = (file for file in world.root.rglob("*") if file.is_file())
        found |= {file.read_text(errors="replace") for file in files}
    return found


def _objects(fake: FakeS3) -> dict[str, str]:
    bucket = fake.bucket(BUCKET)
    return {
        key.removeprefix(PREFIX): bucket.get(key).content.decode(errors="replace")
        for key in sorted(bucket)
        if f"{OWN_FOLDER}/" not in key
    }


@pytest.mark.parametrize("name", ALL)
def test_store_personality_loses_nothing_and_behaves_as_documented(
    tmp_path: Path, name: str
) -> None:
    seen = observe(ALL[name], tmp_path)
    assert (seen.lost, seen.in_sync) == (set(), True)
    assert row(ALL[name], seen) in PAGE.read_text().splitlines(), f"run {REFRESH}"


def test_stores_page_lists_every_personality_once() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert re.findall(r"^\| `([^`]+)`", table, re.MULTILINE) == list(ALL)


def row(personality: Personality, seen: Seen) -> str:
    cells = (
        f"`{personality.name}`",
        personality.about,
        "; ".join(findings(seen)) or "nothing unusual",
        "; ".join((*ways(seen), *sorted(seen.trouble))),
        " and ".join(("in sync once that is over", *seen.needed))
        if personality.passing
        else "in sync",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def findings(seen: Seen) -> Iterator[str]:
    """Yield what probing found to be unlike Amazon's."""
    facts = seen.facts
    if facts is None:
        yield f"cannot be probed: {seen.refusal}"
        return
    checks = {
        "creations": facts.conditional_create,
        "replacements": facts.conditional_replace,
        "deletes": facts.conditional_delete,
        "completed uploads": facts.conditional_complete_create
        and facts.conditional_complete_replace,
        "copies": facts.conditional_copy and facts.conditional_source,
    }
    if unchecked := [name for name, is_checked in checks.items() if not is_checked]:
        yield f"no usable condition for {', '.join(unchecked)}"
    for is_so, words in (
        (facts.replace_form is Form.PLAIN, "takes versions without quotes only"),
        (not facts.versions, "no ETags"),
        (facts.versions and not facts.md5_versions, "ETags are not MD5s"),
        (not facts.server_side_copy, "no copies"),
        (not facts.metadata, "no metadata"),
        (facts.keeps_versions, "keeps versions"),
        (not facts.sorted_listing, "lists out of order"),
        (facts.hides_below, "a listing hides what is below an object"),
    ):
        if is_so:
            yield words


def ways(seen: Seen) -> Iterator[str]:
    """Yield how objects were replaced and deleted, and how that was kept, as far as it went through."""
    how: dict[str, list[str]] = {}
    for verb, method, target in (
        ("replaces", "PUT", "/edited"),
        ("completes uploads", "POST", "/large?uploadId="),
        ("deletes", "DELETE", "/deleted"),
    ):
        sent = [r for r in seen.requests if r.method == method and target in r.target]
        sent = [r for r in sent if f"{OWN_FOLDER}/" not in r.target]
        if sent:
            how.setdefault(_with(sent[-1]), []).append(verb)
    for way, verbs in how.items():
        yield f"{' and '.join(', '.join(verbs).rsplit(', ', 1))} {way}"
    kept = [r for r in seen.requests if "/trash/" in r.target and r.method in ("PUT", "POST")]
    if kept and seen.facts and not seen.facts.server_side_copy:
        yield "streams a copy into the trash"
    elif kept:
        yield "copies into the trash"
    elif how:
        yield "leaves old versions to the bucket"


def _with(request: Request) -> str:
    tag = request.headers.get("if-match", "")
    if tag.startswith('"'):
        return "with `If-Match`"
    return "with `If-Match` without quotes" if tag else "after a stat"


def main() -> None:
    """Print the table, or write it into the page."""
    rows = []
    for personality in ALL.values():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(personality, observe(personality, Path(folder))))
    table = "\n".join(("", HEAD, *rows, ""))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    if "--write" in sys.argv:
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}")
    else:
        print(table)  # noqa: T201


if __name__ == "__main__":
    main()
