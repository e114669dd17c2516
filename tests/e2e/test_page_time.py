"""The page in time: the needle, what was known, two moments, every answer there was."""

from __future__ import annotations

import random
import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LIBRARY, PLUTO, TALLEST, ask, set_date

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_moving_the_needle_asks_again_and_marks_what_changed(page, tmp_path):
    entry = ask(page, TALLEST)
    expect(entry.locator(".words")).to_contain_text("Burj Khalifa")
    set_date(page, "As of", "2007-06-01")
    expect(entry.locator(".words")).to_contain_text("Taipei 101")
    expect(entry.locator(".changed del")).to_have_text("Burj Khalifa")
    expect(entry.locator(".changed ins")).to_have_text("Taipei 101")
    expect(entry.locator(".cited li.new")).to_contain_text("Taipei 101")
    expect(entry.locator(".changed li.gone")).to_contain_text("Burj Khalifa")
    expect(page.locator("#leaf")).to_contain_text("2007")
    entry.locator(".cited .title").click()
    expect(page.locator("#source")).to_contain_text("A fact on record")
    expect(page.locator("#quoted")).to_have_text("Taipei 101")
    page.keyboard.press("Escape")
    page.screenshot(path=tmp_path / "moved.png", full_page=True)
    page.get_by_role("button", name="Now", exact=True).click()
    expect(entry.locator(".words")).to_contain_text("Burj Khalifa")


def test_the_ruler_marks_every_change_and_the_keys_go_from_one_to_the_next(page, stack):
    changes = httpx.get(f"{stack.url}/v1/collections/almanac/changes", trust_env=False).json()["valid"]
    expect(page.locator("#as-of .mark:not(.now)")).to_have_count(len(changes))
    past = [tick for tick in changes if tick["at"] < "2026-01-01"]
    set_date(page, "As of", "2026-01-01")
    slider = page.get_by_role("slider", name="As of", exact=True)
    for tick in (past[-1], past[-2]):
        slider.press("ArrowLeft")
        assert page.get_by_label("As of: the date").input_value() == tick["at"][:10]
    slider.press("End")
    expect(page.get_by_label("As of: the date")).to_have_value("")
    expect(slider).to_have_attribute("aria-valuetext", "Now")


def test_a_drag_of_the_needle_asks_once_it_is_let_go(page):
    slider = page.get_by_role("slider", name="As of", exact=True)
    box = slider.bounding_box()
    ask(page, TALLEST)
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + 10, steps=5)
    page.mouse.up()
    expect(slider).not_to_have_attribute("aria-valuetext", "Now")
    expect(page.locator(".entry").first.locator(".changed")).to_contain_text("What changed")
    expect(page.locator(".entry").first.locator(".words")).not_to_contain_text("Burj Khalifa")


def test_what_was_known_then_is_a_switch_of_its_own(page):
    set_date(page, "As of", "2018-12-01")
    entry = ask(page, LIBRARY)
    expect(entry.locator(".words")).to_contain_text("40 Quay Road")
    page.get_by_label("As known at another time").check()
    set_date(page, "As known at", "2020-01-01")
    expect(entry.locator(".words")).to_contain_text("12 Harbour Street")
    expect(entry.locator(".moment")).to_contain_text("as known at 1 January 2020")
    page.get_by_label("As known at another time").uncheck()
    expect(entry.locator(".words")).to_contain_text("40 Quay Road")


def test_two_moments_stand_side_by_side(page, tmp_path):
    page.get_by_role("link", name="Compare").click()
    page.locator("#compare-question").fill(LIBRARY)
    dates = {"left-as-of": "2018-12-01", "left-known-at": "2020-01-01", "right-as-of": "2018-12-01"}
    for name, date in {**dates, "right-known-at": "2022-01-01"}.items():
        page.locator(f"#{name}").fill(date)
    page.get_by_role("button", name="Compare", exact=True).click()
    left, right = page.locator("#compared article").first, page.locator("#compared article").last
    expect(left.locator(".words")).to_contain_text("12 Harbour Street")
    expect(right.locator(".words")).to_contain_text("40 Quay Road")
    changed = page.locator("#compared .changed")
    expect(changed.get_by_role("heading")).to_have_text("What changed")
    expect(changed.locator("del")).to_contain_text("12 Harbour Street")
    expect(changed.locator("ins")).to_contain_text("40 Quay Road")
    expect(left.locator(".cited li.gone")).to_contain_text("12 Harbour Street")
    expect(right.locator(".cited li.new")).to_contain_text("40 Quay Road")
    left.locator(".cited .title").first.click()
    expect(page.locator("#quoted")).to_contain_text("12 Harbour Street")
    page.screenshot(path=tmp_path / "compared.png", full_page=True)


def test_two_moments_with_the_same_answer_say_so(page):
    page.get_by_role("link", name="Compare").click()
    page.locator("#compare-question").fill(TALLEST)
    page.locator("#left-as-of").fill("2020-01-01")
    page.get_by_role("button", name="Compare", exact=True).click()
    changed = page.locator("#compared .changed")
    expect(changed.get_by_role("heading")).to_have_text("Nothing changed")
    expect(changed).to_contain_text("It rests on the same sources.")
    expect(page.locator("#compared article").first).to_contain_text("As of 1 January 2020")
    expect(page.locator("#compared article").last).to_contain_text("As of now")


def test_an_entry_is_taken_over_into_the_comparison(page):
    set_date(page, "As of", "2000-06-01")
    ask(page, PLUTO).get_by_role("button", name="Compare with another moment").click()
    expect(page.locator("#compare-question")).to_have_value(PLUTO)
    expect(page.locator("#left-as-of")).to_have_value("2000-06-01")
    expect(page.locator("#right-as-of")).to_be_focused()


def trace(page, question):
    page.get_by_role("link", name="Timeline").click()
    page.locator("#timeline-question").fill(question)
    page.get_by_role("button", name="Trace").click()


def test_every_answer_there_was_is_drawn_over_its_span_and_can_be_asked(page, stack, tmp_path):
    trace(page, TALLEST)
    told = page.locator(".answers .told")
    body = {"question": TALLEST, "collection": "almanac"}
    entries = stack.post("/v1/answers/timeline", body).json()["entries"]
    expect(told).to_have_text([entry["answer"] for entry in entries])
    edges = page.locator(".answers li:not(.gap) .bar").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect()).map(({left, right}) => [left, right])"
    )
    assert edges == sorted(edges) and all(left < right for left, right in edges)
    expect(page.locator(".answers .gap")).to_contain_text("nothing on record answers")
    expect(page.locator(".answers .holds")).to_contain_text("Burj Khalifa")
    page.screenshot(path=tmp_path / "timeline.png", full_page=True)
    row = page.locator(".answers li", has_text="Sears Tower")
    row.get_by_role("button", name="The source").click()
    expect(page.locator("#quoted")).to_have_text("Sears Tower")
    page.keyboard.press("Escape")
    expect(row.get_by_role("button", name="The source")).to_be_focused()
    row.get_by_role("button", name="Ask as of then").click()
    entry = page.locator(".entry").first
    expect(entry.locator(".words")).to_contain_text("Sears Tower")
    expect(entry.locator(".moment")).to_contain_text("as of 1 January 1974")


def test_an_entry_is_traced_by_what_was_known_when_it_was_asked(page):
    page.get_by_label("As known at another time").check()
    set_date(page, "As known at", "2020-01-01")
    ask(page, LIBRARY).get_by_role("button", name="Every answer there was").click()
    expect(page.locator("#timeline-known-at")).to_have_value("2020-01-01")
    expect(page.locator("#timeline-found .moment")).to_contain_text("as known at 1 January 2020")
    expect(page.locator(".answers .told")).to_have_text([re.compile("12 Harbour Street"), re.compile("40 Quay Road")])
    expect(page.locator(".answers .holds")).to_contain_text("from 1 March 2019 on")


def test_a_timeline_without_an_answer_says_so(page):
    trace(page, "What is the melting point of tungsten?")
    expect(page.locator("#timeline-found .notice strong")).to_contain_text("no answer to this")


def test_versions_are_never_those_of_the_document_before(page):
    held = []
    page.get_by_role("link", name="Library").click()
    page.route("**/versions?*", lambda route: held.append(route))
    page.get_by_role("button", name="Pluto", exact=True).click()
    expect(page.locator("#versions")).to_contain_text("Looking them up")
    with page.expect_request("**/versions?*"):
        page.get_by_role("button", name="Leap years").click()
    expect(page.locator("#versions-heading")).to_have_text("Versions of leap-year-rule")
    expect(page.locator(".versions li")).to_have_count(0)
    pluto, leap = held
    leap.continue_()
    expect(page.locator("#versions .versions")).to_contain_text("Leap years")
    with page.expect_event("requestfinished", lambda request: "pluto" in request.url):
        pluto.continue_()
    expect(page.locator("#versions .versions")).not_to_contain_text("Pluto")


def test_a_documents_versions_are_drawn_and_open(page):
    page.get_by_role("link", name="Library").click()
    page.get_by_role("button", name="Pluto", exact=True).click()
    versions = page.locator("#versions li")
    expect(versions).to_have_count(3)
    expect(versions.first).to_contain_text("superseded")
    versions.last.get_by_role("button").click()
    expect(page.locator("#source .text")).to_contain_text("dwarf planet")


@pytest.mark.parametrize(
    ("date", "phase", "sign"),
    [
        ("1999-08-11T11:00:00Z", "New moon", "Leo"),
        ("2024-04-08T18:00:00Z", "New moon", "Aries"),
        ("2018-07-27T20:00:00Z", "Full moon", "Leo"),
        ("1969-07-22T12:00:00Z", "First quarter", "Cancer"),
    ],
)
def test_the_sky_is_that_of_the_day(page, date, phase, sign):
    read = """async (date) => {
      const {moonName, sunSign} = await import("/static/page/time.js");
      return [moonName(date), sunSign(date).name];
    }"""
    assert page.evaluate(read, date) == [phase, sign]


def test_marks_leave_the_words_as_they_are(page):
    rng = random.Random(5)
    words = ["Pluto", " ", "planet.", " [1]", "[2, 3]", "x" * 40, "🪐", "\n", "[", "[a]"]
    texts = ["".join(rng.choices(words, k=rng.randrange(20))) for _ in range(300)]
    read = """async (texts) => {
      const {marked} = await import("/static/page/text.js");
      return texts.map((text) => marked(text).map((piece) => piece.text ?? piece.last).join(""));
    }"""
    assert page.evaluate(read, texts) == [re.sub(r"\s*\[\d+(?:, \d+)*\]", "", text) for text in texts]


def test_a_difference_gives_back_both_texts(page):
    words = ["Pluto ", "is ", "a ", "planet. ", "no ", "🪐 ", "dwarf "]
    rng = random.Random(7)
    pairs = [["".join(rng.choices(words, k=rng.randrange(30))) for _ in range(2)] for _ in range(200)]
    read = """async (pairs) => {
      const {difference} = await import("/static/page/text.js");
      const without = (runs, kind) => runs.filter((run) => run[0] !== kind).map((run) => run[1]).join("");
      return pairs.map(([a, b]) => difference(a, b)).map((runs) => [without(runs, "new"), without(runs, "gone")]);
    }"""
    assert page.evaluate(read, pairs) == pairs


def test_a_scale_keeps_the_order_and_finds_its_way_back(page):
    rng = random.Random(11)
    histories = [sorted({rng.randrange(-(10**13), 10**12) for _ in range(rng.randrange(60))}) for _ in range(100)]
    read = """async (histories) => {
      const {scaleOver} = await import("/static/page/scale.js");
      return histories.map((ticks) => {
        const scale = scaleOver(ticks, 1.7e12);
        return ticks.map((tick) => [scale.place(tick), scale.instant(scale.place(tick))]);
      });
    }"""
    for ticks, placed in zip(histories, page.evaluate(read, histories), strict=True):
        places = [place for place, _ in placed]
        assert places == sorted(set(places)) and all(0 < place < 1 for place in places)
        assert [round(back) for _, back in placed] == pytest.approx(ticks, abs=1_000)
