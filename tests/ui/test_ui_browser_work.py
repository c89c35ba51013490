"""Migrate, plan, configuration and doctor, clicked through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from craftsync.daemon.control import folder_of
from tests.support.cli import Craftsync, until
from tests.support.daemons import running
from tests.support.pages import Ui, showing
from tests.support.servers import S3Server
from tests.support.serving import serving

pytestmark = pytest.mark.browser

CONFIG = """\
environments:
  local: {store: directory, path: store}
  other: {store: directory, path: other}
folders:
  work: {root: work, environment: local}
"""


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[Ui]:
    craftsync = Craftsync(tmp_path)
    craftsync.config.write_text(CONFIG)
    for name in ("a.txt", "models/b.bin"):
        craftsync.write(f"work/{name}", name)
    (tmp_path / "other").mkdir()
    assert craftsync("sync", "work").code == 0
    with showing(craftsync) as ui:
        ui.enter()
        yield ui


def choose(page: Page, label: str, name: str) -> None:
    field = page.get_by_label(label, exact=True)
    offered = page.locator(f"datalist[id='{field.get_attribute('list')}'] option")
    assert name in offered.evaluate_all("options => options.map((one) => one.value)")
    field.fill(name)


def test_a_page_is_not_shown_before_it_is_connected(page: Page, ui: Ui) -> None:
    page.route_web_socket("**", lambda connection: None)
    page.goto(f"{ui.address}/config")
    expect(page.locator("main")).to_be_attached()
    expect(page.get_by_role("button", name="Link", exact=True)).to_be_hidden()
    expect(page.locator("main")).to_be_hidden()


def test_a_migration_is_estimated_and_then_made(page: Page, ui: Ui) -> None:
    page.goto(f"{ui.address}/migrate")
    choose(page, "From", "local")
    choose(page, "To", "other")
    page.get_by_role("button", name="Estimate").click()
    expect(page.get_by_text("Would do: 2 copied")).to_be_visible()
    expect(page.get_by_role("cell", name="models/b.bin")).to_be_visible()
    assert not list((ui.craftsync.folder / "other").glob("*.txt"))
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    until((ui.craftsync.folder / "other/models/b.bin").exists, "the copy")
    expect(page.get_by_text("Manifest", exact=True)).to_be_visible()


def test_migration_form_without_a_target_shows_what_is_missing(page: Page, ui: Ui) -> None:
    page.goto(f"{ui.address}/migrate")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Choose where from and where to.")).to_be_visible()


def test_a_plan_is_made_reviewed_and_applied(page: Page, ui: Ui) -> None:
    ui.craftsync.write("work/new.txt", "new")
    page.goto(f"{ui.address}/plan")
    page.get_by_role("button", name="Make a plan").click()
    expect(page.get_by_role("cell", name="new.txt")).to_be_visible()
    assert not (ui.craftsync.folder / "store/new.txt").exists()
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(page.get_by_text("1 uploaded")).to_be_visible()
    assert (ui.craftsync.folder / "store/new.txt").read_text() == "new"


def test_a_plan_file_is_opened_and_applied(page: Page, ui: Ui, tmp_path: Path) -> None:
    ui.craftsync.write("work/filed.txt", "filed")
    ui.craftsync("plan", "work", "-o", str(tmp_path / "p.jsonl"))
    page.goto(f"{ui.address}/plan")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a plan file").click()
    chooser.value.set_files(tmp_path / "p.jsonl")
    expect(page.get_by_role("cell", name="filed.txt")).to_be_visible()


def test_a_folder_is_linked_after_its_store_was_tried(page: Page, ui: Ui) -> None:
    folder = ui.craftsync.folder
    page.goto(f"{ui.address}/config")
    page.get_by_text("Link a folder").first.click()
    page.get_by_label("Folder on this machine").fill(str(folder / "new"))
    page.get_by_label("Store", exact=True).fill("nowhere")
    page.get_by_role("button", name="Test the connection").click()
    expect(page.get_by_text("is not an environment of the configuration")).to_be_visible()
    page.get_by_label("Store", exact=True).fill(str(folder / "new-store"))
    errors = page.locator(".q-notification.bg-negative")
    errors.get_by_role("button", name="Close").click()
    expect(errors).to_have_count(0)
    page.get_by_role("button", name="Link", exact=True).dblclick()
    expect(page.get_by_text("new is linked.")).to_be_visible()
    expect(page.get_by_role("button", name="Link", exact=True)).to_be_enabled()
    expect(errors).to_have_count(0)
    note = "Replaced and deleted versions, and the history, are kept for 30 days; to keep them"
    expect(page.get_by_text(note)).to_be_visible()
    assert "new:" in ui.craftsync.config.read_text()
    assert "trash: {keep: 30d}" in ui.craftsync.config.read_text()
    page.get_by_text("new: ").and_(page.get_by_text("⇄ new")).click()
    expect(page.get_by_role("row", name="trash {keep: 30d} file")).to_be_visible()
    assert ui.craftsync("sync", "new").code == 0


def test_the_configuration_says_where_each_value_comes_from(page: Page, ui: Ui) -> None:
    page.goto(f"{ui.address}/config")
    page.get_by_text("work: ").click()
    expect(page.get_by_role("row", name="environment local file")).to_be_visible()
    expect(page.get_by_role("row", name="poll 30 default")).to_be_visible()


def test_the_doctor_shows_its_findings(page: Page, ui: Ui) -> None:
    (ui.craftsync.folder / "other").rmdir()
    page.goto(f"{ui.address}/doctor")
    expect(page.get_by_text("1 finding to review")).to_be_visible()


def test_a_daemon_is_paused_and_resumed_and_outlives_the_page(page: Page, ui: Ui) -> None:
    daemon = ui.craftsync.start("watch", "work")
    try:
        page.goto(ui.address)
        expect(page.get_by_text("In sync", exact=True)).to_be_visible()
        expect(page.get_by_text("Next look", exact=True)).to_be_visible()
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("paused", exact=True)).to_be_visible()
        page.get_by_role("button", name="Resume").click()
        ui.craftsync.write("work/live.txt", "live")
        until((ui.craftsync.folder / "store/live.txt").exists, "the daemon to upload")
        ui.stop()
        assert daemon.poll() is None
    finally:
        daemon.terminate()
        daemon.communicate()


def test_pause_without_a_daemon_is_shown_and_ended(page: Page, ui: Ui) -> None:
    assert ui.craftsync("pause", "work").code == 0
    page.goto(ui.address)
    expect(page.get_by_text("Paused since 20")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("No longer paused; no daemon runs")).to_be_visible()
    expect(page.get_by_text("Paused since 20")).to_be_hidden()
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    assert "paused" not in ui.craftsync("status", "work").text


def test_a_folder_outside_its_windows_shows_when_it_continues(page: Page, ui: Ui) -> None:
    day = datetime.now() + timedelta(days=3)
    windows = f'windows: ["{day:%a} 12:00-12:01"]'
    ui.craftsync.config.write_text(CONFIG.replace("local}\n", f"local, {windows}}}\n"))
    with running(ui.craftsync, "work"):
        page.goto(ui.address)
        reason = page.get_by_text(f"outside its windows, continues on {day:%a} at 12:00")
        expect(reason).to_be_visible()
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        expect(page.get_by_role("button", name="Resume")).to_be_hidden()


def test_an_unusable_control_folder_is_shown_on_its_own_card(page: Page, ui: Ui) -> None:
    """A file in its place: no permission would stop this test where root runs it."""
    folder = ui.craftsync.folder
    ui.craftsync.config.write_text(f"{CONFIG}  more: {{root: more, environment: other}}\n")
    control = folder_of(folder / "state", f"{folder}/work", f"{folder}/store")
    control.parent.mkdir(exist_ok=True)
    control.write_text("")
    page.goto(ui.address)
    card = page.get_by_role("region", name="work")
    expect(card.get_by_text(str(control))).to_be_visible()
    more = page.get_by_role("region", name="more")
    expect(more.get_by_text("Nothing keeps it in sync now")).to_be_visible()


def test_two_browsers_see_the_same_job(page: Page, ui: Ui) -> None:
    page.goto(f"{ui.address}/migrate")
    other = page.context.new_page()
    other.goto(f"{ui.address}/migrate")
    choose(page, "From", "local")
    choose(page, "To", "other")
    page.get_by_role("button", name="Estimate").click()
    expect(other.get_by_text("Would do: 2 copied")).to_be_visible()


def test_a_store_of_the_platform_is_browsed(page: Page, ui: Ui, tmp_path: Path) -> None:
    folder = ui.craftsync.folder / "store"
    with serving(folder) as server, showing(ui.craftsync, **server.variables) as at:
        at.enter()
        _browse(page, at, "craft-ai://")


def test_a_bucket_is_browsed(page: Page, ui: Ui, rclone: S3Server) -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": rclone.access_key,
        "AWS_SECRET_ACCESS_KEY": rclone.secret_key,
        "AWS_ENDPOINT_URL": rclone.endpoint,
    }
    rclone.make_bucket("pages")
    store = "s3://pages"
    assert ui.craftsync("push", "work", store, **environment).code == 0
    with showing(ui.craftsync, **environment) as at:
        at.enter()
        _browse(page, at, store)


def _browse(page: Page, at: Ui, word: str) -> None:
    name, _, value = at.cookie.partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": at.address}])
    page.goto(f"{at.address}/store?at={word}&folder=models")
    page.get_by_role("link", name="b.bin", exact=True).click()
    expect(page.get_by_role("region", name="Text")).to_contain_text("models/b.bin")
