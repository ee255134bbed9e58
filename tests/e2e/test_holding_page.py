"""Files that the page holds while the box takes none: they go when there is room, in order, and are not forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from support import wait_until
from web_support import Live, live, put_job

from tasks.config import Config
from tasks.jobs import State
from tasks.store import pace

if TYPE_CHECKING:
    from conftest import Pages

Visit = Callable[..., Page]
PHONE = {"width": 375, "height": 800}
DESK = {"width": 1280, "height": 800}


@pytest.fixture
def still(config: Config) -> Iterator[Live]:
    """A server without a worker, with room for three jobs."""
    with live(config) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_bytes(b"sound of " + path.name.encode())
        return paths

    return make


def rows(page: Page) -> Locator:
    return page.get_by_role("list", name="Uploads").get_by_role("listitem")


def row(page: Page, name: str) -> Locator:
    return rows(page).filter(has_text=name)


def fill(server: Live) -> list[str]:
    return [put_job(server.box, State.QUEUED, f"other {number}.mp3").id for number in range(3)]


def names(server: Live) -> list[str]:
    """Of the jobs that came from the page, in the order they were taken."""
    jobs = httpx.get(server.url + "/api/v1/jobs", params={"limit": 200}).json()["jobs"]
    return [job["source"]["name"] for job in reversed(jobs) if not job["source"]["name"].startswith("other")]


def test_held_files_go_when_there_is_room_in_the_order_they_were_chosen(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages.allow("429")
    monkeypatch.setattr(pace, "FIRST_GUESS_SECONDS", 1000.0)
    jobs = fill(still)
    page = visit(still.url)
    page.set_input_files("#file", files("one.wav", "two.wav", "three.wav"))
    for name in ("one.wav", "two.wav", "three.wav"):
        expect(row(page, name)).to_contain_text(re.compile(r"The box is full; trying again in about \d+ min"))
        expect(row(page, name).get_by_role("button", name="Try now")).to_be_visible()
    expect(page.get_by_text("3 files wait here and are sent as soon as there is room.")).to_be_visible()
    still.box.delete(jobs.pop())
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav"], 20)
    expect(rows(page)).to_have_count(2)
    expect(row(page, "two.wav")).to_contain_text("trying again in about")
    for job in jobs:
        still.box.delete(job)
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav", "two.wav", "three.wav"], 20)
    expect(rows(page)).to_have_count(0)


def test_files_held_by_a_paused_box_go_after_resume(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]]
) -> None:
    pages.allow("503")
    still.box.change_settings({"intake": "paused"}, "a test")
    page = visit(still.url)
    page.set_input_files("#file", files("one.wav"))
    expect(row(page, "one.wav")).to_contain_text("The box is paused; trying again in about 2 min")
    still.box.change_settings({"intake": "open"}, "a test")
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav"], 20)


def test_held_files_leave_the_lanes_to_what_has_a_place(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]]
) -> None:
    """A held file once filled a lane; two of them, and nothing else was ever asked."""
    pages.allow("507")
    told: list[str] = []

    def refuse(route: Route) -> None:
        name = route.request.headers["upload-metadata"]
        if len(told) < 2:
            told.append(name)
            body = '{"error": {"code": "disk_full", "message": "The disk is almost full."}}'
            route.fulfill(status=507, body=body, headers={"Retry-After": "500"})
        else:
            route.continue_()

    page = visit(still.url)
    page.evaluate("document.querySelector('#jobs').removeAttribute('hx-trigger')")
    page.route("**/api/v1/uploads", refuse)
    page.set_input_files("#file", files("one.wav", "two.wav", "three.wav"))
    wait_until(lambda: page.wait_for_timeout(50) or "three.wav" in names(still), 20)


def test_try_now_asks_at_once(still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]]) -> None:
    pages.allow("503")
    page = visit(still.url)
    body = "busy"
    page.route(
        "**/api/v1/uploads",
        lambda route: route.fulfill(status=503, body=body, headers={"Retry-After": "5000"}),
        times=1,
    )
    page.set_input_files("#file", files("one.wav"))
    expect(row(page, "one.wav")).to_contain_text("The box is busy; trying again in about 1.4 h")
    page.get_by_role("button", name="Try now one.wav").click()
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav"], 20)


def test_a_page_that_is_left_tells_what_waited(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]]
) -> None:
    pages.allow("429")
    jobs = fill(still)
    page = visit(still.url)
    page.on("dialog", lambda dialog: dialog.accept())
    chosen = files("one.wav", "two.wav")
    page.set_input_files("#file", chosen)
    expect(row(page, "two.wav")).to_contain_text("trying again in")
    page.goto(still.url + "/limits")
    page.goto(still.url)
    expect(rows(page)).to_contain_text(["one.wav, two.wav"])
    expect(rows(page)).to_contain_text(["2 files were waiting when this page was left: choose them again."])
    for job in jobs:
        still.box.delete(job)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files one.wav, two.wav").click()
    chooser.value.set_files(chosen)
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav", "two.wav"], 20)
    expect(rows(page)).to_have_count(0)
    page.reload()
    page.wait_for_load_state("networkidle")
    expect(rows(page)).to_have_count(0)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_what_goes_wrong_is_in_view(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]], size: dict[str, int], tmp_path: Path
) -> None:
    pages.allow("429")
    fill(still)
    (tmp_path / "empty.wav").touch()
    page = visit(still.url, viewport=size)
    page.set_input_files("#file", [*files(*(f"{number}.wav" for number in range(12))), tmp_path / "empty.wav"])
    expect(page.get_by_text("This file is empty.")).to_be_in_viewport(ratio=1)
    expect(page.get_by_text(re.compile("^The box is full. 12 files wait"))).to_be_in_viewport(ratio=1)
    expect(page.locator("#drop")).to_be_attached()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_that_sends_is_not_left_by_a_click(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]]
) -> None:
    pages.allow("429")
    fill(still)
    page = visit(still.url)
    page.set_input_files("#file", files("one.wav"))
    expect(row(page, "one.wav")).to_contain_text("trying again")
    with page.context.expect_page() as other:
        page.get_by_role("link", name="other 0.mp3").click()
    expect(other.value.get_by_role("heading", name="other 0.mp3")).to_be_visible()
    expect(row(page, "one.wav")).to_be_visible()


def test_a_link_beside_files_is_asked_about(
    still: Live, visit: Visit, pages: Pages, files: Callable[..., list[Path]]
) -> None:
    pages.allow("422")
    page = visit(still.url)
    page.get_by_label("Paste a link").fill("http://10.0.0.1/talk.mp3")
    page.set_input_files("#file", files("one.wav"))
    link = row(page, "http://10.0.0.1/talk.mp3")
    expect(link).to_contain_text("This link is not fetched yet")
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav"], 20)
    expect(page.get_by_label("Paste a link")).to_have_value("http://10.0.0.1/talk.mp3")
    expect(rows(page)).to_have_count(1)
    link.get_by_role("button", name="Fetch").click()
    expect(page.get_by_label("Paste a link")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Paste a link")).to_have_value("http://10.0.0.1/talk.mp3")


def test_an_answer_whose_header_a_proxy_dropped_is_looked_up(
    still: Live, visit: Visit, files: Callable[..., list[Path]]
) -> None:
    page = visit(still.url)

    def strip(route: Route) -> None:
        answer = route.fetch()
        headers = {name: value for name, value in answer.headers.items() if name != "stenobox-job"}
        route.fulfill(response=answer, headers=headers)

    page.route(re.compile("/api/v1/uploads"), strip)
    page.set_input_files("#file", files("one.wav"))
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav"], 20)
    expect(rows(page)).to_have_count(0)
    page.wait_for_timeout(1500)
    assert names(still) == ["one.wav"]


# The question for a model


def test_the_first_file_of_ones_own_asks_for_a_model(
    still: Live, visit: Visit, files: Callable[..., list[Path]]
) -> None:
    page = visit(still.url, fresh=True, viewport=DESK)
    page.set_input_files("#file", files("one.wav", "two.wav"))
    question = page.get_by_role("region", name="Which model is to transcribe your recordings?")
    expect(question).to_be_in_viewport(ratio=1)
    expect(row(page, "one.wav")).to_contain_text("Waiting for the choice of a model")
    expect(question.get_by_role("radio", checked=True)).to_have_count(1)
    chosen = question.get_by_role("radio", checked=True).input_value()
    assert chosen != "demo"
    expect(question).to_contain_text("An hour of speech takes about")
    question.get_by_role("button", name="Use this model").click()
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav", "two.wav"], 20)
    jobs = httpx.get(still.url + "/api/v1/jobs").json()["jobs"]
    assert {job["params"]["model"] for job in jobs} == {chosen}
    expect(question).to_be_hidden()
    wait_until(lambda: page.wait_for_timeout(50) or still.box.limits().model == chosen, 20)
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_have_value(chosen)
    expect(question).to_have_count(0)


def test_a_model_chosen_by_name_is_not_asked_for_again(
    still: Live, visit: Visit, files: Callable[..., list[Path]]
) -> None:
    page = visit(still.url, fresh=True)
    page.get_by_label("Model", exact=True).select_option("demo")
    page.set_input_files("#file", files("one.wav"))
    wait_until(lambda: page.wait_for_timeout(50) or names(still) == ["one.wav"], 20)
    assert still.box.limits().model == "demo"
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_have_value("demo")


def test_without_scripts_the_browser_asks_for_the_model_and_sends_nothing(
    still: Live, visit: Visit, files: Callable[..., list[Path]]
) -> None:
    page = visit(still.url, java_script_enabled=False)
    page.locator("input[type=file]").set_input_files(files("one.wav"))
    page.get_by_role("button", name="Transcribe", exact=True).click()
    expect(page.locator("#model:invalid")).to_have_count(1)
    assert still.states() == []
    page.get_by_label("Model", exact=True).select_option("base")
    page.get_by_role("button", name="Transcribe", exact=True).click()
    expect(page.get_by_role("heading", name="one.wav")).to_be_visible()
    [job] = httpx.get(still.url + "/api/v1/jobs").json()["jobs"]
    assert job["params"]["model"] == "base"


# Again, with another model


def test_a_demo_transcript_says_so_and_runs_again_with_another_model(still: Live, visit: Visit) -> None:
    job = put_job(still.box, State.COMPLETED, "talk.mp3")
    page = visit(f"{still.url}/jobs/{job.id}")
    expect(page.get_by_text("Made by the demo model,")).to_be_visible()
    expect(page.locator("#again-model")).to_be_hidden()
    page.get_by_role("link", name="Run it again with another model").click()
    expect(page.locator("#again-model")).to_be_in_viewport()
    page.locator("#again-model").select_option("base")
    page.get_by_role("button", name="Run again", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Next to start")).to_be_visible()
    [new] = [one for one in httpx.get(still.url + "/api/v1/jobs").json()["jobs"] if one["id"] != job.id]
    assert (new["params"]["model"], new["source"]["name"]) == ("base", "talk.mp3")
