"""Finished jobs beyond those of the front page: older and newer, without a script, and standing still meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from web_support import LOST, client_of, put_job

from tasks.actions import Box
from tasks.config import Config
from tasks.jobs import State
from webapp import finished_page, pages

PATH = "/jobs/finished"


@pytest.fixture
def client(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    for module in (pages, finished_page):
        monkeypatch.setattr(module, "MOST_FINISHED", 3)
    with client_of(config) as client:
        yield client


def shown(html: str) -> list[str]:
    return re.findall(r'id="job-([0-9a-f]{32})"', html)


def leads(html: str, way: str) -> str | None:
    """Where the link of this name leads."""
    found = re.search(rf'id="{way}"[^>]* href="([^"]+)"', html)
    return found[1] if found else None


def finished(box: Box, count: int) -> list[str]:
    """Ids of so many more finished jobs, newest first."""
    return [put_job(box, State.CANCELED).id for _ in range(count)][::-1]


def test_all_are_reached_by_links_from_the_front_page_and_back_again(client: TestClient, behind: Box) -> None:
    ids = finished(behind, 8)
    page = client.get("/").text
    assert shown(page) == ids[:3]
    way = leads(page, "older")
    assert way is not None
    older = client.get(way).text
    assert shown(older) == ids[3:6]
    oldest = client.get(leads(older, "older") or "").text
    assert (shown(oldest), leads(oldest, "older")) == (ids[6:], None)
    newer = client.get(leads(oldest, "newer") or "").text
    assert shown(newer) == ids[3:6]
    assert leads(newer, "older") == leads(older, "older")
    newest = client.get(leads(newer, "newer") or "").text
    assert (shown(newest), leads(newest, "newer")) == (ids[:3], None)
    assert leads(newest, "older") == way


def test_an_older_page_is_the_same_while_others_finish_and_is_not_polled(client: TestClient, behind: Box) -> None:
    ids = finished(behind, 5)
    way = leads(client.get("/").text, "older") or ""
    before = client.get(way).text
    finished(behind, 4)
    after = client.get(way).text
    assert shown(after) == shown(before) == ids[3:]
    assert re.findall(r'hx-trigger="([^"]*)"', after) == ["refresh"]  # only after a click in it


def test_what_a_click_asks_for_is_the_page_it_is_on(client: TestClient, behind: Box) -> None:
    ids = finished(behind, 5)
    page = client.get(f"{PATH}?after={ids[1]}").text
    here = re.findall(r'hx-get="([^"]*)"', page)
    assert here == [f"{PATH}?after={ids[1]}"]
    behind.delete(ids[2])
    part = client.get(here[0], headers={"HX-Request": "true"}).text
    assert (shown(part), "<main" in part) == (ids[3:], False)


def test_few_have_no_other_page(client: TestClient, behind: Box) -> None:
    finished(behind, 3)
    assert leads(client.get("/").text, "older") is None
    page = client.get(PATH).text
    assert (leads(page, "older"), leads(page, "newer")) == (None, None)
    assert "Nothing here" in client.get(f"{PATH}?before={shown(page)[0]}").text


def test_a_place_that_is_gone_or_runs_again_leads_to_the_newest(client: TestClient, behind: Box) -> None:
    waits = put_job(behind, State.QUEUED)
    for job_id in (LOST, waits.id, "../x"):
        answer = client.get(PATH, params={"after": job_id})
        assert (answer.status_code, answer.headers["location"]) == (303, PATH)
