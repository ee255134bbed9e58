"""Uploads in a real browser: paused, broken off, given up, and gone on with after a reload."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from support import wait_until
from web_support import Live, live

from tasks import media
from tasks.config import Config

if TYPE_CHECKING:
    from conftest import Pages

SIZE = 6_000_000
Visit = Callable[..., Page]


@pytest.fixture
def still(config: Config) -> Iterator[Live]:
    """A server without a worker: jobs stay as they are put."""
    with live(config) as server:
        yield server


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "long talk.wav"
    path.write_bytes(os.urandom(SIZE))
    return path


def upload(page: Page) -> Locator:
    return page.get_by_role("list", name="Uploads").get_by_role("listitem")


def throttle(page: Page, rate: int) -> None:
    """Bytes a second upwards; -1: as fast as it goes."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    speed = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate}
    session.send("Network.emulateNetworkConditions", speed)


def arrived(server: Live, path: Path) -> None:
    """Wait until the job waits in line, with every byte."""
    wait_until(lambda: server.states() == ["queued"], 60)
    [folder] = server.folders()
    assert media.source(server.config, folder.name).read_bytes() == path.read_bytes()


def test_an_upload_is_paused_and_goes_on(still: Live, visit: Visit, recording: Path) -> None:
    page = visit(still.url)
    throttle(page, 1_000_000)
    page.set_input_files("#file", recording)
    expect(upload(page)).to_contain_text(re.compile(r"[1-9]\d?% · .+/s · .+ left"))
    page.get_by_role("button", name="Pause").click()
    expect(upload(page)).to_contain_text(re.compile("Paused at [1-9]"))
    wait_until(lambda: not still.app.state.uploads, 20)
    assert still.states() == ["receiving"]
    throttle(page, -1)
    page.get_by_role("button", name="Resume").click()
    expect(upload(page)).to_have_count(0)
    arrived(still, recording)


def test_an_upload_goes_on_by_itself_after_a_lost_connection(
    still: Live, visit: Visit, pages: Pages, recording: Path
) -> None:
    pages.allow("ERR_")
    page = visit(still.url)
    lost = True

    def patch(route: Route) -> None:
        if lost and route.request.method == "PATCH":
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/api/v1/uploads/*", patch)
    page.set_input_files("#file", recording)
    expect(upload(page)).to_contain_text(re.compile("The connection is lost; going on in [12] s"))
    lost = False
    expect(upload(page)).to_have_count(0)
    arrived(still, recording)


def test_an_upload_goes_on_after_a_reload_once_its_file_is_chosen_again(
    still: Live, visit: Visit, recording: Path
) -> None:
    page = visit(still.url)
    page.on("dialog", lambda dialog: dialog.accept())
    throttle(page, 1_000_000)
    page.set_input_files("#file", recording)
    expect(upload(page)).to_contain_text(re.compile(r"[1-9]\d% "))
    page.reload()
    expect(upload(page)).to_contain_text(re.compile(r"^\s*long talk.wav\s+[1-9]\d?% of 6 MB sent before"))
    [folder] = still.folders()
    before = media.arrived(still.config, folder.name)
    assert 0 < before < SIZE
    throttle(page, -1)
    with page.expect_request(lambda request: request.method == "PATCH") as sent, page.expect_file_chooser() as chooser:
        upload(page).get_by_role("button", name="Choose file").click()
        chooser.value.set_files(recording)
    assert int(sent.value.headers["upload-offset"]) == before
    expect(upload(page)).to_have_count(0)
    arrived(still, recording)
    page.reload()
    page.wait_for_load_state("networkidle")
    expect(upload(page)).to_have_count(0)


def test_an_upload_that_is_given_up_leaves_nothing_on_the_box(still: Live, visit: Visit, recording: Path) -> None:
    page = visit(still.url)
    throttle(page, 300_000)
    page.set_input_files("#file", recording)
    expect(upload(page)).to_contain_text("left")
    page.get_by_role("button", name="Cancel").click()
    expect(upload(page)).to_have_count(0)
    wait_until(lambda: (still.states(), still.folders()) == ([], []), 30)


def test_two_files_go_up_at_once_and_the_third_waits(still: Live, visit: Visit, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.wav" for name in ("one", "two", "three")]
    for file in files:
        file.write_bytes(os.urandom(SIZE))
    page = visit(still.url)
    throttle(page, 1_000_000)
    page.set_input_files("#file", files)
    expect(upload(page).nth(0)).to_contain_text("left")
    expect(upload(page).nth(1)).to_contain_text("left")
    expect(upload(page).nth(2)).to_contain_text("Waiting · 6 MB")
    throttle(page, -1)
    wait_until(lambda: page.wait_for_timeout(100) or still.states() == ["queued"] * 3, 60)


@pytest.mark.parametrize("body", ['{"message": "no upstream"}', "<h1>Bad gateway</h1>", "null", ""])
def test_a_proxy_s_own_answer_is_waited_out(
    still: Live, visit: Visit, pages: Pages, recording: Path, body: str
) -> None:
    pages.allow("503")
    page = visit(still.url)
    page.route(
        "**/api/v1/uploads", lambda route: route.fulfill(status=503, body=body, headers={"Retry-After": "2"}), times=1
    )
    page.get_by_label("choose files").set_input_files(recording)
    expect(upload(page)).to_contain_text(re.compile("The box is busy; trying again in [12] s"))
    arrived(still, recording)
