"""Markup in what a page is told (answers, quotes, titles, addresses, problems, file names) is shown, and never run."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from services.catalog.commit import Recorder
from services.catalog.records import DocumentIn
from services.common.errors import Unavailable
from services.orchestrator.graph.answer import Event
from tests.e2e.attacks import MANY
from tests.e2e.browser import opened, turn_to
from tests.fakes.gateway import COLLECTION, citation, said, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FAIL = "fail: "


async def echoes(question, emit):
    """Answers with the question in every place that an answer has; or fails with it."""
    text = question.text
    if text.startswith(FAIL):
        return await emit(Event("error", {"problem": Unavailable(text).problem()}))
    cited = replace(citation(), title=text, uri=text, quote=text, doc_id=text, version_id=text, section=(text,))
    taken = {"step": text, "node": text, "needs": (text,), "start_ms": 0.0, "ms": 1.0, "tries": 2, "fell_back": True}
    fields = {"degraded": (text,), "timings_ms": {text: 1.0}, "models": {"encoder": text}, "trace": (taken,)}
    answer = said(question, f"{text} [1]", cited, **fields, trace_id=text, moment_phrase=text, cached_from=text)
    await emit(Event("step", {"step": text, "ms": 1.0}))
    await emit(Event("citation", {"citation": cited.to_json()}))
    for piece in (text[: len(text) // 2], text[len(text) // 2 :], " [1]"):
        await emit(Event("text", {"text": piece}))
    return await emit(Event("done", {"answer": answer.to_json()}))


def recorded(context):
    """A document of each attack, in every field that a document has."""
    with context.catalog.write() as tx:
        recorder = Recorder(tx, "local", COLLECTION)
        for n, attack in enumerate(MANY):
            metadata = {"kind": attack, attack[:64]: "kind"}
            doc_id = f"{n} {attack}".replace("\n", " ")  # no path holds a line's end
            recorder.document(DocumentIn(doc_id, attack, f"# {attack}\n\n{attack}", attack, metadata))
        recorder.close()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("attacked"), echoes, recorded) as (url, _), opened(browser, url) as ready:
        yield ready


def ask(page, question):
    turn_to(page, "Ask")
    page.locator("#entries").evaluate("node => node.replaceChildren()")  # those asked before would slow each one down
    page.locator("#question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    entry = page.locator(".entry").first
    shown = page.locator("#question").input_value() or question
    expect(entry.locator(".question")).to_have_text(shown.strip(), use_inner_text=False)
    return entry


def unharmed(page, what):
    found = page.evaluate(
        "[window.hit ?? null, location.host, document.querySelectorAll('main script, main iframe, main img').length]"
    )
    assert found == [None, page.evaluate("location.host"), 0], what
    assert page.evaluate("window.violations") == [], what


def test_an_answer_is_shown_as_its_letters(page):
    for attack in MANY:
        entry = ask(page, attack)
        expect(entry.locator(".waterfall")).to_be_attached()
        assert attack.split()[0] in entry.locator(".words").text_content(), attack
        entry.locator(".cited .title").first.click()
        page.keyboard.press("Escape")
        unharmed(page, attack)


def test_a_comparison_is_shown_as_its_letters(page):
    turn_to(page, "Compare")
    for attack in MANY:
        page.locator("#compare-question").fill(attack)
        page.get_by_role("button", name="Compare", exact=True).click()
        expect(page.locator("#compared article")).to_have_count(2)
        expect(page.locator("#compared > .question")).to_contain_text(attack.split()[0])
        page.locator("#compared .cited .title").first.click()
        page.keyboard.press("Escape")
        unharmed(page, attack)
        page.locator("#compared").evaluate("node => node.replaceChildren()")


def traced(attack):
    """An answer over time with the attack in every field that is shown, as the gateway would tell it."""
    cited = {
        **citation().to_json(),
        "kind": "fact",
        "title": attack,
        "uri": attack,
        "quote": attack,
        "section": [attack],
    }
    spans = [("1931-05-01T00:00:00Z", "1972-01-01T00:00:00Z"), ("1974-01-01T00:00:00Z", None)]
    entries = [{"valid_from": start, "valid_to": end, "answer": attack, "citations": [cited]} for start, end in spans]
    return {"question": attack, "collection": attack, "known_at": None, "complete": False, "entries": entries}


def test_a_timeline_is_shown_as_its_letters(page):
    turn_to(page, "Timeline")
    page.route(
        "**/v1/answers/timeline", lambda route: route.fulfill(json=traced(route.request.post_data_json["question"]))
    )
    for attack in MANY:
        page.locator("#timeline-question").fill(attack)
        page.get_by_role("button", name="Trace", exact=True).click()
        expect(page.locator("#timeline-found .question")).to_contain_text(attack.split()[0])
        page.get_by_role("button", name="The source").first.click()
        expect(page.locator("#quoted")).to_contain_text(attack.split()[0])
        page.keyboard.press("Escape")
        unharmed(page, attack)


def test_a_problem_is_shown_as_its_letters(page):
    for attack in MANY:
        entry = ask(page, FAIL + attack)
        expect(entry.locator(".notices")).to_contain_text(attack.split()[0])
        unharmed(page, attack)


def test_a_files_name_is_shown_as_its_letters(page):
    turn_to(page, "Library")
    for attack in MANY:
        name = attack.replace("/", "∕") + ".exe"
        page.locator("#files").set_input_files({"name": name, "mimeType": "text/plain", "buffer": b"x"})
        expect(page.locator("#jobs .state").first).to_have_text("not taken in")
        assert name.split()[0] in page.locator("#jobs strong").first.text_content(), attack
        unharmed(page, attack)


def test_a_document_is_shown_as_its_letters(page):
    turn_to(page, "Library")
    page.locator("#documents-more").click()
    listed = page.locator("#documents button")
    expect(listed).to_have_count(len(MANY) + 1)
    for document in listed.all()[:-1]:  # the last one is nobody's attack
        attack = document.text_content()
        document.click()
        expect(page.locator("#versions li")).to_have_count(1)
        page.locator("#versions button").first.click()
        expect(page.locator("#source .text")).to_contain_text(attack.split()[0])
        page.keyboard.press("Escape")
        unharmed(page, attack)
