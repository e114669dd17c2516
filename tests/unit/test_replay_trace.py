"""What the replay of a trace asks for, and how it counts what came of it."""

import asyncio
from itertools import repeat

import pytest

from benchmarks import replay_trace
from benchmarks.asking import Told
from benchmarks.replay_trace import arrivals, poisson

ANSWER = {"degraded": []}
REFUSED = Told(503, 9.0, 9.0, problem="full", retry_after="1")


def test_a_trace_keeps_its_bursts_and_comes_at_the_rate(tmp_path, monkeypatch):
    times = [0, 1, 2, 50, 51, 52, 100]
    rows = "".join(f"{time},{10 * number}\n" for number, time in enumerate(times))
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "azure_conv.csv").write_text("timestamp_s,output_tokens\n" + rows)
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    found = arrivals("azure", len(times), rate=2.0)
    assert [arrival.at for arrival in found] == pytest.approx([time * 0.03 for time in times])
    assert [arrival.tokens for arrival in found] == [1, 10, 20, 30, 32, 32, 32]


def test_poisson_arrivals_come_at_the_rate_and_the_same_each_time():
    found = poisson(5.0, 400.0)
    assert found == poisson(5.0, 400.0)
    assert len(found) == pytest.approx(2_000, rel=0.05) and found[-1].at < 400.0


def test_what_is_refused_is_no_error_and_what_failed_is():
    told = [Told(200, 5.0, 10.0, ANSWER), REFUSED, Told(200, 1.0, 2.0, problem="unavailable"), Told(503, 1.0, 1.0)]
    found = replay_trace._told("over", told)
    assert (found["over_answered"], found["over_refused"], found["over_errors"]) == (1, 1, 2)
    assert found["over_total_ms_p95"] == 10.0


async def test_as_many_places_are_counted_as_are_answered_at_once_and_kept_busy(monkeypatch):
    flying = most = 0

    async def ask(client, question, collection, **fields):
        nonlocal flying, most
        if flying >= 5:
            return REFUSED
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.01)
        flying -= 1
        return Told(200, 5.0, 10.0, ANSWER)

    monkeypatch.setattr(replay_trace, "ask", ask)
    assert await replay_trace._places(None, repeat("?")) == 5
    found = await replay_trace._sustained(None, repeat("?"), 5, 0.05)
    assert (found.places, most) == (5, 5)
    assert found.rate > 50 and all(told.answer for told in found.told)
