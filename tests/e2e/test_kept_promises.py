"""What pages promise while they are left open: undo, little traffic, none in a hidden tab, words once, the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, Response, expect
from test_browser import Visit, row
from test_doors import log_in
from web_support import Live, live, put_job

from tasks import batches, store
from tasks.config import Config
from tasks.jobs import Job, Params, Stage, State
from tasks.recovery import take_data_folder

if TYPE_CHECKING:
    from conftest import Pages

pytestmark = pytest.mark.long

PASSWORD = "correct horse"
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Live]:
    """A server whose worker does nothing: jobs stay as they are put."""
    config = Config(data=tmp_path / "data", slots=2, queue_limit=20)
    with live(config) as server, take_data_folder(config, "worker"):
        yield server


def claim(server: Live) -> store.Attempt:
    attempt = store.claim_next(server.box.database, server.box.planner.first(), "a worker", 3600)
    assert attempt is not None
    return attempt


def move(server: Live, attempt: store.Attempt, progress: float) -> None:
    store.renew_if_owned(server.box.database, [(attempt.token, Stage.TRANSCRIBE, progress, 1.0)], 3600)


def polls(page: Page, path: str) -> list[Response]:
    seen: list[Response] = []
    page.on("response", lambda answer: answer.url.endswith(path) and seen.append(answer))
    return seen


def listen(page: Page) -> None:
    """Note everything that is read out from now on."""
    page.evaluate(
        """() => {
          window.said = [];
          const note = (all) => all.flatMap((one) => [...one.addedNodes]).forEach((node) => said.push(node.innerText));
          const said_in = document.querySelector("#announcer");
          new MutationObserver(note).observe(said_in, { childList: true });
        }"""
    )


def heard(page: Page) -> list[str]:
    words: list[str] = page.evaluate("window.said")
    return words


def put_in_batch(server: Live, name: str, count: int) -> list[Job]:
    jobs = []
    for number in range(count):
        with server.box.receive(f"{number}.mp3") as receiving:
            receiving.write(b"sound")
            batches.enter(server.box, receiving, name)
            jobs.append(receiving.queue(Params("demo")))
    return jobs


@pytest.mark.parametrize("where", ["list", "page"])
def test_a_cancel_is_undone(still: Live, visit: Visit, where: str) -> None:
    job = put_job(still.box, State.QUEUED, "slip.mp3")
    page = visit(f"{still.url}/" if where == "list" else f"{still.url}/jobs/{job.id}")
    page.get_by_role("button", name="Cancel").click()
    undo = page.get_by_role("list", name="Just now").get_by_role("button", name="Undo")
    expect(undo).to_be_visible()
    assert still.box.get(job.id).state == State.CANCELED
    undo.click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(undo).to_have_count(0)
    assert still.box.get(job.id).state == State.QUEUED


def test_a_delete_is_undone_and_the_offer_ends_by_itself(still: Live, visit: Visit) -> None:
    job = put_job(still.box, State.COMPLETED, "slip.mp3")
    page = visit(still.url)
    for _ in range(2):
        row(page, "slip.mp3").locator("summary").click()
        row(page, "slip.mp3").get_by_role("button", name="Really delete").click()
        expect(row(page, "slip.mp3")).to_have_count(0)
        page.get_by_role("button", name="Undo").click()
        expect(row(page, "slip.mp3")).to_be_visible()
    row(page, "slip.mp3").locator("summary").click()
    row(page, "slip.mp3").get_by_role("button", name="Really delete").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)  # ten seconds later
    assert not (still.config.media / job.id).exists()


@pytest.mark.parametrize("scripts", [True, False])
def test_all_of_a_batch_comes_back(still: Live, visit: Visit, scripts: bool) -> None:
    jobs = put_in_batch(still, "Interviews", 3)
    page = visit(f"{still.url}/batches/{jobs[0].batch}", java_script_enabled=scripts)
    page.get_by_role("button", name="Cancel all").click()
    progress = page.locator("#batch-progress")
    expect(progress).to_contain_text("0 of 3 completed, 3 canceled")
    page.get_by_role("button", name="Undo Interviews").click()
    expect(progress).to_contain_text("0 of 3 done")
    page.get_by_text("Delete…").first.click()
    page.get_by_role("button", name="Really delete").click()
    page.wait_for_url(still.url + "/")
    page.get_by_role("button", name="Undo Interviews").click()
    if scripts:  # else it leads to the batch's page
        expect(page.get_by_role("link", name="Interviews").first).to_be_visible()
    assert still.states() == ["queued"] * 3


def test_what_has_finished_stays_in_place_while_only_the_rest_is_sent(still: Live, visit: Visit) -> None:
    for number in range(50):
        put_job(still.box, State.CANCELED, f"a recording with a name of the usual length {number}.mp3")
    put_job(still.box, State.QUEUED, "moving.mp3")
    attempt = claim(still)
    page = visit(still.url)
    kept = row(page, "a recording with a name of the usual length 7.mp3")
    kept.locator("summary").click()
    page.evaluate("window.first = document.querySelector('#group-finished .job')")
    seen = polls(page, "/")
    for percent in range(10, 60, 10):
        move(still, attempt, percent / 100)
        expect(row(page, "moving.mp3")).to_contain_text(f"{percent}%")
    changed = [answer for answer in seen if answer.status == 200]
    assert len(changed) >= 5
    for answer in changed:
        sizes = answer.request.sizes()
        assert sizes["responseBodySize"] + sizes["responseHeadersSize"] <= 5000
    expect(page.get_by_role("listitem").filter(has_text="a recording with")).to_have_count(50)
    assert page.evaluate("window.first === document.querySelector('#group-finished .job')")
    expect(kept.get_by_role("button", name="Really delete")).to_be_visible()
    store.fail_if_owned(still.box.database, attempt.token, "no_audio", "There is no sound in it.")
    expect(row(page, "moving.mp3", "Finished")).to_contain_text("There is no sound in it.")


@pytest.mark.parametrize("where", ["/", "/jobs/{job}", "/batches/{batch}", "/batches", "/limits"])
def test_a_hidden_tab_asks_for_nothing_and_at_once_when_it_is_shown(still: Live, visit: Visit, where: str) -> None:
    [job] = put_in_batch(still, "Interviews", 1)
    page = visit(still.url + where.format(job=job.id, batch=job.batch))
    asked: list[str] = []
    page.on("request", lambda request: "/static/" not in request.url and asked.append(request.url))
    page.evaluate(HIDE, True)
    page.wait_for_timeout(4500 if where != "/limits" else 11_000)  # polls that must not come
    assert asked == []
    with page.expect_response(lambda answer: answer.status in (200, 304)):
        page.evaluate(HIDE, False)


def test_each_end_is_said_once_and_counts_are_not(still: Live, visit: Visit) -> None:
    put_job(still.box, State.COMPLETED, "old.mp3")
    put_job(still.box, State.QUEUED, "one.mp3")
    put_job(still.box, State.QUEUED, "two.mp3")
    attempts = [claim(still), claim(still)]
    page = visit(still.url)
    expect(row(page, "two.mp3", "Running")).to_be_visible()
    listen(page)
    put_job(still.box, State.QUEUED, "three.mp3")
    expect(row(page, "three.mp3", "Queued")).to_be_visible()
    assert heard(page) == []
    page.evaluate(HIDE, True)  # both end between two polls, and one comes and goes
    for attempt in attempts:
        store.fail_if_owned(still.box.database, attempt.token, "no_audio", "There is no sound in it.")
    short = claim(still)
    store.finish_if_owned(still.box.database, short.token, "x.json", 1.0, None, work=1.0)
    page.evaluate(HIDE, False)
    expect(row(page, "two.mp3", "Finished")).to_be_visible()
    assert sorted(heard(page)) == ["one.mp3: failed", "three.mp3: completed", "two.mp3: failed"]
    row(page, "old.mp3").locator("summary").click()
    row(page, "old.mp3").get_by_role("button", name="Really delete").click()
    expect(row(page, "old.mp3")).to_have_count(0)
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert heard(page)[3:] == ["Deleted: old.mp3. It can be undone for ten seconds."]


def test_a_batch_is_told_in_quarters(still: Live, visit: Visit) -> None:
    jobs = put_in_batch(still, "Interviews", 8)
    page = visit(f"{still.url}/batches/{jobs[0].batch}")
    listen(page)
    for number in range(1, 9):
        attempt = claim(still)
        store.finish_if_owned(still.box.database, attempt.token, "x.json", 1.0, None, work=1.0)
        expect(page.locator("#batch-progress")).to_contain_text(
            re.compile(f"^{number} of 8 done" if number < 8 else "All 8 completed")
        )
    words = heard(page)
    assert [re.sub(",.*", "", text) for text in words] == [
        "2 of 8 done",
        "4 of 8 done",
        "6 of 8 done",
        "All 8 completed",
    ]


def test_limits_keep_what_was_typed_beside_pause_and_lead_to_what_was_wrong(
    still: Live, visit: Visit, pages: Pages
) -> None:
    page = visit(f"{still.url}/limits")
    page.locator("#keep_days").fill("30")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("main").get_by_text("Nothing starts and nothing new is taken")).to_be_visible()
    expect(page.locator("#keep_days")).to_have_value("30")
    assert still.box.limits().intake == "paused"
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved, and in force.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Saved, and in force.")).to_have_count(0)
    pages.allow("422")
    page.locator("#max_bytes").fill("a lot")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#max_bytes")).to_be_focused()


def test_one_state_of_the_box_everywhere(still: Live, visit: Visit) -> None:
    jobs = put_in_batch(still, "Interviews", 1)
    still.box.change_settings({"intake": "paused"}, "test")
    for path in ("/", "/limits", "/batches", f"/batches/{jobs[0].batch}", f"/jobs/{jobs[0].id}"):
        page = visit(still.url + path)
        expect(page.get_by_role("main").get_by_text("What runs goes on.")).to_be_visible()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Live]:
    with live(Config(data=tmp_path / "data", hosts="box.example", slots=3, queue_limit=9)) as box:
        box.box.logins.set_password(PASSWORD, "test")
        yield box


def end_sessions(server: Live) -> None:
    server.box.logins.set_password(PASSWORD, "test")


def test_an_ended_session_comes_back_to_the_same_page(closed: Live, visit: Visit, pages: Pages) -> None:
    pages.allow("401")
    job = put_job(closed.box, State.QUEUED, "mine.mp3")
    page = visit(f"{closed.url}/jobs/{job.id}?from=here")
    expect(page.get_by_text("You were logged out")).to_have_count(0)
    log_in(page)
    expect(page.get_by_role("heading", name="mine.mp3")).to_be_visible()
    end_sessions(closed)
    expect(page.get_by_text("You were logged out")).to_be_visible()
    log_in(page)
    expect(page).to_have_url(f"{closed.url}/jobs/{job.id}?from=here")


def test_an_upload_waits_for_the_login(closed: Live, visit: Visit, pages: Pages, tmp_path: Path) -> None:
    pages.allow("401")
    page = visit(f"{closed.url}/")
    log_in(page)
    expect(page.get_by_text("Drop recordings here")).to_be_visible()
    page.locator("#model").select_option("demo")
    page.evaluate(HIDE, True)
    end_sessions(closed)
    (tmp_path / "mine.mp3").write_bytes(b"sound")
    page.locator("#file").set_input_files(tmp_path / "mine.mp3")
    expect(page.get_by_text("You were logged out; asking again")).to_be_visible()
    page.evaluate(HIDE, False)
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Log in in a new tab").click()
    log_in(popup.value)
    expect(row(page, "mine.mp3", "Queued")).to_be_visible()


def test_what_was_typed_is_not_left_for_a_login(closed: Live, visit: Visit, pages: Pages) -> None:
    pages.allow("401")
    page = visit(f"{closed.url}/")
    log_in(page)
    page.locator("#url").fill("https://example.org/a-long-address")
    end_sessions(closed)
    link = page.get_by_role("link", name="Log in in a new tab")
    expect(link).to_be_visible()
    with page.expect_popup() as popup:
        link.click()
    log_in(popup.value)
    expect(popup.value.get_by_text("Drop recordings here")).to_be_visible()
    expect(link).to_be_hidden()
    expect(page.locator("#url")).to_have_value("https://example.org/a-long-address")


def test_a_form_sent_after_the_end_of_the_session_is_sent_again(closed: Live, visit: Visit, pages: Pages) -> None:
    pages.allow("401")
    page = visit(f"{closed.url}/limits")
    log_in(page)
    page.locator("#keep_days").fill("30")
    end_sessions(closed)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("come back and reload this page")).to_be_visible()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Log in").click()
    log_in(popup.value)
    expect(popup.value.get_by_text("Drop recordings here")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Saved, and in force.")).to_be_visible()
    assert closed.box.limits().keep_days == 30
