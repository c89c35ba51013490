"""The pages of larger work: from one store to another, and a plan that is reviewed before it is carried out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from secrets import token_urlsafe
from typing import TextIO, cast

from fastapi import FastAPI
from nicegui import background_tasks, ui
from nicegui.events import UploadEventArguments
from starlette.responses import FileResponse, PlainTextResponse, Response

from craftsync import runs
from craftsync.config import pairs, places
from craftsync.config.options import MigrateOptions
from craftsync.config.pairs import Pair
from craftsync.core.model import Mode
from craftsync.engine import planfile
from craftsync.engine.report import ActionEvent, Event, OnEvent, Report
from craftsync.errors import UsageError
from craftsync.linked_folders import open_pair
from craftsync.migrate import command
from craftsync.ui import jobs, page
from craftsync.ui.workspace import Workspace
from craftsync.wording import counted, size_shown

_MOST_SHOWN = 500
_LARGEST_PLAN = 256 << 20
_PLANS: list[tempfile.TemporaryDirectory[str]] = []
"""The folder of the plans; removed when the server ends."""


def register(app: FastAPI, workspace: Workspace) -> None:
    @ui.page("/migrate")
    async def migrate() -> None:
        with page.frame(workspace, "Migrate", "/migrate"):
            _Migrate(workspace).build()

    @ui.page("/plan")
    async def plan(folder: str = "", file: str = "") -> None:
        with page.frame(workspace, "Plan", "/plan"):
            _PlanPage(workspace).build(folder, file)

    @app.get("/plan/file", response_model=None)
    async def plan_file(file: str = "") -> Response:
        if file not in workspace.plans:
            return PlainTextResponse("No such plan.", 404)
        return FileResponse(workspace.plans[file], filename="plan.jsonl")


class _Migrate:
    """From one store to another: the estimate, then the copying."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._planned: list[ActionEvent] = []

    def build(self) -> None:
        page.text("Migrate", tag="h1")
        page.text(
            "Copies what the source has and the target has not. It can be stopped and run again.",
            "muted",
        )
        with ui.element("div").classes("two"):
            words = list(page.stores(self._workspace))
            self._source = page.word("From", words)
            self._target = page.word("To", words)
        with ui.element("div").classes("line"):
            self._delete = ui.checkbox("Delete what only the target has")
            self._only_new = ui.checkbox("Leave what the target has already")
        with ui.row().classes("line"):
            ui.button("Estimate", on_click=page.once(partial(self._begin, dry_run=True))).props(
                "outline"
            )
            ui.button("Copy", on_click=page.once(partial(self._begin, dry_run=False))).props(
                "unelevated"
            )
        self._list = ui.element("div").classes("stack")
        jobs.Board(self._workspace, "/migrate", self._ended)

    async def _begin(self, *, dry_run: bool) -> None:
        async with page.errors_shown():
            source, target = (field.value.strip() for field in (self._source, self._target))
            if not source or not target:
                raise UsageError("Choose where from and where to.")
            if not dry_run and not await page.confirmed(
                f"Copy {source} to {target}?", _what_copy_does(delete=self._delete.value), "Copy"
            ):
                return
            title = f"{'Estimate: ' if dry_run else ''}{source} to {target}"
            self._planned = []
            asked = self._asked(dry_run=dry_run)
            jobs.begin(
                self._workspace,
                title,
                "/migrate",
                lambda hear: self._run(source, target, asked, hear),
            )

    def _asked(self, *, dry_run: bool) -> MigrateOptions:
        asked = dict(self._workspace.where)
        asked |= {"dry_run": dry_run, "delete": bool(self._delete.value)}
        asked |= {"no_overwrite": bool(self._only_new.value)}
        return cast(MigrateOptions, asked)

    def _run(self, source: str, target: str, asked: MigrateOptions, hear: OnEvent) -> Report:
        def on_event(event: Event) -> None:
            is_planned = isinstance(event, ActionEvent) and event.status == "planned"
            if is_planned and len(self._planned) < _MOST_SHOWN:
                self._planned.append(cast(ActionEvent, event))
            hear(event)

        asked["on_event"] = on_event
        return command.run(source, target, asked)

    def _ended(self, job: jobs.Job) -> None:
        """Show the result of an estimate, or the place of the manifest, below the job."""
        report = job.report
        requests, manifest = getattr(report, "requests", 0), getattr(report, "manifest", None)
        page.facts({"Requests, about": requests or None, "Manifest": manifest})
        if self._planned:
            rows = [(one.path, one.action, size_shown(one.size)) for one in self._planned]
            page.table(("Path", "What", "Size"), rows, (2,))


def _what_copy_does(*, delete: bool) -> str:
    if delete:
        return "The target is made the same: what only it has goes to its trash."
    return "Nothing is deleted. What is replaced stays in the target's trash."


@dataclass(slots=True)
class _PlanPage:
    """A plan: made for a linked folder or read from a file, reviewed, then carried out."""

    workspace: Workspace

    def build(self, folder: str, file: str) -> None:
        with ui.element("div").classes("head"):
            page.text("Plan", tag="h1")
            ui.space()
            pair = page.folder_choice(self.workspace, "/plan", folder)
        page.text("What a run would do. Review it, then have exactly that done.", "muted")
        with ui.element("div").classes("line"):
            if pair is not None:
                self._making(pair)
            upload = ui.upload(on_upload=self._open, auto_upload=True, max_file_size=_LARGEST_PLAN)
            upload.props("accept=.jsonl").style("display: none")
            choose = partial(upload.run_method, "pickFiles")
            ui.button("Open a plan file", on_click=choose).props("outline")
        box = ui.element("div").classes("stack")
        jobs.Board(self.workspace, "/plan")
        if file:

            async def show() -> None:
                await page.filled(box, lambda: self._show(file))

            background_tasks.create(show(), context=box)

    def _making(self, pair: Pair) -> None:
        modes = {"": "As configured", **{str(mode): str(mode) for mode in Mode}}
        mode = page.choice(modes, "", "Mode").style("min-width: 150px")

        async def make() -> None:
            async with page.errors_shown():
                file = self._new()
                await self.workspace.in_thread(
                    self._write, pair, mode.value, self.workspace.plans[file]
                )
                ui.navigate.to(page.link("/plan", file=file))

        ui.button("Make a plan", on_click=page.once(make)).props("unelevated")

    def _new(self) -> str:
        """Return the key of a new plan file."""
        if not _PLANS:
            _PLANS.append(tempfile.TemporaryDirectory(prefix="craftsync-plans-"))
        file = token_urlsafe(8)
        self.workspace.plans[file] = Path(_PLANS[0].name) / f"{file}.jsonl"
        return file

    def _write(self, pair: Pair, mode: str, file: Path) -> None:
        asked = self.workspace.asked
        options = runs.options_for(pair, asked, Mode(mode) if mode else None)
        options = replace(options, dry_run=True)
        with (
            file.open("w", encoding="utf-8", errors="backslashreplace") as lines,
            open_pair(pair, self.workspace.state_dir, read_only=True, create_store=True) as session,
        ):
            session.write_plan(options, lines)

    async def _open(self, event: UploadEventArguments) -> None:
        file = self._new()
        await event.file.save(self.workspace.plans[file])
        ui.navigate.to(page.link("/plan", file=file))

    async def _show(self, file: str) -> None:
        if file not in self.workspace.plans:
            raise UsageError(
                "This plan no longer exists.", remedy="Make it again, or open its file."
            )
        plan, steps, count = await self.workspace.in_thread(self._read, file)
        with ui.element("section").classes("card"):
            page.facts(
                {
                    "Folder": plan.root,
                    "Store": plan.store,
                    "Mode": str(plan.policy.mode),
                    "Steps": f"{count:,}",
                }
            )
            if not steps:
                page.empty("done_all", "There is nothing to do.")
                return
            with ui.row().classes("line"):
                ui.button(
                    "Apply", on_click=page.once(partial(self._apply, file, plan, count))
                ).props("unelevated")
                ui.link("Download the plan", page.link("/plan/file", file=file))
            page.table(("Path", "What", "Why"), steps)
            if count > len(steps):
                page.text(f"and {count - len(steps):,} more", "muted")

    def _read(self, file: str) -> tuple[planfile.PlanFile, list[tuple[str, str, str]], int]:
        with _lines(self.workspace.plans[file]) as lines:
            plan = planfile.read(lines)
            shown = islice(plan.actions, _MOST_SHOWN)
            steps = [(action.path, str(action.kind), action.rule) for action in shown]
            return plan, steps, len(steps) + sum(1 for _ in plan.actions)

    async def _apply(self, file: str, plan: planfile.PlanFile, count: int) -> None:
        async with page.errors_shown():
            if await page.confirmed(
                f"Do these {counted(count, 'step')}?",
                f"In {plan.root} and {plan.store}. A step that no longer fits is skipped and listed.",
                "Apply",
            ):
                path = self.workspace.plans[file]
                jobs.begin(
                    self.workspace, "Plan", "/plan", lambda hear: self._carry_out(path, hear)
                )

    def _carry_out(self, file: Path, hear: OnEvent) -> Report:
        asked = self.workspace.asked
        with _lines(file) as lines:
            plan = planfile.read(lines)
            pair = pairs.remembered(plan.root, plan.store, asked)
            options = replace(runs.options_for(pair, asked, plan.policy.mode), policy=plan.policy)
            places.refuse_nesting(pair.root, pair.location)
            with runs.opened_for(pair, options, asked) as session:
                return session.apply_plan(plan.actions, options, hear)


@contextmanager
def _lines(file: Path) -> Iterator[TextIO]:
    with file.open(encoding="utf-8", errors="backslashreplace") as lines:
        yield lines
