"""Logging in with a real browser, and every page under the strictest policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Page, expect
from web_support import Live, live, put_job

from tasks.config import Config
from tasks.jobs import State

Visit = Callable[..., Page]
PASSWORD = "correct horse"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>.mp3'
INLINE = """() => [...document.querySelectorAll("*")].flatMap((element) => [
  ...[...element.attributes].filter((a) => a.name === "style" || a.name.startsWith("on")).map((a) => element.outerHTML),
  ...(element.tagName === "STYLE" || (element.tagName === "SCRIPT" && !element.src) ? [element.outerHTML] : []),
])"""
LINKS = "() => [...document.querySelectorAll('a[href]')].map((link) => link.href)"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Live]:
    """A box with a name that others reach, and room for a few jobs."""
    with live(Config(data=tmp_path / "data", hosts="box.example", slots=3, queue_limit=9)) as box:
        yield box


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.locator("#password").fill(password)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_from_the_link_to_the_last_browser(closed: Live, visit: Visit, scripts: bool) -> None:
    page = visit(closed.url, java_script_enabled=scripts)
    expect(page.get_by_role("heading", name="Not set up yet")).to_be_visible()
    page.goto(f"{closed.url}/setup?token={closed.box.logins.invite()}")
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    expect(page).to_have_url(f"{closed.url}/")
    other = visit(f"{closed.url}/limits", java_script_enabled=scripts)
    log_in(other)
    expect(other).to_have_url(f"{closed.url}/limits")
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="Log out all others").click()
    expect(page.get_by_text("All other browsers are logged out.")).to_be_visible()
    other.reload()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    page.locator("#name").fill("phone")
    page.get_by_role("button", name="Make the key").click()
    assert re.fullmatch(r"sb_\w{38}", page.locator("#fresh-key").inner_text())
    page.get_by_role("navigation").get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_page_that_is_open_goes_to_the_login_when_its_session_ends(closed: Live, visit: Visit, pages: object) -> None:
    pages.allow("401")  # type: ignore[attr-defined]
    closed.box.logins.set_password(PASSWORD, "page")
    put_job(closed.box, State.RUNNING)
    page = visit(closed.url)
    log_in(page)
    expect(page.locator("#jobs")).to_be_visible()
    closed.box.logins.end_others("")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_the_header_fits(closed: Live, visit: Visit, width: int) -> None:
    closed.box.logins.set_password(PASSWORD, "page")
    page = visit(closed.url, viewport={"width": width, "height": 700})
    log_in(page)
    button = page.get_by_role("navigation").get_by_role("button", name="Log out").bounding_box()
    assert button is not None
    assert button["x"] + button["width"] <= width


def test_a_wrong_password_is_said(closed: Live, visit: Visit, pages: object) -> None:
    pages.allow("401")  # type: ignore[attr-defined]
    closed.box.logins.set_password(PASSWORD, "page")
    page = visit(closed.url)
    log_in(page, "wrong")
    expect(page.get_by_role("alert").filter(has_text="That is not the password.")).to_be_visible()
    log_in(page)
    expect(page).to_have_url(f"{closed.url}/")


def test_no_page_breaks_the_policy_or_carries_anything_inline(closed: Live, visit: Visit, pages: object) -> None:
    """Every page that can be reached by links, with hostile names on it."""
    pages.allow("40[0-9]")  # type: ignore[attr-defined]
    box = closed.box
    box.logins.set_password(PASSWORD, "page")
    box.access.create_key("<script>alert(1)</script>")
    box.logins.begin_session("192.0.2.7", HOSTILE)
    for state in (State.COMPLETED, State.FAILED, State.RUNNING, State.CANCELED, State.QUEUED):
        put_job(box, state, HOSTILE)
    page = visit(f"{closed.url}/login")
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    assert page.evaluate(INLINE) == []
    page.goto(f"{closed.url}/setup?token={box.logins.invite()}")
    assert page.evaluate(INLINE) == []
    page.goto(f"{closed.url}/login")
    log_in(page)
    expect(page).to_have_url(f"{closed.url}/")
    waiting, seen = [closed.url + "/", closed.url + "/nothing"], set()
    while waiting:
        url = waiting.pop()
        if url in seen or ".txt" in url or re.search(r"\.(srt|vtt|json|csv|docx)$", url):
            continue
        seen.add(url)
        page.goto(url)
        assert page.evaluate(INLINE) == [], url
        links = (urljoin(url, link).partition("#")[0] for link in page.evaluate(LINKS))
        waiting += [link for link in links if urlsplit(link).netloc == urlsplit(closed.url).netloc]
    assert {urlsplit(url).path for url in seen} >= {"/", "/limits", "/settings", "/nothing"}
    assert len(seen) >= 9, seen
