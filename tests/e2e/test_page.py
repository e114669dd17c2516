"""The page in a real browser, over a real stack: asked, cited, moved in time, compared, uploaded to, attacked."""

from __future__ import annotations

import json
import random
import re

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.e2e.attacks import FEW
from tests.e2e.browser import SLOW_MS, chromium, opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TALLEST = "What is the tallest building in the world?"
PLUTO = "Is Pluto a planet?"
LIBRARY = "What is the address of the Harbour Street Library?"
VIEWS = ("ask", "compare", "library")


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=SLOW_MS)
    with chromium() as started:
        yield started
    expect.set_options(timeout=5_000)


@pytest.fixture
def page(browser, stack):
    with opened(browser, stack.url) as ready:
        yield ready


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
    expect(page.locator("body[data-ready=true]")).to_be_visible()


def choose(page: Page, collection: str) -> None:
    with page.expect_response("**/changes"):
        page.locator("#collection").select_option(collection)


def upload(stack, collection: str, *documents: dict) -> None:
    job = stack.post("/v1/documents", {"collection": collection, "documents": list(documents)}).json()["job"]
    with httpx.stream(
        "GET", f"{stack.url}/v1/jobs/{job['id']}", headers={"Accept": "text/event-stream"}, trust_env=False, timeout=90
    ) as events:
        last = [line for line in events.iter_lines() if line.startswith("data:")][-1]
    assert json.loads(last.removeprefix("data:"))["state"] == "done"


def told(entry: Locator) -> str:
    return entry.locator(".words").inner_text()


# Asking


def test_an_answer_streams_and_comes_with_citations_and_steps(page):
    page.evaluate(
        """() => {
          window.seen = [];
          const look = () => {
            const words = document.querySelector(".words");
            if (words && seen.at(-1) !== words.textContent) seen.push(words.textContent);
          };
          new MutationObserver(look).observe(document.getElementById("entries"), {subtree: true, childList: true});
        }"""
    )
    entry = ask(page, PLUTO)
    expect(entry.locator(".words")).to_contain_text("dwarf planet")
    seen = [text for text in page.evaluate("seen") if text]
    assert len(seen) > 2 and len(seen[0]) < len(seen[-1])
    expect(entry.locator(".cited .number").first).to_have_text("1")
    entry.locator(".waterfall summary").click()
    expect(entry.locator(".waterfall .name", has_text="retrieve")).to_be_visible()
    expect(entry.locator(".waterfall li b").first).to_have_text(re.compile(r"^[\d.]+ ms$"))
    expect(page.locator("#status")).to_contain_text("Answer: ")


def test_a_question_is_asked_and_read_with_the_keyboard_alone(page):
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


def test_what_nothing_answers_is_said_plainly(page):
    entry = ask(page, "What is the melting point of tungsten?")
    expect(entry.locator(".notice")).to_contain_text("Almanac does not answer this.")


def test_a_citation_opens_the_version_with_exactly_the_quote_marked(page, stack, tmp_path):
    entry = ask(page, PLUTO)
    set_date(page, "As of", "2000-06-01")
    expect(entry.locator(".changed ins").first).to_be_visible()
    entry.locator(".sup").first.click()
    answer = stack.ask(PLUTO, collection="almanac", as_of="2000-06-01")
    cited = answer["citations"][0]
    mark = page.locator("#quoted")
    expect(mark).to_be_in_viewport()
    assert mark.text_content() == cited["quote"]
    source = page.locator("#source")
    expect(source).to_contain_text("Valid22 June 1978 to 24 August 2006")
    expect(source).to_contain_text("On recordsince 25 August 2006")
    expect(source).to_contain_text("What it is")
    page.screenshot(path=tmp_path / "cited.png")


def test_offsets_are_counted_in_code_points(page, stack):
    text = (
        "🌑🌒🌓🌔🌕 𝔐𝔬𝔬𝔫 notes, e\u0301 too.\n\nThe lighthouse keeper of Skerry Rock is called Ottilie Brandt. 🌖🌗🌘\n"
    )
    upload(stack, "astral", {"id": "moon", "title": "Skerry Rock", "text": text})
    reload(page)
    choose(page, "astral")
    entry = ask(page, "What is the lighthouse keeper of Skerry Rock called?")
    entry.locator(".sup").first.click()
    quoted = page.locator("#quoted").text_content()
    assert "Ottilie Brandt" in quoted
    [cited, *_] = stack.ask("What is the lighthouse keeper of Skerry Rock called?", collection="astral")["citations"]
    assert quoted == cited["quote"] == text[cited["start"] : cited["end"]]
    assert page.locator(".text").text_content() == text


# Time


def test_moving_the_needle_asks_again_and_marks_what_changed(page, tmp_path):
    entry = ask(page, TALLEST)
    assert "Burj Khalifa" in told(entry)
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
    expect(right.locator(".changed del")).to_contain_text("12 Harbour Street")
    page.screenshot(path=tmp_path / "compared.png", full_page=True)


def test_an_entry_is_taken_over_into_the_comparison(page):
    set_date(page, "As of", "2000-06-01")
    ask(page, PLUTO).get_by_role("button", name="Compare with another moment").click()
    expect(page.locator("#compare-question")).to_have_value(PLUTO)
    expect(page.locator("#left-as-of")).to_have_value("2000-06-01")
    expect(page.locator("#right-as-of")).to_be_focused()


def test_a_documents_versions_are_drawn_and_open(page):
    page.get_by_role("link", name="Library").click()
    page.get_by_role("button", name="Pluto", exact=True).click()
    versions = page.locator(".versions li")
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


# Taking in


def test_an_upload_tells_its_progress_and_can_be_asked_about(page, tmp_path):
    file = tmp_path / "ferry.md"
    file.write_text("# The ferry\n\nThe ferry to Lindholm leaves from pier seven at half past nine.\n")
    page.get_by_role("link", name="Library").click()
    page.locator("#upload-collection").fill("dropped")
    page.locator("#files").set_input_files(file)
    job = page.locator(".job").first
    expect(job).to_contain_text("ferry.md")
    expect(job.locator(".state")).to_have_text("done")
    expect(job).to_contain_text("1 document ·")
    expect(job.get_by_role("progressbar")).to_have_js_property("position", 1)
    expect(page.locator("#collection")).to_have_value("dropped")
    page.get_by_role("link", name="Ask").click()
    expect(ask(page, "Where does the ferry to Lindholm leave from?").locator(".words")).to_contain_text("pier seven")


def test_a_file_dropped_anywhere_is_taken_in_and_a_bad_one_is_refused_in_words(page):
    drop = """(name) => {
      const data = new DataTransfer();
      data.items.add(new File(["# Dropped\\n\\nA heron stands in the reeds."], name));
      document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.locator("#upload-collection").evaluate("(field) => (field.value = 'dropped')")
    page.evaluate(drop, "heron.md")
    expect(page.locator(".job .state").first).to_have_text("done")
    page.evaluate(drop, "heron.exe")
    expect(page.locator(".job").first.get_by_role("alert")).to_contain_text("cannot be read")


# What goes wrong


def events(*told: tuple[str, dict]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in told)


def test_without_the_generator_the_answer_comes_and_says_so(page, stack):
    set_date(page, "As of", "2020-06-01")
    old = stack.kill("generator")
    entry = ask(page, "How is the kilogram defined?")
    expect(entry.locator(".notice")).to_contain_text("The writer did not answer: the evidence is quoted")
    expect(entry.locator(".words")).to_contain_text("Planck")
    stack.restarted("generator", old)


def test_each_loss_is_told_in_words_of_its_own(page, stack):
    answer = {**stack.ask(PLUTO, collection="almanac"), "degraded": ["features", "worker", "rank"]}
    body = events(("step", {"step": "encode", "ms": 3}), ("done", {"answer": answer}))
    page.route("**/v1/answers", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    notice = ask(page, PLUTO).locator(".notice")
    expect(notice).to_contain_text("facts could not be looked up")
    expect(notice).to_contain_text("No worker took the question up")
    expect(notice).to_contain_text("Without rank, which did not answer.")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"status": 503, "problem": "unavailable"}, "Wait a moment, then try again"),
        ({"status": 404, "problem": "collection-not-found"}, "Choose another collection"),
        ({"status": 200, "problem": "deadline-exceeded"}, "says what is slow"),
    ],
)
def test_an_error_says_what_happened_and_what_to_do(page, given, expected):
    problem = {
        "type": f"urn:almanac:error:{given['problem']}",
        "title": "No luck",
        "detail": "It is so.",
        "status": 503,
    }
    body = events(("error", {"problem": problem})) if given["status"] == 200 else json.dumps(problem)
    kind = "text/event-stream" if given["status"] == 200 else "application/problem+json"
    reply = {"status": given["status"], "content_type": kind, "body": body}
    page.route("**/v1/answers", lambda route: route.fulfill(**reply))
    page.locator("#question").fill(PLUTO)
    page.locator("#question").press("Enter")
    alert = page.locator(".entry").first.get_by_role("alert")
    expect(alert).to_contain_text("No luck")
    expect(alert).to_contain_text("It is so.")
    expect(alert).to_contain_text(expected)


def test_a_gateway_that_is_gone_is_said_plainly(page):
    page.route("**/v1/answers", lambda route: route.abort())
    page.locator("#question").fill(PLUTO)
    page.locator("#question").press("Enter")
    entry = page.locator(".entry").first
    expect(entry.get_by_role("alert")).to_contain_text("The gateway cannot be reached")
    page.unroute("**/v1/answers")
    entry.get_by_role("button", name="Ask again").click()
    expect(entry.locator(".words")).to_contain_text("dwarf planet")


def test_nothing_in_documents_titles_names_or_questions_is_ever_run(page, stack):
    rows = [
        {
            "id": f"x{n}-{payload}"[:200],
            "title": payload,
            "text": f"# {payload}\n\nThe heron number {n} of the marsh eats {payload} every morning.\n",
            "uri": f"javascript:window.hit={n + 2}",
            "metadata": {"kind": payload[:200]},
        }
        for n, payload in enumerate(FEW)
    ]
    upload(stack, "xss", *rows)
    reload(page)
    choose(page, "xss")
    for n, payload in enumerate(FEW):
        entry = ask(page, f"What does the heron number {n} of the marsh eat? {payload}")
        for folded in entry.locator(".cited details").all():
            folded.locator("summary").click()
        entry.locator(".cited .title").first.click()
        expect(page.locator("#source .text")).to_contain_text("heron")
        page.keyboard.press("Escape")
    entry.locator(".cited .title").last.click()
    expect(page.locator("#source .text")).to_contain_text("heron")
    expect(page.locator("#source dl a")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Library").click()
    for document in page.locator("#documents button").all():
        document.click()
        expect(page.locator(".versions li")).to_have_count(1)
    reload(page)
    expect(page.locator("#daybook li")).to_have_count(len(FEW))
    assert page.evaluate("window.hit") is None


# For everyone


@pytest.mark.parametrize("view", VIEWS)
def test_a_small_screen_needs_no_sideways_scrolling(browser, stack, view, tmp_path):
    with opened(browser, f"{stack.url}/#{view}", viewport={"width": 360, "height": 740}) as page:
        if view == "ask":
            page.get_by_label("As known at another time").check()
            ask(page, TALLEST)
            set_date(page, "As of", "2007-06-01")
            expect(page.locator(".changed ins")).to_be_visible()
        if view == "library":
            page.get_by_role("button", name="Pluto", exact=True).click()
            expect(page.locator(".versions li").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.screenshot(path=tmp_path / f"{view}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, stack, scheme, tmp_path):
    # What axe itself injects is not the page's: the policy is tested by every other test here.
    with opened(browser, stack.url, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce") as page:
        found = []
        page.get_by_label("As known at another time").check()
        ask(page, PLUTO)
        set_date(page, "As of", "2003-06-01")
        expect(page.locator(".changed ins").first).to_be_visible()
        page.locator(".waterfall summary").click()
        found += serious(page)
        page.locator(".sup").first.click()
        expect(page.locator("#quoted")).to_be_visible()
        page.screenshot(path=tmp_path / f"{scheme}.png")
        found += serious(page)
        page.keyboard.press("Escape")
        for view in ("Compare", "Library"):
            page.get_by_role("link", name=view).click()
            if view == "Library":
                page.get_by_role("button", name="Pluto", exact=True).click()
                expect(page.locator(".versions li").first).to_be_visible()
            found += serious(page)
        assert found == []


def serious(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_day_and_night_follow_the_system_until_one_is_chosen(browser, stack):
    with opened(browser, stack.url, color_scheme="dark") as page:
        root, button = page.locator("html"), page.get_by_role("button", name="Night")
        expect(root).to_have_attribute("data-theme", "night")
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        expect(root).to_have_attribute("data-theme", "day")
        reload(page)
        expect(root).to_have_attribute("data-theme", "day")


def test_the_day_book_keeps_questions_with_their_moments_in_this_browser_alone(page):
    entry = ask(page, PLUTO)
    set_date(page, "As of", "2000-06-01")
    expect(entry.locator(".changed ins").first).to_be_visible()
    reload(page)
    expect(page.locator("#daybook li")).to_have_count(1)
    page.locator("#daybook button").click()
    entry = finished(page.locator(".entry").first)
    expect(entry.locator(".words")).to_contain_text("ninth")
    expect(entry.locator(".moment")).to_contain_text("as of 1 June 2000")
    expect(page.get_by_label("As of: the date")).to_have_value("2000-06-01")
    page.get_by_role("button", name="Clear the day-book").click()
    expect(page.locator("#daybook li")).to_have_count(0)
