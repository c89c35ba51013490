"""Commands to settle what a run left to the user; their PATHs are in a linked folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from craftsync import linked_folders
from craftsync.cli import params as common
from craftsync.cli.output import say_which
from craftsync.config.options import RunOptions
from craftsync.config.pairs import Pair


def meant_by(
    paths: Sequence[str], flags: dict[str, Any]
) -> tuple[Pair, tuple[str, ...] | None, RunOptions]:
    """Print the linked folder of a call; return it, the given paths in it, if any, and the options."""
    asked, words = common.asked_of(flags), common.words_of(flags)
    pair, inside = linked_folders.around_all(paths, words, asked)
    say_which(pair, words, flags)
    return pair, inside, asked
