"""What mkdocs calls while it builds the site: pages that are made, links that lead out of docs/, a last check."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# A hook is loaded from its file, and knows nothing of those beside it.
sys.path.append(str(Path(__file__).parent))
import manual

MADE = {"commands.md"}
"""Pages that are made while the site is built."""
_OUTSIDE = re.compile(r"\[([^\]\[]*)\]\(\.\./[^)\s]*\)")
_ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+rel=["']?(?:stylesheet|preload|preconnect)[^>]+href=["']?(?:https?:)?//"""
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave pages out of the navigation that do not exist."""
    config.nav = _existing(config.nav or [], Path(config.docs_dir))
    return config


def _existing(entries: list[Any], folder: Path) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        [(title, target)] = entry.items()
        if isinstance(target, list):
            kept.append({title: _existing(target, folder)})
        elif target in MADE or (folder / target).is_file():
            kept.append(entry)
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the command reference."""
    page = manual.reference(manual.whole())
    files.append(File.generated(config, "commands.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Name files of the repository without a link: the site does not hold them."""
    return _OUTSIDE.sub(lambda found: found[1], markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that would load something from another host."""
    for file in Path(config.site_dir).rglob("*.html"):
        if found := _ELSEWHERE.search(file.read_text("utf-8")):
            raise PluginError(f"{file} loads something from another host: {found[0]}")
