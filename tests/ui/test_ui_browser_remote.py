"""What is done with objects, clicked through on a store of the platform and on a bucket."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support import servers
from tests.support.cli import Craftsync, until
from tests.support.pages import Ui, showing
from tests.support.servers import S3Server
from tests.support.serving import TOKEN, serving

pytestmark = pytest.mark.browser

KINDS = ("platform", "bucket")
CONFIG = """\
environments:
  platform: {{store: craft-ai, url: "{url}", control_url: "{url}"}}
  bucket: {{store: s3, bucket: pages, endpoint_url: "{endpoint}"}}
  versioned: {{store: s3, bucket: versioned, endpoint_url: "{moto}"}}
  platform-copy: {{store: directory, path: platform-copy}}
  bucket-copy: {{store: directory, path: bucket-copy}}
folders:
  platform-work: {{root: platform-work, environment: "platform:work"}}
  bucket-work: {{root: bucket-work, environment: "bucket:work"}}
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the servers keep the objects; what is there before they start."""
    folder = tmp_path_factory.mktemp("stores")
    found = {"platform": folder / "platform", "bucket": folder / "buckets/pages"}
    for path in found.values():
        (path / "own/models").mkdir(parents=True)
        for name in ("own/models/1.bin", "own/a.txt"):
            (path / name).write_text(name)
    return found


@pytest.fixture(scope="module")
def ui(
    stores: dict[str, Path], moto: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ui]:
    craftsync = Craftsync(tmp_path_factory.mktemp("remote"))
    with (
        serving(stores["platform"]) as platform,
        servers.rclone(stores["bucket"].parent) as bucket,
    ):
        craftsync.config.write_text(
            CONFIG.format(url=platform.url, endpoint=bucket.endpoint, moto=moto.endpoint)
        )
        craftsync.environment |= {
            "CRAFT_AI_SDK_TOKEN": TOKEN,
            "AWS_ACCESS_KEY_ID": bucket.access_key,
            "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
        }
        with showing(craftsync) as ui:
            ui.enter()
            yield ui


def show(page: Page, ui: Ui, kind: str, folder: str) -> None:
    page.goto(f"{ui.address}/store?{urlencode({'at': kind, 'folder': folder})}")


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def pick(page: Page, name: str) -> None:
    row(page, name).get_by_role("checkbox").click()


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_folders_go_up_and_come_down(
    page: Page, ui: Ui, stores: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    (tmp_path / "project/deep").mkdir(parents=True)
    (tmp_path / "project/deep/b.csv").write_text("id,name\n1,Zoé\n")
    (tmp_path / "août.bin").write_bytes(b"x" * 3_000_000)
    show(page, ui, kind, "up")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "août.bin")
    expect(row(page, "août.bin")).to_be_visible()
    page.locator("input[webkitdirectory]").set_input_files(tmp_path / "project")
    expect(row(page, "project")).to_be_visible()
    assert (stores[kind] / "up/août.bin").read_bytes() == b"x" * 3_000_000
    pick(page, "août.bin")
    with page.expect_download() as one:
        page.get_by_role("button", name="Download").click()
    assert Path(one.value.path()).stat().st_size == 3_000_000
    pick(page, "project")
    with page.expect_download() as both:
        page.get_by_role("button", name="Download").click()
    with zipfile.ZipFile(both.value.path()) as archive:
        assert sorted(archive.namelist()) == ["août.bin", "project/deep/b.csv"]
    page.goto(f"{ui.address}/object?{urlencode({'at': kind, 'path': 'up/project/deep/b.csv'})}")
    expect(page.get_by_text("1 row, 2 columns")).to_be_visible()


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_renamed_copied_moved_and_deleted_and_come_back(
    page: Page, ui: Ui, stores: dict[str, Path], kind: str
) -> None:
    show(page, ui, kind, "own")
    pick(page, "a.txt")
    page.get_by_role("grid").press("F2")
    page.get_by_label("New name of a.txt").fill("b.txt")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(row(page, "b.txt")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(row(page, "a.txt")).to_be_visible()
    for name, there in (("Copy", "own/copied"), ("Move", "own/moved")):
        pick(page, "models")
        page.get_by_role("button", name=name, exact=True).first.click()
        page.get_by_label("Folder; empty is the whole store").fill(there)
        page.get_by_role("dialog").get_by_role("button", name=name).click()
        expect(row(page, there.removeprefix("own/"))).to_be_visible()
        assert (stores[kind] / there / "models/1.bin").read_text() == "own/models/1.bin"
    expect(row(page, "models")).to_be_hidden()
    pick(page, "copied")
    page.get_by_role("grid").press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row(page, "copied")).to_be_hidden()
    assert not (stores[kind] / "own/copied/models/1.bin").exists()
    page.keyboard.press("Control+z")
    expect(row(page, "copied")).to_be_visible()
    assert (stores[kind] / "own/copied/models/1.bin").read_text() == "own/models/1.bin"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_deleted_comes_back_from_the_trash_and_is_migrated(
    page: Page, ui: Ui, stores: dict[str, Path], kind: str
) -> None:
    for name in ("keep.txt", "gone.txt"):
        ui.craftsync.write(f"{kind}-work/{name}", name)
    gone = ui.craftsync.folder / f"{kind}-work/gone.txt"
    assert ui.craftsync("sync", f"{kind}-work").code == 0
    gone.unlink()
    assert ui.craftsync("sync", f"{kind}-work").code == 0
    page.goto(f"{ui.address}/trash?folder={kind}-work")
    page.get_by_text(": 1 version").click()
    page.get_by_role("button", name="Restore all of these").click()
    until(lambda: page.get_by_text("1 restored").count() and gone.exists(), "the restored file")
    page.goto(f"{ui.address}/migrate")
    page.get_by_label("From", exact=True).fill(f"{kind}:work")
    page.get_by_label("To", exact=True).fill(f"{kind}-copy")
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    expect(page.get_by_role("region", name=f"{kind}:work to")).to_contain_text("1 copied")
    assert (ui.craftsync.folder / f"{kind}-copy/keep.txt").read_text() == "keep.txt"


def test_a_delete_in_a_bucket_with_versions_is_undone(page: Page, ui: Ui, moto: S3Server) -> None:
    moto.make_bucket("versioned")
    moto.keep_versions("versioned")
    client = moto.client()
    for body in (b"old", b"new"):
        client.put_object(Bucket="versioned", Key="v.txt", Body=body, ContentType="text/x-mine")
    show(page, ui, "versioned", "")
    pick(page, "v.txt")
    page.get_by_role("grid").press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row(page, "v.txt")).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(row(page, "v.txt")).to_be_visible()
    found = client.get_object(Bucket="versioned", Key="v.txt")
    assert (found["Body"].read(), found["ContentType"]) == (b"new", "text/x-mine")
    client.close()
