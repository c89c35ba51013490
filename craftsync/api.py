"""The functions of `import craftsync`: the runs of the command line, with its options as keywords.

Their signatures, and the options in their help, are made from the table of options
(`config/options.py`). Errors are of a builtin kind too, such as `FileNotFoundError`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack, cast, get_type_hints

from craftsync import runs
from craftsync.config.options import OPTIONS, MigrateOptions, Option, RunOptions, flags
from craftsync.config.places import is_path, word_of
from craftsync.core.paths import refusal
from craftsync.engine.report import OnEvent, Report
from craftsync.errors import UsageError, builtin_kinds
from craftsync.migrate import command
from craftsync.migrate.options import MigrationReport
from craftsync.open_store import waits
from craftsync.progress import showing

Place = str | os.PathLike[str]
"""A word as on the command line, or a path."""
Patterns = str | Sequence[str] | None

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=Report)

_IN_PYTHON_ONLY = {
    "on_event": "A function that is called with each event (craftsync.engine.report) of the run.",
    "progress": "Show progress in a notebook or on a terminal; default: True.",
}


_ONE_WAY = [row.name for group in ("filters", "existing", "links") for row in flags(group)]
"""Options of one-way runs only."""


def _with_options(options: type, *left_out: str) -> Callable[[F], F]:
    """Set a function's signature and help from its options, without those in `left_out`."""

    def decorate(function: F) -> F:
        types = {
            name: hint for name, hint in get_type_hints(options).items() if name not in left_out
        }
        signature = inspect.signature(function, eval_str=True)
        own = [
            parameter.replace(annotation=_type_shown(parameter.annotation))
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        keywords = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(name, hint),
                annotation=_type_shown(hint),
            )
            for name, hint in types.items()
        ]
        returned = signature.return_annotation.__name__
        made = signature.replace(parameters=[*own, *keywords], return_annotation=returned)
        function.__signature__ = made  # type: ignore[attr-defined]
        lines = (
            f"    {name}: {_type_shown(hint)}\n        {_meaning(name)}"
            for name, hint in types.items()
        )
        function.__doc__ = f"{inspect.getdoc(function)}\n\nOptions:\n" + "\n".join(lines)
        function.__module__ = "craftsync"
        return function

    return decorate


def _default(name: str, hint: object) -> object:
    if name == "progress":
        return True
    if hint is bool:
        return False
    return () if str(hint).startswith("collections.abc.Sequence") else None


def _type_shown(hint: object) -> str:
    shown = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    for module in ("collections.abc.", "typing."):
        shown = shown.replace(module, "")
    return shown


def _meaning(name: str) -> str:
    if name in _IN_PYTHON_ONLY:
        return _IN_PYTHON_ONLY[name]
    option = _row(name)
    default = f"Default: {option.default}." if option.value and option.default else ""
    return " ".join(part for part in (option.help, option.more, default) if part)


def _row(name: str) -> Option:
    return next(row for row in OPTIONS if row.name == name and row.group is not None)


@_with_options(RunOptions)
def push(root: Place, store: Place | None = None, **options: Unpack[RunOptions]) -> Report:
    """Copy the changes of the folder `root` to the store; with `delete=True` the store mirrors the folder.

    `store` is a word as on the command line (an environment of the configuration, a URL, a path) or
    a path object. Without it, `root` is the name of a linked folder in the configuration. Problems
    with single paths are in the report (`report.issues`, `report.raise_for_issues()`). Raises a
    `craftsync.errors.CraftsyncError` if a whole side is broken. Each is of a builtin kind too
    (`FileNotFoundError`, `PermissionError`, `ValueError`, `ConnectionError`), with its remedy as a
    note.
    """
    return _run("push", root, store, options)


@_with_options(RunOptions)
def pull(root: Place, store: Place | None = None, **options: Unpack[RunOptions]) -> Report:
    """Copy the changes of the store to the folder `root`; with `delete=True` the folder mirrors the store.

    A missing folder is created. Otherwise as `push`.
    """
    return _run("pull", root, store, options)


@_with_options(RunOptions, *_ONE_WAY)
def sync(root: Place, store: Place | None = None, **options: Unpack[RunOptions]) -> Report:
    """Bring folder and store in sync, in both directions. Otherwise as `push`."""
    return _run("sync", root, store, options)


@_with_options(RunOptions)
def check(root: Place, store: Place | None = None, **options: Unpack[RunOptions]) -> Report:
    """Compare the content of folder and store, without changing anything. Otherwise as `push`.

    `root` may be a store too.
    """
    with builtin_kinds():
        words = _words(root, store)
        compare = command.check if command.are_stores(words, options) else runs.check
        return _shown("check", options, lambda asked: compare(words, asked))


@_with_options(MigrateOptions)
def migrate(source: Place, target: Place, **options: Unpack[MigrateOptions]) -> MigrationReport:
    """Copy new and changed objects from one store to another; with `delete=True` the target mirrors the source.

    Both are words as on the command line. Otherwise as `push`.
    """
    with builtin_kinds():
        words = word_of(source), word_of(target)
        return _shown("migrate", options, lambda asked: command.run(*words, asked))


@_with_options(RunOptions, "include", "exclude")
def upload_folder(
    folder_path: Place,
    store: Place,
    path_in_store: Place = "",
    *,
    allow_patterns: Patterns = None,
    ignore_patterns: Patterns = None,
    **options: Unpack[RunOptions],
) -> Report:
    """Upload a folder into a folder of a store: a `push` with the parameters of `huggingface_hub`.

    `path_in_store` is the folder in the store, "" for the whole store. Uploads the files that match
    one of `allow_patterns`, if given, and none of `ignore_patterns` (gitignore patterns). Equal
    files are not sent again; replaced objects go to the trash. Otherwise as `push`.
    """
    asked = _with_patterns(options, allow_patterns, ignore_patterns)
    with builtin_kinds():
        word = _word_within(word_of(store), os.fspath(path_in_store))
    return _run("push", folder_path, word, asked)


@_with_options(RunOptions, "include", "exclude")
def download_folder(
    folder_path: Place,
    store: Place,
    path_in_store: Place = "",
    *,
    allow_patterns: Patterns = None,
    ignore_patterns: Patterns = None,
    **options: Unpack[RunOptions],
) -> Report:
    """Download a folder of a store into a folder, which is created if missing. The reverse of `upload_folder`."""
    asked = _with_patterns(options, allow_patterns, ignore_patterns)
    with builtin_kinds():
        word = _word_within(word_of(store), os.fspath(path_in_store))
    return _run("pull", folder_path, word, asked)


def _with_patterns(options: RunOptions, allow: Patterns, ignore: Patterns) -> RunOptions:
    given = {"include": allow, "exclude": ignore}
    patterns = {
        name: [value] if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
    return cast(RunOptions, {**options, **patterns})


def _word_within(word: str, path: str) -> str:
    """Return the word for a folder of a store."""
    inside = path.strip("/")
    if inside in ("", "."):
        return word
    if reason := refusal(inside):
        raise UsageError(
            f"path_in_store: {path!r} is not a folder of a store: {reason}.",
            remedy="Use a relative path such as models/2026.",
        )
    if not is_path(word) and "://" not in word and ":" not in word:
        return f"{word}:{inside}"
    return word + inside if word.endswith(("/", ":")) else f"{word}/{inside}"


def _words(root: Place, store: Place | None) -> list[str]:
    return [os.fspath(root)] if store is None else [os.fspath(root), word_of(store)]


def _run(name: str, root: Place, store: Place | None, options: RunOptions) -> Report:
    with builtin_kinds():
        words = _words(root, store)
        return _shown(name, options, lambda asked: runs.run(name, words, asked))


def _shown(name: str, options: Any, call: Callable[[Any], R]) -> R:
    """Call a run, showing its progress in a notebook or on a terminal."""
    wanted = options.get("progress", True)
    if not isinstance(wanted, bool):
        raise UsageError(f"progress: {wanted!r} is not a bool.", remedy="Use True or False.")
    on_event: OnEvent | None = options.get("on_event")
    with showing(name, on_event, waits, wanted=wanted) as hear:
        return call({**options, "on_event": hear})
