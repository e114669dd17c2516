"""The picture in README.md is of the page as it is: taken here, and put into ALMANAC_PICTURES where that is set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import PLUTO, ask, opened, set_date

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SIZE = {"width": 1240, "height": 900}
MOST_BYTES = 250_000


def test_the_readmes_picture_is_of_the_page(browser, stack, tmp_path):
    path = Path(os.environ.get("ALMANAC_PICTURES", tmp_path)) / "page.png"
    with opened(browser, stack.url, viewport=SIZE, reduced_motion="reduce") as page:
        entry = ask(page, PLUTO)
        set_date(page, "As of", "2003-06-14")
        expect(entry.locator(".changed ins").first).to_be_visible()
        entry.locator(".sup").first.click()
        expect(page.locator("#quoted")).to_be_in_viewport()
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=path)
    assert path.stat().st_size < MOST_BYTES
