"""The page for everyone: small screens, the dark, the keyboard, screen readers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.browser import LIBRARY, PLUTO, TALLEST, ask, finished, opened, reload, set_date, turn_to

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WIDTHS = {"desktop": 1280, "small": 360}


def views(page: Page) -> Iterator[str]:
    """The names of all views, each shown and filled when its name comes."""
    yield "guide"
    page.get_by_label("As known at another time").check()
    entry = ask(page, PLUTO)
    set_date(page, "As of", "2003-06-01")
    expect(entry.locator(".changed ins").first).to_be_visible()
    entry.locator(".waterfall summary").click()
    entry.get_by_role("button", name="It did not").click()
    expect(entry.locator(".thumbs .hint")).to_have_text("Noted.")
    yield "answer"
    entry.locator(".sup").first.click()
    expect(page.locator("#quoted")).to_be_visible()
    yield "document"
    page.keyboard.press("Escape")
    ask(page, "What is the melting point of tungsten?")
    yield "abstained"
    turn_to(page, "Compare")
    page.locator("#compare-question").fill(LIBRARY)
    page.locator("#left-as-of").fill("2010-01-01")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compared .changed")).to_be_visible()
    yield "compare"
    turn_to(page, "Timeline")
    page.locator("#timeline-question").fill(TALLEST)
    page.get_by_role("button", name="Trace").click()
    expect(page.locator(".answers .holds")).to_be_visible()
    yield "timeline"
    turn_to(page, "Library")
    page.get_by_role("button", name="Pluto", exact=True).click()
    expect(page.locator("#versions li").first).to_be_visible()
    yield "library"
    page.locator("#upload-collection").fill("papers")
    files = [("paper.md", b"# A paper\n\nIt says something."), ("paper.exe", b"x")]
    for name, data in files:
        page.locator("#files").set_input_files({"name": name, "mimeType": "text/plain", "buffer": data})
        expect(page.locator("#jobs .state").first).to_have_text("done" if name.endswith("md") else "not taken in")
    yield "upload"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_too_wide(browser, stack, scheme, width, tmp_path):
    # What axe itself injects is not the page's: the policy is tested by every other test here.
    options = {"color_scheme": scheme, "viewport": {"width": WIDTHS[width], "height": 800}, "bypass_csp": True}
    found = []
    with opened(browser, stack.url, reduced_motion="reduce", **options) as page:
        for view in views(page):
            page.screenshot(path=tmp_path / f"{view}.png", full_page=view != "document")
            found += [f"{view}: {one}" for one in serious(page)]
            if page.evaluate("document.documentElement.scrollWidth") > WIDTHS[width]:
                found.append(f"{view}: too wide")
    assert found == []


def serious(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_all_of_it_is_done_with_the_keyboard_alone(page):
    page.locator("#question").focus()
    page.keyboard.type(PLUTO)
    page.keyboard.press("Enter")
    entry = finished(page.locator(".entry").first)
    entry.locator(".sup").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#source-heading")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#source")).to_be_hidden()
    expect(entry.locator(".sup").first).to_be_focused()
    entry.get_by_role("button", name="It helped").press("Space")
    expect(entry.get_by_role("button", name="It helped")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("The quote says it.")
    page.keyboard.press("Enter")
    expect(entry.locator(".thumbs .hint")).to_have_text("Noted, with your reason.")
    entry.get_by_role("button", name="Every answer there was").press("Enter")
    expect(page.locator(".answers .holds")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("2 answers: ")


def test_day_and_night_follow_the_system_until_one_is_chosen(browser, stack):
    with opened(browser, stack.url, color_scheme="dark") as page:
        root, button = page.locator("html"), page.get_by_role("button", name="Night")
        expect(root).to_have_attribute("data-theme", "night")
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        expect(root).to_have_attribute("data-theme", "day")
        reload(page)
        expect(root).to_have_attribute("data-theme", "day")
