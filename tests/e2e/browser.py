"""A real Chromium for the tests of the page, and what it must never do: reach another host, run what is data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support import missing

SLOW_MS = 30_000
"""How long an answer may take on a busy machine."""

TALLEST = "What is the tallest building in the world?"
PLUTO = "Is Pluto a planet?"
LIBRARY = "What is the address of the Harbour Street Library?"

_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI}) =>
  violations.push(`${violatedDirective} ${blockedURI}`));
"""


@dataclass
class Watched:
    """A page, and what it did while it was open."""

    page: Page
    home: str
    hosts: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Requests that no response came to."""

    def watch(self) -> None:
        page = self.page
        page.add_init_script(_WATCH)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("requestfailed", lambda request: self.lost.append(f"{request.url}: {request.failure}"))
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _console(self, kind: str, text: str) -> None:
        # A response with an error status is told in the console as well; that is the browser's, not the page's.
        if kind == "error" and "Failed to load resource" not in text:
            self.troubles.append(f"console: {text}")

    def wait(self) -> None:
        """Until the page is ready. Raises AssertionError with what went wrong meanwhile."""
        try:
            ready(self.page)
        except AssertionError as error:
            error.add_note(f"lost: {self.lost}, troubles: {self.troubles}")
            raise

    def check(self) -> None:
        """Raises AssertionError unless the page kept to itself."""
        violations = self.page.evaluate("window.violations")
        assert (self.troubles, violations) == ([], [])
        assert self.hosts <= {urlsplit(self.home).netloc}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; Playwright's own download is not needed."""
    path = shutil.which("chromium")
    if path is None:
        missing("Chromium (apt-get install chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page at `url`, ready for use; nothing it did may have been wrong."""
    wanted = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", "timezone_id": "UTC", **options}
    context = browser.new_context(**wanted)
    try:
        watched = Watched(context.new_page(), url)
        watched.watch()
        watched.page.set_default_timeout(SLOW_MS)
        watched.page.goto(url)
        watched.wait()
        yield watched.page
        watched.check()
    finally:
        context.close()


def ask(page: Page, question: str) -> Locator:
    """Ask as a person does; the finished entry."""
    page.locator("#question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    entry = page.locator(".entry").first
    expect(entry.locator(".question")).to_have_text(question)
    return finished(entry)


def finished(entry: Locator) -> Locator:
    expect(entry.locator(".waterfall")).to_be_attached()
    return entry


def set_date(page: Page, label: str, date: str) -> None:
    field = page.get_by_label(f"{label}: the date")
    field.fill(date)
    field.blur()


def reload(page: Page) -> None:
    page.reload()
    ready(page)


def ready(page: Page) -> None:
    expect(page.locator("body[data-ready=true]")).to_be_visible()


def choose(page: Page, collection: str) -> None:
    with page.expect_response("**/changes"):
        page.locator("#collection").select_option(collection)


def turn_to(page: Page, view: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=view).click()
