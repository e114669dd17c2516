"""What the page says when something is missing, broken or gone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import PLUTO, ask, finished, opened, reload, set_date, turn_to

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


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


def test_a_page_whose_scripts_do_not_come_says_so(browser, stack):
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.route("**/ruler.js", lambda route: route.abort())
        page.goto(stack.url)
        expect(page.locator("#late")).to_be_hidden()
        expect(page.locator("#late")).to_be_visible()
        expect(page.locator("#late")).to_contain_text("Load it again")


@contextmanager
def cutting(port: int, *words: bytes) -> Iterator[str]:
    """A way to the gateway that breaks off right after it has let each of the words through, once: its URL."""
    left, pumps = list(words), []

    def pump(source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
                if answers and left and left[0] in data:
                    del left[0]
                    break
        except OSError:
            pass  # the other direction has ended it
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # which, unlike close, wakes the other direction up
        source.close()

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            for pair in ((client, server, False), (server, client, True)):
                pumps.append(threading.Thread(target=pump, args=pair))
                pumps[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for one in pumps:
        one.join()


def test_an_empty_almanac_says_what_to_do_first(page):
    page.route("**/v1/collections", lambda route: route.fulfill(json={"collections": []}))
    reload(page)
    expect(page.locator("#empty")).to_contain_text("The pages are empty yet.")
    expect(page.locator("#collection option")).to_have_text("none yet")
    page.locator("#empty").get_by_role("link", name="Take something in").click()
    expect(page.locator("#upload-collection")).to_have_value("default")
    turn_to(page, "Ask")
    page.locator("#question").fill(PLUTO)
    page.locator("#question").press("Enter")
    expect(page.locator(".entry").get_by_role("alert")).to_contain_text("take documents into this one")


def test_an_answer_that_breaks_off_goes_on_where_it_was(browser, stack):
    with cutting(stack.port, b"event: step", b"event: text") as url, opened(browser, url) as page:
        taken_up = []
        page.on("request", lambda request: taken_up.append(request.headers.get("last-event-id")))
        entry = ask(page, PLUTO)
        expect(entry.locator(".cited .number")).to_have_text(["1", "2", "3"])
        expect(entry.get_by_role("alert")).to_have_count(0)
        ids = [one for one in taken_up if one]
        assert len(ids) == 2 and len({one.partition("/")[0] for one in ids}) == 1
        expect(page.locator("#daybook li")).to_have_count(1)


def test_an_answer_that_keeps_breaking_off_says_so_and_can_be_asked_again(page):
    body = events(("step", {"step": "encode", "ms": 3}))
    page.route("**/v1/answers", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.locator("#question").fill(PLUTO)
    page.locator("#question").press("Enter")
    entry = page.locator(".entry").first
    expect(entry.get_by_role("alert")).to_contain_text("The answer broke off")
    page.unroute("**/v1/answers")
    entry.get_by_role("button", name="Ask again").click()
    finished(entry)
