"""The page in a real browser, over a gateway that asks for a key: it asks the reader, and takes one from a link."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from services.catalog import keys
from services.catalog.engine import Database
from tests.e2e.browser import opened
from tests.fakes.gateway import COLLECTION, answering, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


_SUBMIT = """url => {
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: url, enctype: "text/plain"});
  document.body.append(form);
  form.submit();
}"""


def made_key(directory, *scopes):
    catalog = Database(f"sqlite:///{directory / 'catalog.db'}")
    with catalog.write() as tx:
        _, text = keys.create(tx, "local", scopes)
    catalog.close()
    return text


def test_without_any_key_the_page_opens_by_itself(browser, tmp_path):
    with serving(tmp_path, answering()) as (url, _), opened(browser, url) as page:
        expect(page.locator("#collection option")).to_have_text([COLLECTION])


def test_the_page_asks_for_the_key_once_and_keeps_it_with_the_tab(browser, tmp_path):
    with serving(tmp_path, answering()) as (url, _):
        text = made_key(tmp_path, "ask", "ingest")
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        dialog = page.get_by_role("dialog")
        expect(dialog).to_have_count(1)
        found = Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        dialog.get_by_label("opens with a key").fill("alm_wrong_key")
        dialog.get_by_role("button", name="Open").click()
        expect(dialog).to_contain_text("there is no such key")
        dialog.get_by_label("opens with a key").fill(text)
        dialog.get_by_role("button", name="Open").click()
        expect(page.locator("#collection option")).to_have_text([COLLECTION])
        page.reload()
        expect(page.locator("#collection option")).to_have_text([COLLECTION])
        expect(dialog).to_have_count(0)
        assert context.cookies() == []
        context.close()


def test_a_link_carries_the_key_and_the_page_takes_it_out_of_sight(browser, tmp_path):
    with serving(tmp_path, answering()) as (url, _):
        text = made_key(tmp_path, "ask", "ingest")
        with opened(browser, f"{url}/#key={text}") as page:
            expect(page.locator("#collection option")).to_have_text([COLLECTION])
            assert text not in page.url


def test_another_sites_page_gets_nothing_out_of_a_gateway_without_keys(browser, tmp_path):
    """A form is what any page may send anywhere; here from another port of the same machine."""
    elsewhere = "http://127.0.0.1:7777/"
    with serving(tmp_path, answering()) as (url, _):
        page = browser.new_page()
        page.route(elsewhere, lambda route: route.fulfill(body="<p>another site</p>", content_type="text/html"))
        page.goto(elsewhere)
        with page.expect_navigation() as sent:
            page.evaluate(_SUBMIT, f"{url}/v1/admin/keys")
        assert sent.value.status == 403
        assert "another site" in page.content()
        page.close()
