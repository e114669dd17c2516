"""Events on their way out of a worker: in order, none lost, many in one call, and stopped by a fence."""

import asyncio

import pytest

from services.orchestrator.graph import outbox as outbox_module
from services.orchestrator.graph.answer import Event
from services.orchestrator.graph.outbox import Outbox, joined
from services.orchestrator.graph.stream import Fenced


class SlowStream:
    """Takes calls one at a time, each when it is let through."""

    def __init__(self, fenced_after=99):
        self.calls, self.fenced_after = [], fenced_after
        self.through, self.called = asyncio.Event(), asyncio.Event()

    async def append(self, attempt, *events):
        await self.through.wait()
        if len(self.calls) >= self.fenced_after:
            raise Fenced
        self.calls.append([(event.kind, event.data.get("text")) for event in events])
        self.called.set()


def text(piece):
    return Event("text", {"text": piece})


async def test_what_comes_while_a_call_is_under_way_goes_out_in_the_next():
    stream = SlowStream()
    outbox = Outbox(stream, 1)
    sending = asyncio.create_task(outbox.run())
    await outbox.put(text("It "))
    await asyncio.sleep(0.02)
    for event in (Event("step", {}), text("ope"), text("ned"), Event("done", {})):
        await outbox.put(event)
    outbox.close()
    stream.through.set()
    await sending
    assert stream.calls == [[("text", "It ")], [("step", None), ("text", "opened"), ("done", None)]]


@pytest.mark.parametrize("kind", ["done", "error"])
async def test_all_waits_for_what_comes_soon_after_and_goes_out_with_the_end_at_once(kind):
    stream = SlowStream()
    stream.through.set()
    outbox = Outbox(stream, 1)
    sending = asyncio.create_task(outbox.run())
    for event in (Event("alive", {}), Event("step", {}), Event("citation", {}), text("It opened.")):
        await outbox.put(event)
        await asyncio.sleep(0)
    assert stream.calls == []
    await outbox.put(Event(kind, {}))
    for _ in range(3):
        await asyncio.sleep(0)
    assert [[name for name, _ in call] for call in stream.calls] == [["alive", "step", "citation", "text", kind]]
    outbox.close()
    await sending


@pytest.mark.parametrize("kind", ["text", "citation"])
async def test_text_waits_for_less_time_than_steps_and_takes_them_along(kind, monkeypatch):
    monkeypatch.setitem(outbox_module.WAIT_SECONDS, "step", 60.0)
    stream = SlowStream()
    stream.through.set()
    outbox = Outbox(stream, 1)
    sending = asyncio.create_task(outbox.run())
    await outbox.put(Event("step", {}))
    await outbox.put(Event(kind, {"text": "It opened."}))
    await asyncio.wait_for(stream.called.wait(), 5)
    assert [[name for name, _ in call] for call in stream.calls] == [["step", kind]]
    outbox.close()
    await sending


async def test_a_step_goes_out_by_itself_where_nothing_follows():
    stream = SlowStream()
    stream.through.set()
    outbox = Outbox(stream, 1)
    sending = asyncio.create_task(outbox.run())
    for _ in range(2):
        await outbox.put(Event("step", {}))
        await asyncio.wait_for(stream.called.wait(), 5)
        stream.called.clear()
    assert stream.calls == [[("step", None)]] * 2
    outbox.close()
    await sending


async def test_a_fence_ends_the_sending():
    stream = SlowStream(fenced_after=0)
    stream.through.set()
    outbox = Outbox(stream, 1)
    await outbox.put(text("late"))
    with pytest.raises(Fenced):
        await asyncio.wait_for(outbox.run(), 5)


async def test_it_ends_without_a_word_where_there_was_none():
    outbox = Outbox(SlowStream(), 1)
    outbox.close()
    await asyncio.wait_for(outbox.run(), 5)


def test_texts_are_joined_over_nothing_else():
    told = joined([text("a"), Event("citation", {"n": 1}), text("b"), text("c")])
    assert [(event.kind, event.data.get("text")) for event in told] == [
        ("text", "a"),
        ("citation", None),
        ("text", "bc"),
    ]
