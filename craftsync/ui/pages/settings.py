"""The pages Configuration (each setting and its origin) and Doctor (findings and remedies).

No configuration file contains secrets; of variables, only the names are shown.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from nicegui import background_tasks, ui

from craftsync import linked_folders
from craftsync.config import edit, options, pairs, places
from craftsync.config import file as configuration
from craftsync.config.file import Config
from craftsync.config.options import Option
from craftsync.config.pairs import Pair
from craftsync.config.places import CraftAiLocation, DirectoryLocation
from craftsync.doctor.examination import examine
from craftsync.doctor.report import Finding, Level
from craftsync.errors import CraftsyncError, UsageError
from craftsync.open_store import open_store, spelled_out
from craftsync.ui import page
from craftsync.ui.workspace import Workspace
from craftsync.wording import counted

_SECTIONS = {"folders": "Folders", "environments": "Environments"}
_COLOURS = {Level.OK: "ok", Level.NOTE: "", Level.WARNING: "warn", Level.ERROR: "bad"}


def register(workspace: Workspace) -> None:
    @ui.page("/config")
    async def config() -> None:
        with page.frame(workspace, "Configuration", "/config"):
            _Settings(workspace).build()

    @ui.page("/doctor")
    async def doctor() -> None:
        with page.frame(workspace, "Doctor", "/doctor"):
            _Doctor(workspace).build()


class _Settings:
    """The configuration, and a form for a new linked folder."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def build(self) -> None:
        page.text("Configuration", tag="h1")
        page.facts(
            {
                "File": self._workspace.config_file,
                "State": self._workspace.state_dir,
                "Variables": ", ".join(_variables()) or "none of CRAFTSYNC_* is set",
            }
        )
        page.text("Precedence: flag, CRAFTSYNC_* variable, this file, default.", "muted")
        self._form()
        self._box = ui.element("div").classes("stack")
        background_tasks.create(self._show(), context=self._box)

    async def _show(self) -> None:
        async def build() -> None:
            config, content = await self._workspace.in_thread(self._read)
            for section, title in _SECTIONS.items():
                self._section(section, title, content.get(section) or {}, config)

        await page.filled(self._box, build)

    def _read(self) -> tuple[Config, dict[str, Any]]:
        file = self._workspace.config_file
        if not file.exists():
            return Config(), {}
        return self._workspace.config(), configuration.read_yaml(file.read_text("utf-8")) or {}

    def _section(
        self, section: str, title: str, entries: dict[str, dict[str, Any]], config: Config
    ) -> None:
        page.text(title, tag="h2")
        if not entries:
            page.empty("inbox", f"No {title.lower()} yet.", "Link a folder with the form above.")
        for name, keys in entries.items():
            with (
                ui.expansion(f"{name}: {_place_of(section, name, config)}")
                .classes("card")
                .props("dense dense-toggle")
            ):
                rows = list(_rows(section, keys))
                page.table(("Key", "Value", "Comes from"), rows, name=name)
                with ui.row().classes("line"):
                    if section == "environments":
                        ui.button("Test", on_click=page.once(partial(self._test, name))).props(
                            "outline dense"
                        )
                    ui.button(
                        "Remove",
                        on_click=page.once(partial(self._remove, section, name)),
                    ).props("flat dense color=negative")

    async def _test(self, word: str) -> None:
        async with page.errors_shown():
            ui.notify(await self._workspace.in_thread(self._tried, word), type="positive")

    def _tried(self, word: str) -> str:
        """List the beginning of a store; raises its error."""
        location = places.resolve(word, self._known(), pairs.access_of(self._workspace.where))
        if isinstance(location, DirectoryLocation) and not location.path.is_dir():
            return f"{location} does not exist yet; it will be created"
        with open_store(location, create=False) as store:
            first = next(iter(store.list()), None)
        return f"{location} answers; " + ("it is empty" if first is None else "it has objects")

    def _known(self) -> Config:
        return self._workspace.config() if self._workspace.config_file.exists() else Config()

    async def _remove(self, section: str, name: str) -> None:
        async with page.errors_shown():
            if await page.confirmed(
                f"Remove {name} from the configuration?", "No file of it is touched.", "Remove"
            ):
                await self._workspace.in_thread(self._removed, section, name)
                ui.notify(f"{name} removed. A running daemon notices with craftsync reload.")
        await self._show()

    def _removed(self, section: str, name: str) -> None:
        file, config = self._workspace.config_file, self._workspace.config()
        users = [
            each
            for each, folder in config.folders.items()
            if folder.environment.partition(":")[0] == name
        ]
        if section == "environments" and users:
            raise UsageError(
                f"{name} is the store of {', '.join(users)}.", remedy="Remove these first."
            )
        edit.write(file, edit.without_entry(file.read_text("utf-8"), file, section, name))
        self._workspace.forget_stores()

    def _form(self) -> None:
        """The form for a new linked folder: its path, its store and its name."""
        with ui.expansion("Link a folder", icon="add").classes("card").props("dense dense-toggle"):
            with ui.element("div").classes("two"):
                root = ui.input("Folder on this machine").props("outlined dense")
                store = page.word("Store", self._words())
                name = ui.input("Name; empty is that of the folder").props("outlined dense")
            page.text(
                "A store is an environment, s3://bucket/prefix, craft-ai:// or the path of a folder."
                " For a folder that was not synced before, replaced and deleted versions, and the"
                f" history, are kept for {edit.NEW_DAYS} days; the setting trash of the folder changes that.",
                "muted",
            )

            async def test() -> None:
                async with page.errors_shown():
                    ui.notify(
                        await self._workspace.in_thread(self._tried, self._checked(root, store)[1]),
                        type="positive",
                    )

            async def add() -> None:
                async with page.errors_shown():
                    place, word = self._checked(root, store)
                    await self._workspace.in_thread(self._tried, word)
                    made, note = await self._workspace.in_thread(
                        self._added, place, word, name.value or ""
                    )
                    ui.notify(
                        f"{made} is linked. See the overview, and choose Run now. {note}".rstrip(),
                        type="positive",
                        multi_line=True,
                    )
                    await self._show()

            with ui.row().classes("line"):
                ui.button("Test the connection", on_click=page.once(test)).props("outline")
                ui.button("Link", on_click=page.once(add)).props("unelevated")

    def _words(self) -> list[str]:
        return list(self._known().environments) if not self._broken() else []

    def _broken(self) -> bool:
        try:
            self._known()
        except CraftsyncError:
            return True
        return False

    def _checked(self, root: ui.input, store: ui.input) -> tuple[str, str]:
        if not root.value or not store.value:
            raise UsageError("A folder and a store are needed.")
        return str(places.absolute(root.value.strip())), store.value.strip()

    def _added(self, root: str, store: str, name: str) -> tuple[str, str]:
        """Add a folder and its store to the configuration; return its name, and a note on its trash."""
        file, known = self._workspace.config_file, self._known()
        name = name.strip() or edit.name_of(root)
        location = places.resolve(store, known, pairs.access_of(self._workspace.where))
        edit.refuse_name(name, file, known.folders, "a folder")
        edit.refuse_root(root, known)
        if isinstance(location, CraftAiLocation) and not edit.is_environment(store, known):
            edit.refuse_same_token(location, known)
            location = spelled_out(location)
        places.refuse_nesting(Path(root), location)
        old = file.read_text("utf-8") if file.exists() else ""
        is_new = linked_folders.is_new(Pair(Path(root), location), known, self._workspace.state_dir)
        entries = edit.new_entries(known, name, root, store, location, is_new=is_new)
        content = edit.with_entries(old, file, entries)
        for folder in (Path(root), getattr(location, "path", None)):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        edit.write(file, content)
        self._workspace.forget_stores()
        return name, edit.note_on_trash(entries, file)


def _variables() -> list[str]:
    """Return the names of the set variables that craftsync reads; their values may be secret."""
    own = [name for name in os.environ if name.startswith("CRAFTSYNC_")]
    others = ("CRAFT_AI_SDK_TOKEN", "CRAFT_AI_ENVIRONMENT_URL", "AWS_PROFILE", "AWS_ACCESS_KEY_ID")
    return sorted([*own, *(name for name in others if name in os.environ)])


def _place_of(section: str, name: str, config: Config) -> str:
    if section == "folders":
        folder = config.folders[name]
        return f"{folder.root} ⇄ {folder.environment}"
    return places.address_of(places.resolve(name, config))


def _rows(section: str, keys: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return each key with its value and the origin of the value; set keys come first."""
    rows = options.keys("folder")
    if section == "environments":
        rows = (Option("store", "The kind of store."), *options.keys(keys["store"]))
    found = []
    for option in rows:
        variable = f"CRAFTSYNC_{option.name.upper()}"
        if option.group is not None and variable in os.environ:
            found.append((option.name, os.environ[variable], f"variable {variable}"))
        elif keys.get(option.name) is not None:
            found.append((option.name, edit.in_yaml(keys[option.name]), "file"))
        elif option.default:
            found.append((option.name, option.default, "default"))
    return sorted(found, key=lambda row: row[2] == "default")


class _Doctor:
    """The findings of the doctor."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def build(self) -> None:
        with ui.element("div").classes("head"):
            page.text("Doctor", tag="h1")
            ui.space()
            ui.button("Examine again", icon="refresh", on_click=page.once(self._show)).props(
                "outline dense"
            )
        page.text("What could keep craftsync from working here, and what to do about it.", "muted")
        self._box = ui.element("div").classes("stack")
        background_tasks.create(self._show(), context=self._box)

    async def _show(self) -> None:
        async def build() -> None:
            findings = await self._workspace.in_thread(self._examined)
            grave = [one for one in findings if one.level in (Level.ERROR, Level.WARNING)]
            page.text(
                counted(len(grave), "finding") + " to review",
                "warn" if grave else "ok",
            )
            fine = [one for one in findings if one.level is Level.OK]
            for finding in sorted(findings, key=lambda one: -list(Level).index(one.level)):
                if finding.level is not Level.OK:
                    _finding(finding)
            name = f"{len(fine)} in order"
            with ui.expansion(name).classes("card").props("dense dense-toggle"):
                for finding in fine:
                    _finding(finding)

        await page.filled(self._box, build)

    def _examined(self) -> list[Finding]:
        where = self._workspace.where
        return list(
            examine(
                None,
                config_file=where.get("config"),
                state_dir=self._workspace.state_dir,
                access=pairs.access_of(where),
            )
        )


def _finding(finding: Finding) -> None:
    with ui.element("div").classes("line").style("align-items: baseline; flex-wrap: nowrap"):
        page.text(finding.level, f"tag {_COLOURS[finding.level]}").style(
            "width: 66px; text-align: center; flex: none"
        )
        with ui.element("div").classes("grow"):
            page.text(f"{finding.name}: {finding.detail}", "wrap")
            if finding.remedy and finding.level is not Level.OK:
                page.text(finding.remedy, "muted wrap")
