"""One answer's trace, as every process told it: each step with its parent, across Celery and gRPC."""

from __future__ import annotations

from tests.collector import Received
from tests.support import eventually

QUESTION = "What does the almanac say of the northern winter tides?"
STEPS = {"encode", "facts", "retrieve", "evidence", "generate"}


def test_an_answer_is_one_trace_from_the_request_to_the_last_node(stack, collector):
    answer = stack.ask("Which city is the capital of Kazakhstan?", as_of="2015-01-01", collection="almanac")
    asked_again = stack.ask(
        "How is the kilogram defined in terms of its physical object?", as_of="2015-01-01", collection="almanac"
    )
    for found in (answer, asked_again):
        spans = eventually(lambda found=found: whole(collector.trace(found["trace_id"])), 30, "spans are missing")
        held = {span.span: span for span in spans}
        (root,) = [span for span in spans if span.parent not in held]
        assert (root.process, root.name) == ("gateway", "POST /v1/answers")
        task = one(spans, "worker", "almanac.answer")
        assert path(task, held) == ["almanac.answer", "POST /v1/answers"]
        steps = [span for span in spans if span.process == "worker" and held.get(span.parent) == task]
        assert {step.name for step in steps} <= STEPS | {"rank"}
        assert {"encode", "retrieve", "facts"} <= {step.name for step in steps}
        served = [span for span in spans if span.process in ("encoder", "retriever", "features", "generator")]
        assert {"encoder", "retriever"} <= {span.process for span in served}
        for span in served:
            calls, step = held[span.parent], held[held[span.parent].parent]
            assert calls.name == span.name
            if calls.process == "gateway":  # it has the question encoded while that is on its way
                assert span.process == "encoder" and path(calls, held)[-1] == "POST /v1/answers"
            else:
                assert calls.process == "worker"
                assert step in steps, f"{span.name} was called by {step.name}"


def test_spans_hold_no_text(stack, collector):
    answer = stack.ask(QUESTION, collection="almanac")
    spans = eventually(lambda: whole(collector.trace(answer["trace_id"])), 30, "spans are missing")
    told = " ".join([*(span.name for span in spans), *(value for span in spans for value in span.attributes)])
    for word in ("almanac say", "northern", "tides"):
        assert word not in told


def test_the_waterfall_needs_no_server(stack):
    answer = stack.ask("How is the kilogram defined?", as_of="2010-01-01", collection="almanac")
    shown = stack.almanac("trace", answer["id"]).stdout
    assert answer["trace_id"] in shown
    assert "retrieve" in shown and "█" in shown
    assert stack.json("trace", answer["id"])["trace"][0]["step"] == "encode"
    assert stack.almanac("graph").stdout.startswith("flowchart LR")


def one(spans: list[Received], process: str, name: str) -> Received:
    (found,) = [span for span in spans if (span.process, span.name) == (process, name)]
    return found


def path(span: Received, held: dict[str, Received]) -> list[str]:
    """The processes' names from the span up to the root, equal neighbours once."""
    names = [span.name]
    while (span := held.get(span.parent)) is not None:
        if span.name != names[-1]:
            names.append(span.name)
    return names


def whole(spans: list[Received]) -> list[Received]:
    """The spans, once the request's own is there and no parent is missing but the root's."""
    held = {span.span for span in spans}
    ended = any(span.name == "POST /v1/answers" for span in spans)
    return spans if ended and sum(span.parent not in held for span in spans) == 1 else []
