"""The page in a real browser, over a real stack: asked, cited, judged, uploaded to, attacked."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import httpx
import pytest
from playwright.sync_api import expect

from services.orchestrator.graph.answer import Event
from tests.e2e.attacks import FEW
from tests.e2e.browser import PLUTO, ask, choose, finished, opened, reload, set_date
from tests.fakes.gateway import citation, said, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def upload(stack, collection: str, *documents: dict) -> None:
    job = stack.post("/v1/documents", {"collection": collection, "documents": list(documents)}).json()["job"]
    with httpx.stream(
        "GET", f"{stack.url}/v1/jobs/{job['id']}", headers={"Accept": "text/event-stream"}, trust_env=False, timeout=90
    ) as events:
        last = [line for line in events.iter_lines() if line.startswith("data:")][-1]
    assert json.loads(last.removeprefix("data:"))["state"] == "done"


# Asking


def test_an_answer_is_shown_as_it_comes(browser, tmp_path):
    rest = threading.Event()

    async def paced(question, emit):
        await emit(Event("step", {"step": "encode", "ms": 1.0}))
        await emit(Event("citation", {"citation": citation().to_json()}))
        await emit(Event("text", {"text": "It opened"}))
        await asyncio.to_thread(rest.wait, 60)
        await emit(Event("text", {"text": " in 1901. [1]"}))
        await emit(Event("done", {"answer": said(question, "It opened in 1901. [1]", citation()).to_json()}))

    with serving(tmp_path, paced) as (url, _), opened(browser, url) as page:
        page.locator("#question").fill("When did the harbour open?")
        page.locator("#question").press("Enter")
        entry = page.locator(".entry").first
        expect(entry.locator(".words[aria-busy=true]")).to_have_text("It opened")
        expect(entry.locator(".doing")).to_have_text("Looking it up")
        expect(entry.locator(".waterfall")).to_have_count(0)
        rest.set()
        expect(finished(entry).locator(".words")).to_contain_text("It opened in 1901.")
        expect(entry.locator("[aria-busy]")).to_have_count(0)
        expect(entry.locator(".doing")).to_be_empty()


def test_an_answer_comes_with_citations_and_steps(page):
    entry = ask(page, PLUTO)
    expect(entry.locator(".words")).to_contain_text("dwarf planet")
    expect(entry.locator(".cited .number").first).to_have_text("1")
    entry.locator(".waterfall summary").click()
    expect(entry.locator(".waterfall .name", has_text="retrieve")).to_be_visible()
    expect(entry.locator(".waterfall li b").first).to_have_text(re.compile(r"^[\d.]+ ms$"))
    expect(page.locator("#status")).to_contain_text("Answer: ")


def test_what_nothing_answers_is_said_plainly(page):
    entry = ask(page, "What is the melting point of tungsten?")
    expect(entry.locator(".notice")).to_contain_text("Almanac does not answer this.")


def test_a_date_in_the_question_is_said_to_be_taken(page):
    entry = ask(page, "What was the tallest building in the world in June 2007?")
    expect(entry.locator(".words")).to_contain_text("Taipei 101")
    expect(entry.locator(".foot")).to_contain_text("for the question says “in June 2007”")


def test_a_follow_up_is_read_after_the_question_before_and_says_so(page):
    ask(page, "What is the tallest building in the world?")
    entry = ask(page, "And in June 2007?")
    expect(entry.locator(".words")).to_contain_text("Taipei 101")
    read = "Read as “What is the tallest building in the world in June 2007?”"
    expect(entry.locator(".foot")).to_contain_text(read)


def test_a_thumb_and_its_reason_reach_the_record(page, stack):
    entry = ask(page, PLUTO)
    up, down = (entry.get_by_role("button", name=name) for name in ("It helped", "It did not"))
    with page.expect_response("**/feedback") as told:
        up.click()
    assert told.value.json()["helpful"] is True
    expect(up).to_have_attribute("aria-pressed", "true")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    entry.get_by_label("What was wrong with it?").fill("It names no source I trust.")
    with page.expect_response("**/feedback") as told:
        entry.get_by_role("button", name="Send").click()
    said = told.value.json()
    assert (said["helpful"], said["note"], said["changed"]) == (False, "It names no source I trust.", True)
    expect(entry.locator(".thumbs .hint")).to_have_text("Noted, with your reason.")


def test_feedback_that_is_refused_says_why(page):
    entry = ask(page, PLUTO)
    problem = {"type": "urn:almanac:error:answer-not-found", "title": "Answer not found", "detail": "It is erased."}
    page.route("**/feedback", lambda route: route.fulfill(status=404, body=json.dumps(problem)))
    entry.get_by_role("button", name="It helped").click()
    expect(entry.get_by_role("alert")).to_contain_text("It is erased.")
    expect(entry.get_by_role("button", name="It helped")).to_have_attribute("aria-pressed", "false")


def test_the_waterfall_is_what_the_answer_recorded(page, stack):
    entry = ask(page, PLUTO)
    with page.expect_response("**/feedback") as told:
        entry.get_by_role("button", name="It helped").click()
    answer_id = told.value.json()["answer_id"]
    answer = httpx.get(f"{stack.url}/v1/answers/{answer_id}", trust_env=False).json()
    entry.locator(".waterfall summary").click()
    rows = entry.locator(".waterfall li")
    expect(rows.locator(".name")).to_have_text([f"{taken['step']} {taken['node']}" for taken in answer["trace"]])
    starts = rows.locator(".bar").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().left)")
    assert starts == sorted(starts) and starts[0] < starts[-1]
    expect(entry.locator(".waterfall")).to_contain_text(answer["trace_id"])


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
