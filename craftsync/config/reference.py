"""Generates config.example.yaml and docs/configuration.md from the table of options.

`python -m craftsync.config.reference` writes both; a test checks that they are current.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from craftsync.config.options import OPTIONS, Option, keys

_COLUMN = 27
_WIDTH = 110

_EXAMPLE_HEAD = """\
# The configuration of craftsync: copy it to ~/.config/craftsync/config.yaml
# (or name it with --config or CRAFTSYNC_CONFIG) and keep what you need.
# Precedence: flag, CRAFTSYNC_* variable, this file, default. A relative path starts
# at the folder of this file. Secrets never belong in this file.
"""

_ENVIRONMENTS = {
    "archive": ("directory", "A plain folder used as a store."),
    "prod": ("s3", "A bucket of any S3-compatible service."),
    "dev": ("craft-ai", "A Craft AI environment."),
}

_PAGE_HEAD = """\
# Configuration

<!-- Made by `make reference` from craftsync/config/options.py. -->

Most options can be set in several places. Precedence: flag, `CRAFTSYNC_*` variable, configuration file, default. Patterns add up. In Python, an option is a keyword with the name of its key: `craftsync.push("data", "dev", max_delete="10%")`. Python functions ignore these variables.

The file is `~/.config/craftsync/config.yaml`, or the one that `--config` or `CRAFTSYNC_CONFIG` names. [config.example.yaml](../config.example.yaml) lists every key, and `craftsync config example` prints it. `craftsync init` adds a folder, `craftsync config add` an environment; `craftsync config list` and `show` print entries, `craftsync config remove` removes one. The file is YAML 1.2: `off` and `10:20` are strings. A relative path starts at the folder of the file. An unknown key is an error that names the nearest known key. Secrets never belong in the file.
"""

_SECTIONS = {
    "directory": (
        "environments: NAME: {store: directory}",
        "An environment is a name for a store. This one is a plain folder.",
    ),
    "s3": (
        "environments: NAME: {store: s3}",
        "A bucket of any S3-compatible service. The flags are for an S3 store that is given as a URL.",
    ),
    "craft-ai": (
        "environments: NAME: {store: craft-ai}",
        "An environment of the Craft AI platform. `craft-ai://` is the environment set by the variables `CRAFT_AI_ENVIRONMENT_URL`, `CRAFT_AI_CONTROL_URL` and `CRAFT_AI_SDK_TOKEN`.",
    ),
    "folder": (
        "folders: NAME",
        "A linked folder: a folder and its store. `craftsync sync NAME` synchronises one; `craftsync watch` keeps all of them in sync.",
    ),
    "trash": (
        "trash",
        "How long the trash keeps what this client replaced or deleted: for all folders, and in `folders: NAME: trash` for one of them. See [trash.md](trash.md).",
    ),
    "": ("the top of the file", "For all folders."),
}


def example() -> str:
    """Return the content of config.example.yaml."""
    lines = [_EXAMPLE_HEAD]
    lines += _with_comment(
        "environments:", "Names for stores: `craftsync ls dev`, `craftsync ls dev:models/2026`."
    )
    for name, (store, what) in _ENVIRONMENTS.items():
        lines += [
            *_with_comment(f"  {name}:", what),
            f"    store: {store}",
            *_lines(4, keys(store)),
        ]
    lines += [
        "",
        *_with_comment(
            "folders:",
            "Names for folders and their stores: `craftsync sync datasets`, `craftsync watch`.",
        ),
    ]
    lines += ["  datasets:", *_lines(4, keys("folder")), ""]
    lines += [*_lines(0, keys("")), ""]
    lines += [
        *_with_comment(
            "trash:",
            "How long the trash keeps what this client replaced or deleted, in the folder and in the store.",
        )
    ]
    lines += _lines(2, keys("trash"))
    return "\n".join(lines) + "\n"


def _lines(indent: int, options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        default = "Required." if option.required else f"Default: {option.default}."
        about = " ".join(part for part in (option.help, option.more, default) if part)
        yield from _with_comment(f"{' ' * indent}{option.name}: {option.example}", about)


def _with_comment(start: str, about: str) -> list[str]:
    """Return a line with a comment after it, wrapped onto the following lines."""
    return textwrap.wrap(
        about,
        _WIDTH,
        initial_indent=f"{start:{_COLUMN - 2}}  # ",
        subsequent_indent=f"{'':{_COLUMN}}# ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def page() -> str:
    """Return the content of docs/configuration.md."""
    parts = [_PAGE_HEAD]
    for section, (title, about) in _SECTIONS.items():
        parts.append(f"## `{title}`\n\n{about}\n" if section else f"## At {title}\n\n{about}\n")
        parts.append(_table(keys(section)))
    parts.append("## Flags that are not in the file\n\nThe help of each command lists its flags.\n")
    parts.append(_table(option for option in OPTIONS if option.section is None))
    return "\n".join(parts)


def _table(options: Iterable[Option]) -> str:
    rows = ["| key | flag | variable | default | |", "|---|---|---|---|---|"]
    for option in options:
        key = f"`{option.name}`" if option.section is not None else ""
        is_flag = option.group is not None
        cells = (
            key,
            _flag(option) if is_flag else "",
            f"`{option.variable}`" if is_flag else "",
            "required" if option.required else option.default,
            " ".join(part for part in (option.help, option.more) if part),
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _flag(option: Option) -> str:
    long = option.flag + (f" {option.value}" if option.value else "")
    words = sorted((long, *option.spellings), key=lambda word: word.startswith("--"))
    return ", ".join(f"`{word}`" for word in words)


def main() -> None:
    """Write both files into this project."""
    project = Path(__file__).parents[2]
    (project / "config.example.yaml").write_text(example(), "utf-8")
    (project / "docs" / "configuration.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
