"""The graph's executor: order, concurrency, deadlines, retries, fallbacks, and what becomes of the rest."""

import asyncio
import time

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.errors import (
    BehindWatermark,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ModelNotFound,
    MomentViolation,
    NotFound,
    Overloaded,
    Unavailable,
)
from services.common.metrics import REGISTRY
from services.common.rpc.deadlines import deadline, remaining
from services.common.telemetry import tracing, watch
from services.orchestrator.graph.executor import Step, Trace, calling, execute
from services.orchestrator.graph.patience import NodeFailed


async def ignore(step, ms):
    pass


async def run(*steps, trace=None, observe=ignore):
    return await execute(steps, trace or Trace(), observe)


def giving(value, after=None):
    async def give(results):
        if after is not None:
            await after.wait()
        return value(results) if callable(value) else value

    return give


class Flaky:
    """Fails as told, once for each error, then gives "done"."""

    def __init__(self, *errors, node="node"):
        self.errors, self.node, self.tries = list(errors), node, 0

    async def __call__(self, results):
        self.tries += 1
        with calling(self.node):
            if self.errors:
                raise self.errors.pop(0)
        return "done"


async def test_a_step_begins_once_all_it_needs_is_done_whatever_the_order_they_are_listed_in():
    sums = Step("sum", giving(lambda results: results["a"] + results["b"]), 1, ("a", "b"))
    twice = Step("twice", giving(lambda results: 2 * results["sum"]), 1, ("sum",))
    found = await run(twice, sums, Step("b", giving(2), 1), Step("a", giving(1), 1))
    assert found == {"a": 1, "b": 2, "sum": 3, "twice": 6}


async def test_independent_steps_run_together():
    one_began, other_began = asyncio.Event(), asyncio.Event()

    async def meet(mine, theirs):
        mine.set()
        await theirs.wait()

    one = Step("one", lambda _: meet(one_began, other_began), 1)
    await run(one, Step("other", lambda _: meet(other_began, one_began), 1))


async def test_a_slow_step_holds_up_only_those_that_need_it():
    finished, go = [], asyncio.Event()

    async def observe(step, _):
        finished.append(step)
        if step == "after quick":
            go.set()

    slow, quick = Step("slow", giving("s", after=go), 1), Step("quick", giving("q"), 1)
    after = [Step(f"after {name}", giving(name), 1, (name,)) for name in ("slow", "quick")]
    await run(slow, quick, *after, observe=observe)
    assert finished == ["quick", "after quick", "slow", "after slow"]


async def test_a_failed_node_falls_back_and_is_listed_as_degraded_once():
    trace = Trace()
    lost = [
        Step(name, Flaky(Unavailable("down"), node="retriever"), 1, node="retriever", fallback=giving(f"no {name}"))
        for name in ("one", "two")
    ]
    after = Step("after", giving(lambda results: results["one"]), 1, ("one", "two"))
    found = await run(*lost, after, trace=trace)
    assert found == {"one": "no one", "two": "no two", "after": "no one"}
    assert trace.degraded == ["retriever"]


async def test_the_node_that_failed_is_degraded_not_the_one_the_step_is_named_after():
    trace = Trace()
    await run(
        Step("facts", Flaky(Internal("broke"), node="retriever"), 1, node="features", fallback=giving(0)), trace=trace
    )
    assert trace.degraded == ["retriever"]


async def test_the_fallback_sees_what_the_steps_before_gave():
    step = Step("two", Flaky(Unavailable("down")), 1, ("one",), fallback=giving(lambda results: results["one"] + 1))
    assert (await run(Step("one", giving(1), 1), step))["two"] == 2


async def test_without_a_fallback_the_error_of_the_node_is_that_of_the_graph():
    trace = Trace()
    with pytest.raises(BehindWatermark, match="not yet"):
        await run(Step("one", Flaky(BehindWatermark("not yet")), 1), trace=trace)
    assert trace.degraded == []


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_a_step_is_tried_again_as_often_as_its_retries(retries):
    enough, flaky = Flaky(*[Unavailable("down")] * retries), Flaky(*[Unavailable("down")] * (retries + 1))
    trace = Trace()
    assert (await run(Step("one", enough, 1, retries=retries), trace=trace))["one"] == "done"
    assert trace.degraded == []
    assert (await run(Step("one", flaky, 1, retries=retries, fallback=giving("less"))))["one"] == "less"
    assert (enough.tries, flaky.tries) == (retries + 1, retries + 1)


async def test_what_took_too_long_is_not_tried_again():
    late = Flaky(DeadlineExceeded("late"))
    assert (await run(Step("one", late, 1, retries=3, fallback=giving("less"))))["one"] == "less"
    assert late.tries == 1


async def test_a_step_that_keeps_no_deadline_is_ended_at_its_seconds_and_falls_back():
    trace, never, began = Trace(), asyncio.Event(), time.perf_counter()
    step = Step("one", giving("x", after=never), 0.05, node="encoder", retries=5, fallback=giving("less"))
    assert (await run(step, trace=trace))["one"] == "less"
    assert trace.degraded == ["encoder"]
    assert time.perf_counter() - began < 1
    with pytest.raises(DeadlineExceeded, match=r"one took longer than 0\.05 s"):
        await run(Step("one", giving("x", after=never), 0.05))


async def test_the_seconds_bound_all_tries_together():
    tries = 0

    async def slow(_):
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.06)
        raise NodeFailed("node", Unavailable("down"))

    with pytest.raises(DeadlineExceeded):
        await run(Step("one", slow, 0.1, retries=20))
    assert tries == 2


async def test_calls_inside_a_step_see_its_deadline_and_never_more_than_the_one_around():
    async def left(_):
        return remaining(99)

    with deadline(1):
        found = await run(Step("short", left, 0.5), Step("long", left, 60))
    assert 0.3 < found["short"] <= 0.5 < found["long"] <= 1
    assert remaining(99) == 99


@pytest.mark.parametrize("error", [MomentViolation, InvalidRequest, NotFound, ModelNotFound])
async def test_a_broken_moment_and_a_bad_request_never_fall_back_and_are_not_tried_again(error):
    trace, broken = Trace(), Flaky(error("no"))
    with pytest.raises(error):
        await run(Step("one", broken, 1, retries=3, fallback=giving("less")), trace=trace)
    assert broken.tries == 1 and trace.degraded == []


@pytest.mark.parametrize("error", [Unavailable, BehindWatermark, Overloaded, DeadlineExceeded, Internal])
def test_what_may_be_survived_names_the_node(error):
    with pytest.raises(NodeFailed) as failed, calling("encoder"):
        raise error("why")
    assert failed.value.node == "encoder" and isinstance(failed.value.error, error)


async def test_a_mistake_in_a_step_is_no_failure_of_a_node():
    async def mistaken(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(Step("one", mistaken, 1, fallback=giving("less")))


async def test_a_step_passed_over_gives_none_and_leaves_no_trace():
    observed, trace = [], Trace()

    async def observe(step, _):
        observed.append(step)

    passed = Step("two", Flaky(Internal("never run")), 1, ("one",), when=lambda results: results["one"] > 1)
    found = await run(
        Step("one", giving(1), 1), passed, Step("three", giving(3), 1, ("two",)), trace=trace, observe=observe
    )
    assert found == {"one": 1, "two": None, "three": 3}
    assert observed == list(trace.timings_ms) == ["one", "three"]


async def test_whether_a_step_is_passed_over_is_decided_after_all_it_needs():
    go = asyncio.Event()
    step = Step("two", giving("ran"), 1, ("one", "zero"), when=lambda results: results["one"] == "yes")
    release = Step("zero", lambda _: asyncio.sleep(0, go.set()), 1)
    assert (await run(step, Step("one", giving("yes", after=go), 1), release))["two"] == "ran"


async def test_a_failure_cancels_the_steps_that_run_and_those_that_wait():
    became = []

    async def endless(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            became.append("cancelled")
            raise

    waiting = Step("waiting", lambda _: became.append("begun"), 1, ("running",))
    with pytest.raises(MomentViolation):
        await run(Step("running", endless, 9), waiting, Step("fails", Flaky(MomentViolation("forbidden")), 9))
    assert became == ["cancelled"]


async def test_of_several_failures_ours_is_told():
    async def mistaken(_):
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    with pytest.raises(MomentViolation):
        await run(Step("one", mistaken, 9), Step("two", Flaky(MomentViolation("forbidden")), 9))


async def test_cancelled_from_outside_the_graph_cancels_its_steps():
    ended = asyncio.Event()

    async def endless(_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    graph = asyncio.create_task(run(Step("one", endless, 9, fallback=giving("less"))))
    await asyncio.sleep(0.01)
    graph.cancel()
    with pytest.raises(asyncio.CancelledError):
        await graph
    assert ended.is_set()


async def test_an_observer_that_fails_ends_the_graph():
    class Gone(Exception):
        pass

    async def gone(step, _):
        raise Gone

    second = Flaky()
    with pytest.raises(Gone):
        await run(Step("one", giving(1), 1), Step("two", second, 1, ("one",)), observe=gone)
    assert second.tries == 0


async def test_timings_are_those_of_the_step_without_the_wait_for_what_it_needs():
    trace, told = Trace(), {}

    async def observe(step, ms):
        told[step] = ms

    first = Step("first", lambda _: asyncio.sleep(0.05), 1)
    await run(Step("second", giving(1), 1, ("first",)), first, trace=trace, observe=observe)
    assert trace.timings_ms["first"] >= 45 > trace.timings_ms["second"]
    assert told == pytest.approx(trace.timings_ms, abs=0.01)


async def test_timings_include_retries_and_the_fallback():
    trace = Trace()

    async def slow_fallback(_):
        await asyncio.sleep(0.05)

    await run(Step("one", Flaky(Unavailable("down")), 1, fallback=slow_fallback), trace=trace)
    assert trace.timings_ms["one"] >= 45


async def test_the_trace_tells_how_each_step_went():
    trace, broken = Trace(), Flaky(Unavailable("no"), Unavailable("no"), Unavailable("no"))
    steps = (
        Step("encode", giving(1), 1, node="encoder"),
        Step("retrieve", broken, 1, ("encode",), node="retriever", retries=1, fallback=giving(None)),
        Step("passed over", giving(1), 1, when=lambda results: False),
    )
    await run(*steps, trace=trace)
    encode, retrieve = trace.steps
    assert (encode.step, encode.tries, encode.fell_back) == ("encode", 1, False)
    assert (retrieve.step, retrieve.node, retrieve.needs) == ("retrieve", "retriever", ("encode",))
    assert (retrieve.tries, retrieve.fell_back) == (2, True)
    assert retrieve.start_ms >= encode.start_ms + encode.ms


async def test_steps_are_spans_below_the_one_at_hand_and_are_counted():
    exporter = InMemorySpanExporter()
    watch(SimpleSpanProcessor(exporter))
    before = REGISTRY.get_sample_value("almanac_step_seconds_count", {"step": "encode"}) or 0
    with tracing(None, "answer"):
        await run(Step("encode", giving(1), 1, node="encoder"))
    step, whole = exporter.get_finished_spans()
    assert (step.name, step.attributes["almanac.node"], step.attributes["almanac.tries"]) == ("encode", "encoder", 1)
    assert step.parent.span_id == whole.context.span_id
    assert REGISTRY.get_sample_value("almanac_step_seconds_count", {"step": "encode"}) == before + 1
