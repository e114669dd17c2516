"""A node that is away is waited for while it may be being replaced, and no longer."""

import pytest

from services.common.errors import BehindWatermark, DeadlineExceeded, Internal, Unavailable
from services.common.rpc.deadlines import remaining
from services.orchestrator.graph import patience as module
from services.orchestrator.graph.executor import Step, Trace, calling, execute
from services.orchestrator.graph.patience import NodeFailed, Patience


class Node:
    """Fails as told, then answers; each call takes a second of its clock."""

    def __init__(self, *errors):
        self.errors, self.time = list(errors), 0.0

    def clock(self):
        return self.time

    async def ask(self, _=None):
        self.time += 1.0
        with calling("retriever"):
            if self.errors:
                raise self.errors.pop(0)
        return remaining(60.0)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


async def test_what_a_node_that_was_away_is_asked_again_it_answers():
    node = Node(*[Unavailable()] * 5)
    assert await Patience(10.0, node.clock).call("retriever", node.ask)


async def test_one_that_stays_away_is_waited_for_no_longer_and_by_the_next_call_not_at_all():
    node = Node(*[Unavailable()] * 50)
    patience = Patience(10.0, node.clock)
    for calls in (12, 1, 1):
        before = len(node.errors)
        with pytest.raises(NodeFailed):
            await patience.call("retriever", node.ask)
        assert before - len(node.errors) == calls
    node.errors = []
    await patience.call("retriever", node.ask)
    node.errors = [Unavailable()] * 3
    assert await patience.call("retriever", node.ask)


@pytest.mark.parametrize("error", [BehindWatermark(), DeadlineExceeded(), Internal()])
async def test_a_node_that_answers_badly_is_not_away(error):
    node = Node(error)
    with pytest.raises(NodeFailed):
        await Patience(10.0, node.clock).call("retriever", node.ask)


async def test_a_step_has_all_its_time_again_once_its_node_is_back_and_no_fallback():
    node, trace = Node(*[Unavailable()] * 3), Trace()

    async def ignore(step, ms):
        pass

    async def fallback(results):
        return 0.0

    step = Step("retrieve", node.ask, 8, node="retriever", retries=1, fallback=fallback)
    found = await execute([step], trace, ignore, Patience(10.0, node.clock))
    assert found["retrieve"] > 7
    assert (trace.degraded, trace.steps[0].tries, trace.steps[0].fell_back) == ([], 4, False)
