"""The page in a real browser: from a dropped recording to its words, with and without JavaScript."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from support import SAMPLES, TRUTH, Served, wait_until
from web_support import Live, live, put_every_state, put_job

from tasks import capacity
from tasks.capacity import SPARE_BYTES
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import State
from tasks.store import pace

if TYPE_CHECKING:
    from conftest import Pages

pytestmark = pytest.mark.long

SHORT = TRUTH["en-u008.flac"]
LONG = TRUTH["en-long2_en_120.flac"]
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">.flac"
SLOW = 180_000
CONTRAST = """() => {
    const light = ([r, g, b]) => [r, g, b]
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
    const of = (element, what) => getComputedStyle(element)[what].match(/[\\d.]+/g).map(Number);
    const grounds = [document.body, document.documentElement].map((element) => of(element, "backgroundColor"));
    const ground = grounds.find((colour) => colour[3] !== 0) ?? [255, 255, 255];
    const pair = [light(of(document.body, "color")), light(ground)].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
}"""
"""Contrast of text and page, from 1 to 21, as WCAG 2 counts it."""

Visit = Callable[..., Page]


@pytest.fixture
def still(config: Config) -> Iterator[Live]:
    """A server without a worker: jobs stay as they are put."""
    with live(config) as server:
        yield server


@pytest.fixture
def sample(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the short sample under a name of its own, so that its row can be told from all others."""
    numbers = itertools.count()

    def copy(name: str) -> Path:
        folder = tmp_path / f"sample{next(numbers)}"
        folder.mkdir()
        path = folder / name
        path.write_bytes((SAMPLES / SHORT["file"]).read_bytes())
        return path

    return copy


def drop(page: Page, *files: Path) -> None:
    """Drag files from the desktop onto the drop zone, through the browser's own machinery."""
    zone = page.get_by_text("Drop recordings here").bounding_box()
    assert zone is not None
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": zone["x"] + 5, "y": zone["y"] + 5, "data": data})
    session.detach()


def choose(page: Page, *files: Path) -> None:
    """Pick files in the dialog that the drop zone opens."""
    with page.expect_file_chooser() as chooser:
        page.get_by_label("Drop recordings here").click()
    chooser.value.set_files(files)


def group(page: Page, name: str) -> Locator:
    """One of the three groups of jobs."""
    return page.get_by_role("region", name=re.compile(f"^{name}"))


def row(page: Page, name: str, within: str | None = None) -> Locator:
    place: Page | Locator = group(page, within) if within else page
    return place.get_by_role("listitem").filter(has=page.get_by_role("link", name=name, exact=True))


def mark(page: Page) -> None:
    """Leave something that a reload would sweep away."""
    page.evaluate("window.notReloaded = true")


def not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.notReloaded === true"))


def read(page: Page) -> str:
    """The transcript as a reader sees it, without the times."""
    lines = page.get_by_role("region", name="Transcript").locator("p").all_inner_texts()
    return " ".join(re.sub(r"^\d+:\d\d(:\d\d)?\s*", "", line) for line in lines)


def a_transcript(text: str) -> dict[str, Any]:
    segment = {"id": 0, "start": 0.0, "end": 1.0, "text": text, "speaker": None, "confidence": None, "words": []}
    return {"language": "en", "seconds": 1.0, "text": text, "segments": [segment]}


def wrong_words(found: str, true: str) -> float:
    """Share of words that differ."""
    from difflib import SequenceMatcher

    same = sum(block.size for block in SequenceMatcher(None, found.split(), true.split()).get_matching_blocks())
    return 1 - same / len(true.split())


# The main job


def test_dropped_recordings_are_seen_queued_running_and_finished_and_become_their_words(
    served: Served, visit: Visit, sample: Callable[[str], Path], tmp_path: Path
) -> None:
    ballast = [served.submit(SAMPLES / LONG["file"]) for _ in range(2)]  # both slots are taken
    page = visit(served.url)
    mark(page)
    long = tmp_path / "a long talk.flac"
    long.write_bytes((SAMPLES / LONG["file"]).read_bytes())
    drop(page, long)  # one by one: together they would be a batch
    drop(page, sample("a short talk.flac"))
    expect(row(page, "a long talk.flac", "Queued")).to_contain_text(re.compile("Next to start|Number"))
    expect(row(page, "a short talk.flac", "Queued")).to_be_visible()
    for job in ballast:
        served.post(f"{job['links']['self']}/cancel")
    running = row(page, "a long talk.flac", "Running")
    expect(running).to_contain_text(re.compile(r"[1-9]\d?%"), timeout=SLOW)
    expect(running.get_by_role("progressbar")).to_be_visible()
    for name in ("a short talk.flac", "a long talk.flac"):
        expect(row(page, name, "Finished")).to_contain_text("Completed", timeout=SLOW)
    assert not_reloaded(page)

    page.get_by_role("link", name="a short talk.flac", exact=True).click()
    expect(page.get_by_role("heading", name="a short talk.flac")).to_be_visible()
    assert read(page).split() == SHORT["text"].split()
    page.get_by_role("link", name="All recordings").click()
    page.get_by_role("link", name="a long talk.flac", exact=True).click()
    expect(page.get_by_role("heading", name="a long talk.flac")).to_be_visible()
    assert wrong_words(read(page), LONG["text"]) < 0.05


def test_two_chosen_files_are_a_batch_and_both_become_words_that_can_be_downloaded(
    served: Served, visit: Visit, sample: Callable[[str], Path]
) -> None:
    page = visit(served.url)
    mark(page)
    names = ("first of two.flac", "second of two.flac")
    choose(page, *(sample(name) for name in names))
    batches = page.get_by_role("region", name="Batches")
    expect(batches).to_contain_text("All 2 completed", timeout=SLOW)
    expect(page.get_by_role("list", name="Uploads").get_by_role("listitem")).to_have_count(0)
    assert not_reloaded(page)
    batches.get_by_role("link").click()
    for name in names:
        expect(row(page, name, "Recordings")).to_contain_text("Completed")
    with page.expect_download() as download:
        page.get_by_role("link", name="SRT", exact=True).click()
    with zipfile.ZipFile(download.value.path()) as file:
        assert sorted(file.namelist()) == ["first of two.srt", "second of two.srt"]
    page.get_by_role("link", name=names[1], exact=True).click()
    for form in ("TXT", "SRT", "VTT", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("link", name=form, exact=True).click()
        assert download.value.suggested_filename == f"second of two.{form.lower()}"
        body = Path(download.value.path()).read_text(encoding="utf-8")
        if form == "JSON":
            assert json.loads(body)["text"].split() == SHORT["text"].split()
        else:
            assert set(SHORT["text"].split()) <= set(body.split())


def test_a_job_page_follows_its_job_to_the_end_without_a_reload(
    served: Served, visit: Visit, sample: Callable[[str], Path]
) -> None:
    ballast = [served.submit(SAMPLES / LONG["file"]) for _ in range(2)]
    job = served.submit(sample("followed.flac"))
    page = visit(f"{served.url}/jobs/{job['id']}")
    mark(page)
    expect(page.get_by_role("status").filter(has_text="Next to start")).to_be_visible()
    for other in ballast:
        served.post(f"{other['links']['self']}/cancel")
    expect(page.get_by_role("region", name="Transcript")).to_be_visible(timeout=SLOW)
    assert not_reloaded(page)
    assert read(page).split() == SHORT["text"].split()


def test_the_transcript_is_copied_to_the_clipboard(served: Served, visit: Visit, sample: Callable[[str], Path]) -> None:
    job = served.finish(served.submit(sample("copied.flac")))
    page = visit(f"{served.url}/jobs/{job['id']}", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy text").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").split() == SHORT["text"].split()


def test_a_file_that_is_no_recording_shows_why_it_failed(served: Served, visit: Visit, tmp_path: Path) -> None:
    text = tmp_path / "shopping list.mp3"
    text.write_text("eggs, flour, salt\n" * 40)
    page = visit(served.url)
    drop(page, text)
    failed = row(page, "shopping list.mp3", "Finished")
    expect(failed).to_contain_text("This file can't be read as a recording", timeout=SLOW)
    page.get_by_role("link", name="shopping list.mp3", exact=True).click()
    expect(page.get_by_text("This file can't be read as a recording")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_running_job_is_canceled_and_tried_again(served: Served, visit: Visit, tmp_path: Path) -> None:
    long = tmp_path / "canceled talk.flac"
    long.write_bytes((SAMPLES / LONG["file"]).read_bytes())
    page = visit(served.url)
    mark(page)
    choose(page, long)
    running = row(page, "canceled talk.flac", "Running")
    expect(running).to_be_visible()
    running.get_by_role("button", name="Cancel").click()
    canceled = row(page, "canceled talk.flac", "Finished")
    expect(canceled).to_contain_text("Canceled")
    canceled.get_by_role("button", name="Try again").click()
    expect(running).to_be_visible()
    running.get_by_role("button", name="Cancel").click()
    expect(canceled).to_contain_text("Canceled")
    assert not_reloaded(page)


# What does not need a worker


def test_a_waiting_job_is_canceled_and_deleted_after_a_question(still: Live, visit: Visit) -> None:
    job = put_job(still.box, State.QUEUED, "unwanted.mp3")
    page = visit(still.url)
    mark(page)
    row(page, "unwanted.mp3", "Queued").get_by_role("button", name="Cancel").click()
    canceled = row(page, "unwanted.mp3", "Finished")
    expect(canceled).to_contain_text("Canceled")
    assert still.box.get(job.id).state == State.CANCELED
    really = canceled.get_by_role("button", name="Really delete")
    expect(really).to_be_hidden()
    canceled.locator("summary").click()
    expect(really).to_be_visible()
    page.keyboard.press("Escape")
    expect(really).to_be_hidden()
    assert still.states() == ["canceled"]
    canceled.locator("summary").click()
    really.click()
    expect(page.get_by_role("link", name="unwanted.mp3")).to_have_count(0)
    assert still.states() == []
    assert not_reloaded(page)


def test_an_open_question_stays_open_while_the_list_around_it_changes(still: Live, visit: Visit) -> None:
    put_job(still.box, State.CANCELED, "kept.mp3")
    page = visit(still.url)
    kept = row(page, "kept.mp3", "Finished")
    kept.locator("summary").click()
    put_job(still.box, State.CANCELED, "another.mp3")
    expect(row(page, "another.mp3", "Finished")).to_be_visible()
    expect(kept.get_by_role("button", name="Really delete")).to_be_visible()


def test_deleting_from_a_jobs_own_page_leads_back_to_the_list(still: Live, visit: Visit) -> None:
    job = put_job(still.box, State.COMPLETED, "done.mp3")
    page = visit(f"{still.url}/jobs/{job.id}")
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Really delete").click()
    page.wait_for_url(still.url + "/")
    assert still.states() == []


def test_a_page_of_a_job_deleted_elsewhere_says_so_and_stops_asking(still: Live, visit: Visit, pages: Pages) -> None:
    pages.allow("404")
    job = put_job(still.box, State.QUEUED)
    page = visit(f"{still.url}/jobs/{job.id}")
    still.box.delete(job.id)
    expect(page.get_by_text("This recording was deleted.")).to_be_visible()
    asked = len(pages.complaints)
    page.wait_for_timeout(2500)  # two polls that must not come
    assert len(pages.complaints) == asked


def test_the_sample_button_submits_the_sample(still: Live, visit: Visit) -> None:
    page = visit(still.url)
    page.get_by_role("button", name="Try the sample recording").click()
    expect(page.get_by_role("heading", name="Sample recording.flac")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Next to start")).to_be_visible()
    assert still.states() == ["queued"]
    page.get_by_role("link", name="All recordings").click()
    expect(page.get_by_role("button", name="Try the sample recording")).to_have_count(0)


def test_a_full_box_counts_down_and_takes_the_recording_when_there_is_room(
    still: Live, visit: Visit, pages: Pages, sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages.allow("429")
    monkeypatch.setattr(pace, "FIRST_GUESS_SECONDS", 4.0)
    jobs = [put_job(still.box, State.QUEUED) for _ in range(3)]
    page = visit(still.url)
    expect(page.get_by_text("The box is full.", exact=True)).to_be_visible()
    drop(page, sample("patient.flac"))
    upload = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(upload).to_contain_text(re.compile("The box is full; trying again in [34] s"))
    expect(upload).to_contain_text(re.compile("The box is full; trying again in [12] s"))
    expect(upload.get_by_role("button", name="Give up")).to_be_visible()
    still.box.delete(jobs[0].id)
    expect(row(page, "patient.flac", "Queued")).to_be_visible()
    expect(upload).to_have_count(0)


def test_a_full_disk_is_told_and_the_recording_is_taken_when_there_is_room(
    still: Live, visit: Visit, pages: Pages, sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages.allow("507")
    free = [SPARE_BYTES - 10**6]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[-1]))
    told = StenoboxError("disk_full", "The disk of this box is almost full.", retry_after=4)  # instead of two minutes
    monkeypatch.setattr(capacity, "disk_full", lambda: told)
    page = visit(still.url)
    expect(page.get_by_text("nothing new is taken.")).to_be_visible()
    expect(page.get_by_text("Nobody is waiting.", exact=True)).to_be_visible()  # and not that it would start at once
    drop(page, sample("patient.flac"))
    upload = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(upload).to_contain_text(re.compile("The disk of the box is almost full; trying again in [1-4] s"))
    free.append(2 * SPARE_BYTES)
    expect(row(page, "patient.flac", "Queued")).to_be_visible()
    expect(upload).to_have_count(0)
    expect(page.get_by_text("nothing new is taken.")).to_have_count(0)


def test_giving_up_a_refused_recording_leaves_nothing(
    still: Live, visit: Visit, pages: Pages, sample: Callable[[str], Path]
) -> None:
    pages.allow("429")
    for _ in range(3):
        put_job(still.box, State.QUEUED)
    page = visit(still.url)
    choose(page, sample("given up.flac"))
    upload = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(upload).to_contain_text(re.compile(r"trying again in (30|2\d) s"))
    upload.get_by_role("button", name="Give up").click()
    expect(upload).to_have_count(0)
    assert len(still.states()) == 3


def test_an_empty_file_and_one_too_large_are_refused_before_they_are_sent(
    visit: Visit, tmp_path: Path, sample: Callable[[str], Path]
) -> None:
    (tmp_path / "empty.mp3").touch()
    with live(Config(data=tmp_path / "data", max_bytes=1000)) as server:
        page = visit(server.url)
        drop(page, tmp_path / "empty.mp3", sample("large.flac"))
        uploads = page.get_by_role("list", name="Uploads")
        expect(uploads.get_by_text("This file is empty.")).to_be_visible()
        expect(uploads.get_by_text("the box takes up to 1 kB")).to_be_visible()
        assert server.states() == []
        for _ in range(2):
            uploads.get_by_role("button", name="Dismiss").first.click()
        expect(uploads.get_by_role("listitem")).to_have_count(0)


def test_a_server_that_goes_away_is_told_and_its_return_is_noticed(visit: Visit, pages: Pages, tmp_path: Path) -> None:
    pages.allow("ERR_|Failed to fetch|NetworkError|fetch")
    config = Config(data=tmp_path / "data")
    with live(config) as server:
        page = visit(server.url)
        expect(page.get_by_text("Your transcripts appear here")).to_be_visible()
        page.context.set_offline(True)
        expect(page.get_by_text("The box can't be reached.")).to_be_visible()
        page.context.set_offline(False)
        put_job(server.box, State.CANCELED, "back.mp3")
        expect(row(page, "back.mp3", "Finished")).to_be_visible()
        expect(page.get_by_text("The box can't be reached.")).to_be_hidden()


def test_the_last_choice_of_model_and_language_comes_back(still: Live, visit: Visit) -> None:
    page = visit(still.url)
    page.get_by_label("Model", exact=True).select_option("small")
    page.get_by_label("Spoken language", exact=True).select_option("German")
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_have_value("small")
    expect(page.get_by_label("Spoken language", exact=True)).to_have_value("de")


def test_the_chosen_model_and_language_are_sent(still: Live, visit: Visit, sample: Callable[[str], Path]) -> None:
    page = visit(still.url)
    page.get_by_label("Model", exact=True).select_option("small")
    page.get_by_label("Spoken language", exact=True).select_option("German")
    choose(page, sample("deutsch.flac"))
    expect(row(page, "deutsch.flac", "Queued")).to_contain_text("German")
    [job] = httpx.get(still.url + "/api/v1/jobs").json()["jobs"]
    assert job["params"] == {"model": "small", "language": "de", "track": None}


def test_a_strangers_name_is_inert(still: Live, visit: Visit) -> None:
    name = HOSTILE.replace("/", "")
    done = put_job(still.box, State.COMPLETED, name, a_transcript(HOSTILE))
    put_job(still.box, State.QUEUED, name)
    for path in ("/", f"/jobs/{done.id}"):
        page = visit(still.url + path)
        title = page.title()
        expect(page.get_by_text("<script>document.title").first).to_be_visible()
        page.wait_for_timeout(1200)  # a poll and its morph
        assert page.title() == title != "owned"
        assert page.locator("main script, main img").count() == 0
    assert read(page) == HOSTILE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_on_a_phone_and_text_can_be_read(
    still: Live, visit: Visit, pages: Pages, scheme: str
) -> None:
    pages.allow("404")
    endless = put_job(still.box, State.COMPLETED, "W" * 240 + ".mp3", a_transcript("W" * 500))
    jobs = [endless, *put_every_state(still.box).values()]
    page = visit(still.url, viewport={"width": 375, "height": 700}, color_scheme=scheme)
    for path in ("/", "/nothing", *(f"/jobs/{job.id}" for job in jobs)):
        page.goto(still.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        assert page.evaluate(CONTRAST) >= 7, path


def test_on_a_phone_every_form_and_list_has_the_width_of_the_page(still: Live, visit: Visit) -> None:
    page = visit(still.url, viewport={"width": 375, "height": 700})
    for path in ("/", "/limits", "/jobs/finished", "/batches"):
        page.goto(still.url + path)
        for part in page.locator("main .card:visible, main .lists:visible").all():
            box = part.bounding_box()
            assert box is not None
            assert box["width"] > 300, (path, part.get_attribute("class"))


def test_no_page_complains_in_any_state(still: Live, visit: Visit, pages: Pages) -> None:
    pages.allow("404")
    jobs = put_every_state(still.box)
    page = visit(still.url)
    for path in ("/", "/nothing", *(f"/jobs/{job.id}" for job in jobs.values())):
        answer = page.goto(still.url + path)
        assert answer is not None
        assert "Content-Security-Policy".lower() in answer.headers
        page.wait_for_timeout(1100 if path == "/" else 100)
    assert pages.unexpected == []


# Without JavaScript


def test_everything_needed_works_without_javascript(
    served: Served, visit: Visit, sample: Callable[[str], Path]
) -> None:
    page = visit(served.url, java_script_enabled=False)
    page.get_by_label("Model", exact=True).select_option("demo")
    page.get_by_label("Spoken language", exact=True).select_option("English")
    page.locator("input[type=file]").set_input_files(sample("plain.flac"))
    page.get_by_role("button", name="Transcribe", exact=True).click()
    page.wait_for_url(re.compile("/jobs/[0-9a-f]{32}$"))
    expect(page.get_by_role("heading", name="plain.flac")).to_be_visible()
    # The page reloads itself until the job is finished.
    expect(page.get_by_role("region", name="Transcript")).to_be_visible(timeout=SLOW)
    assert read(page).split() == SHORT["text"].split()
    with page.expect_download() as download:
        page.get_by_role("link", name="TXT", exact=True).click()
    assert Path(download.value.path()).read_text().split() == SHORT["text"].split()
    page.get_by_role("link", name="All recordings").click()
    expect(row(page, "plain.flac", "Finished")).to_contain_text("Completed")


def test_a_full_box_refuses_with_a_sentence_without_javascript(
    still: Live, visit: Visit, pages: Pages, sample: Callable[[str], Path]
) -> None:
    pages.allow("429")
    for _ in range(3):
        put_job(still.box, State.QUEUED)
    page = visit(still.url, java_script_enabled=False)
    page.get_by_label("Model", exact=True).select_option("demo")
    page.locator("input[type=file]").set_input_files(sample("plain.flac"))
    page.get_by_role("button", name="Transcribe", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="The box is full")).to_contain_text("Try again in about 30 s.")


def test_a_job_is_canceled_retried_and_deleted_without_javascript(still: Live, visit: Visit) -> None:
    job = put_job(still.box, State.QUEUED, "plain.mp3")
    page = visit(f"{still.url}/jobs/{job.id}", java_script_enabled=False)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="Canceled")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("status").filter(has_text="Next to start")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Really delete").click()
    page.wait_for_url(still.url + "/")
    assert still.states() == []


# Small things that matter


def test_the_keyboard_reaches_the_content_first(still: Live, visit: Visit) -> None:
    page = visit(still.url)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_times_are_shown_in_the_readers_own_words(still: Live, visit: Visit) -> None:
    put_job(still.box, State.CANCELED, "now.mp3")
    page = visit(still.url)
    expect(row(page, "now.mp3", "Finished").get_by_role("time")).to_have_text("just now")


def test_an_idle_page_asks_seldom_and_gets_304_however_late_its_scripts_come(still: Live, visit: Visit) -> None:
    page = visit(still.url)
    answers: list[int] = []

    def late(route: Route) -> None:
        page.wait_for_timeout(1000)
        route.continue_()

    page.route("**/hx-ptag-*", late)
    page.goto(still.url)
    page.on("response", lambda answer: answer.url == still.url + "/" and answers.append(answer.status))
    start = time.monotonic()
    wait_until(lambda: page.wait_for_timeout(100) or len(answers) >= 2, 15)
    assert set(answers) == {304}
    assert time.monotonic() - start > 3
