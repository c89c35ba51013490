"""Commands to settle what a run left to the user; their PATHs are in a linked folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from craftsync import linked_folders
from craftsync.cli import params as common
from craftsync.cli.output import say_which, which
from craftsync.config.options import RunOptions
from craftsync.config.pairs import Pair
from craftsync.errors import UsageError
from craftsync.linked_folders import OnUnnamed
from craftsync.wording import shown


def meant_by(
    paths: Sequence[str], flags: dict[str, Any], on_unnamed: OnUnnamed | None = None
) -> tuple[Pair, tuple[str, ...] | None, RunOptions]:
    """Print the linked folder of a call; return it, the given paths in it, if any, and the options."""
    asked, words = common.asked_of(flags), common.words_of(flags)
    pair, inside = linked_folders.around_all(paths, words, asked, on_unnamed)
    say_which(pair, words, flags)
    return pair, inside, asked


def refuse_unnamed(pair: Pair) -> NoReturn:
    """Raise `UsageError` for the only linked folder of the configuration, if nothing names it."""
    assert pair.folder is not None
    raise UsageError(
        f"The current directory is in no linked folder, and nothing names {shown(which(pair))}.",
        remedy=f"If you mean it, type: {common.typed_with('--folder', pair.folder)}",
    )
