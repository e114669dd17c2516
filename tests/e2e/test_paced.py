"""A real stack whose generator says back the evidence at a given pace: what happens in mid-answer can be seen."""

import json
import threading
import time

import httpx
import openai
import pytest

from tests.support import eventually, ingest_examples, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WORDS_A_SECOND = 12
ASKED = {"question": "How is the kilogram defined?", "collection": "almanac", "as_of": "2020-06-01"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = {"ALMANAC_GENERATOR_BACKEND": "memory", "ALMANAC_GENERATOR_PACE": str(WORDS_A_SECOND)}
    with running_stack(tmp_path_factory.mktemp("paced") / "home", **settings) as running:
        ingest_examples(running)
        yield running


def listen(stack, events):
    """Collect (arrival, name, data) of every event of one streamed answer."""
    body = {**ASKED, "stream": True}
    with httpx.stream("POST", f"{stack.url}/v1/answers", json=body, timeout=90, trust_env=False) as response:
        name = ""
        for line in response.iter_lines():
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                events.append((time.monotonic(), name, json.loads(line.removeprefix("data:"))))


def text_of(events):
    return "".join(data["text"] for _, name, data in events if name == "text")


def test_the_unchanged_openai_client_shows_text_before_the_last_sentence_is_generated(stack):
    arrivals, last = [], None
    with (
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key="local") as client,
        client.chat.completions.create(
            model="almanac",
            messages=[{"role": "user", "content": ASKED["question"]}],
            stream=True,
            extra_body={"collection": "almanac", "as_of": ASKED["as_of"]},
        ) as stream,
    ):
        for last in stream:
            if last.choices and last.choices[0].delta.content:
                arrivals.append((time.monotonic(), last.choices[0].delta.content))
    text = "".join(part for _, part in arrivals)
    assert "Planck" in text and text.count("[") > 1
    # The second sentence takes its words at the generator's pace; the first was there well before.
    assert arrivals[-1][0] - arrivals[0][0] > 5 / WORDS_A_SECOND
    assert last.model_extra["citations"] and last.model_extra["moment"]["as_of"].startswith("2020-06-01")


def test_a_worker_killed_in_mid_answer_costs_no_word_and_doubles_none(stack):
    whole = []
    listen(stack, whole)
    events = []
    listener = threading.Thread(target=listen, args=(stack, events))
    listener.start()
    eventually(lambda: text_of(events), 30)
    old = stack.kill("worker")
    listener.join(90)
    assert not listener.is_alive() and events[-1][1] == "done", events
    answer = events[-1][2]["answer"]
    assert text_of(events) == text_of(whole) == answer["answer"]
    stack.restarted("worker", old)
    eventually(lambda: stack.ask(**ASKED)["degraded"] == [], 40)


def test_a_client_that_leaves_frees_the_generator(stack):
    with pytest.raises(httpx.ReadTimeout):
        stack.post("/v1/answers", ASKED, timeout=1.0)
    answer = stack.ask(**ASKED)
    assert answer["degraded"] == []
