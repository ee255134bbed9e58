"""A real Chromium for the tests, and pages that fail a test when they complain."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SECONDS = 60_000
CHOSEN = 'localStorage["stenobox.model"] ??= "demo"'

expect.set_options(timeout=SECONDS)


def find_chromium() -> str | None:
    found = (shutil.which(name) for name in NAMES)
    return next((path for path in found if path), str(MAC) if MAC.exists() else None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        reason = "no Chromium on this machine: on Debian, `apt install chromium`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS, timeout=2 * SECONDS)
        yield browser
        browser.close()


class Pages:
    """Opens pages, each in a context of its own, and keeps everything they complain about."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._allowed: list[str] = []
        self.complaints: list[str] = []

    def open(self, url: str, *, fresh: bool = False, **options: Any) -> Page:
        """fresh: a browser that has never chosen a model; others have chosen the demo model, by name."""
        context = self._browser.new_context(**options)
        if not fresh:
            context.add_init_script(CHOSEN)
        context.set_default_timeout(SECONDS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.goto(url)
        return page

    def allow(self, pattern: str) -> None:
        """This complaint belongs to what is tested."""
        self._allowed.append(pattern)

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    @property
    def unexpected(self) -> list[str]:
        return [line for line in self.complaints if not any(re.search(pattern, line) for pattern in self._allowed)]

    def _note_message(self, message: ConsoleMessage) -> None:
        # What a policy refused comes here too, as an error.
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    pages = Pages(browser)
    yield pages
    pages.close()
    assert pages.unexpected == []


@pytest.fixture
def visit(pages: Pages) -> Callable[..., Page]:
    """Open an address in a fresh context."""
    return pages.open
