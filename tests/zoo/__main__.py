"""`python -m tests.zoo [--only NAME] [--skip N] [--most N] [--list]`: put each bug back, and check that its tests fail."""

from __future__ import annotations

import argparse
import sys
import time

from tests.zoo.mutation import Mutation
from tests.zoo.mutations import MUTATIONS
from tests.zoo.runner import copied, failing_without, try_mutation


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", help="part of a name")
    parser.add_argument("--skip", type=int, default=0, help="skip so many bugs")
    parser.add_argument("--most", type=int, help="try so many bugs at most; default: all")
    parser.add_argument(
        "--list", action="store_true", help="print the bugs and the tests that must fail"
    )
    given = parser.parse_args()
    chosen = [
        one for one in MUTATIONS if not given.only or any(part in one.name for part in given.only)
    ][given.skip :][: given.most]
    if not chosen:
        parser.error("no bug is left of that choice; --list prints all")
    if given.list:
        for one in chosen:
            print(_title(one.name, one.hazard), *one.tests, sep="\n    ")  # noqa: T201
        return
    started = time.monotonic()
    wrong = 0
    with copied() as copy:
        without = failing_without(copy, chosen)
        if without.trouble or without.failed:
            sys.exit(f"The tests fail without any bug: {without.trouble or without.failed}")
        for one in chosen:
            survived = try_mutation(copy, one)
            wrong += bool(survived)
            print(f"{_title(one.name, one.hazard)}: {_verdict(one, survived)}", flush=True)  # noqa: T201
    seconds = time.monotonic() - started
    print(f"{len(chosen) - wrong} of {len(chosen)} bugs killed in {seconds:.0f} s")  # noqa: T201
    sys.exit(bool(wrong))


def _title(name: str, hazard: int | None) -> str:
    return name if hazard is None else f"{hazard}. {name}"


def _verdict(one: Mutation, survived: tuple[str, ...] | str) -> str:
    if isinstance(survived, str):
        return f"NOT TRIED ({survived})"
    if survived:
        return f"SURVIVED {', '.join(survived)}"
    return f"killed by {', '.join(one.tests)}"


if __name__ == "__main__":
    main()
