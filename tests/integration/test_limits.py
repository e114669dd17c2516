"""Limits over a real Valkey: two gateways admit together what one may, by every strategy."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from redis.asyncio import Redis

from services.catalog import keys
from services.catalog.profiles import Profile, set_profile
from services.common.errors import Overloaded, RateLimited, Unavailable
from services.gateway.limits.limiter import Limiter
from services.gateway.limits.policies import seconds_to_midnight
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.queues import answer_queue, answer_queues
from tests.fakes.gateway import COLLECTION, answering, client_of, gateway
from tests.support import free_port

AMOUNT, PERIOD = 20, 8.0
RATE = AMOUNT / PERIOD
SECONDS = 26.0
CLIENTS = 50
START_SECONDS = 120.0
QUEUES = 8
TOLERANCE = 0.02

EXPECTED = {
    "token-bucket": lambda seconds: AMOUNT + RATE * seconds,
    "leaky-bucket": lambda seconds: 2 + RATE * seconds,
    "fixed-window": lambda seconds: AMOUNT * (seconds // PERIOD + 1),
    "moving-window": lambda seconds: AMOUNT * (seconds // PERIOD + 1),
    "sliding-window": lambda seconds: AMOUNT + RATE * (seconds - PERIOD) + 1,
}
"""What a saturated limit admits from the first to the last: what may come at once, then the rate."""


@pytest.fixture
async def limiter(valkey):
    async with AsyncExitStack() as opened:

        def opening(**settings):
            made = Limiter(GatewaySettings(broker_url=f"unix://{valkey.socket}", **settings))
            opened.push_async_callback(made.close)
            return made

        yield opening


@asynccontextmanager
async def gateways(directory, valkey, **settings):
    """The URLs of two gateway processes over one catalog and one broker, and where they log."""
    running, urls, log = [], [], directory / "log"
    given = {f"ALMANAC_{name.upper()}": str(value) for name, value in settings.items()}
    env = {**os.environ, **given, "ALMANAC_HOME": str(directory), "ALMANAC_BROKER_URL": f"unix://{valkey.socket}"}
    try:
        with log.open("ab") as out:
            for port in (free_port(), free_port()):
                command = [sys.executable, "-m", "services.gateway"]
                own = {**env, "ALMANAC_PORT": str(port)}
                running.append(subprocess.Popen(command, env=own, stdout=out, stderr=out))  # noqa: ASYNC220
                urls.append(f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(START_SECONDS):
            for url in urls:
                await alive(client, url)
        yield urls, log
    except httpx.HTTPError:
        print(log.read_text()[-3000:])
        raise
    finally:
        for process in running:
            process.kill()
            process.wait()


async def alive(client, url):
    while True:
        try:
            return await client.get(f"{url}/healthz")
        except httpx.TransportError:
            await asyncio.sleep(0.1)


async def saturate(urls, seconds):
    """When each admitted request was sent and answered, in order of answers; every response is a 200 or a 429."""
    admitted = []

    async def keep_asking(url):
        while (sent := time.monotonic()) < began + seconds:
            try:
                response = await client.get(f"{url}/v1/models")
            except (httpx.ReadError, httpx.RemoteProtocolError):  # the server closed what had been idle
                continue
            if response.status_code == 200:
                admitted.append((sent, time.monotonic()))
            else:
                assert response.status_code == 429, response.text
                assert int(response.headers["retry-after"]) >= 1
                await asyncio.sleep(0.2)

    kept = httpx.Limits(max_connections=CLIENTS, keepalive_expiry=2)  # less than the server keeps them
    asked = [urls[number % len(urls)] for number in range(CLIENTS)]
    async with httpx.AsyncClient(trust_env=False, timeout=30, limits=kept) as client:
        await asyncio.gather(*(client.get(f"{url}/healthz") for url in asked))  # every connection is open
        began = time.monotonic()
        await asyncio.gather(*map(keep_asking, asked))
    return admitted


@pytest.mark.timeout(400)
@pytest.mark.parametrize("strategy", EXPECTED)
async def test_two_gateways_admit_what_one_may(directory, valkey, strategy):
    quota = f"{AMOUNT}/{PERIOD:.0f} seconds"
    async with gateways(directory, valkey, limit_strategy=strategy, limit_key_requests=quota) as (urls, _):
        await saturate(urls, 0.2)  # both have opened their catalogs and connections
        async with Redis.from_url(f"unix://{valkey.socket}") as redis:
            await redis.flushall()
        admitted = await saturate(urls, SECONDS)
    (first_sent, first_answered), (last_sent, last_answered) = admitted[0], admitted[-1]
    least = EXPECTED[strategy](last_sent - first_answered)
    most = EXPECTED[strategy](last_answered - first_sent)
    print(f"{strategy}: {len(admitted)} admitted, {least:.1f} to {most:.1f} expected")
    assert (1 - TOLERANCE) * least <= len(admitted) <= (1 + TOLERANCE) * most


@pytest.mark.parametrize(("mode", "status"), [("open", 200), ("closed", 503)])
async def test_without_redis_requests_fare_as_configured_and_the_log_says_so_once(directory, valkey, mode, status):
    settings = {"limits_without_redis": mode, "limit_key_requests": "2/hour"}
    async with gateways(directory, valkey, **settings) as ([url, _], log), httpx.AsyncClient(trust_env=False) as client:
        assert [(await client.get(f"{url}/v1/models")).status_code for _ in range(3)] == [200, 200, 429]
        valkey.kill()
        found = [await client.get(f"{url}/v1/models") for _ in range(10)]
        assert {response.status_code for response in found} == {status}
        assert all(("retry-after" in response.headers) is (status == 503) for response in found)
        assert log.read_text().count("limits_lost") == 1
        valkey.socket.unlink(missing_ok=True)
        await valkey.start()
        await asyncio.sleep(1.2)
        assert (await client.get(f"{url}/v1/models")).status_code == 200
        assert log.read_text().count("limits_back") == 1


async def test_a_response_says_what_is_left(limiter):
    counting = limiter(limit_key_requests="2/hour", quota_tenant_requests=100)
    first = await counting.admit("t", "k")
    assert first["RateLimit-Policy"] == '"key-requests";q=2;w=3600, "tenant-requests-daily";q=100;w=86400'
    assert first["RateLimit"].startswith('"key-requests";r=1;t=1, "tenant-requests-daily";r=99;t=')
    await counting.admit("t", "k")
    with pytest.raises(RateLimited, match="key requests") as refused:
        await counting.admit("t", "k")
    assert 1_700 < int(refused.value.headers["Retry-After"]) <= 1_800
    assert "RateLimit" in await counting.admit("t", "another key")
    assert "RateLimit" in await counting.admit("u", "k")


async def test_a_tenants_quota_holds_for_all_its_keys_and_no_other_tenant(limiter):
    counting = limiter(quota_tenant_requests=3)
    for key in "abc":
        await counting.admit("t", key)
    with pytest.raises(RateLimited, match="tenant requests daily"):
        await counting.admit("t", "d")
    await counting.admit("u", "a")


def profiled(app, user="", **quotas):
    """Have the profile on record; the key of that user."""
    with app.state.context.catalog.write() as tx:
        set_profile(tx, "local", user, Profile(**quotas))
        return {"Authorization": f"Bearer {keys.create(tx, 'local', ['ask'], user=user)[1]}"}


async def test_profiles_say_what_a_user_and_a_tenant_may_ask_a_day(tmp_path, valkey):
    body = {"question": "When did the harbour open?", "collection": COLLECTION}
    settings = {"broker_url": f"unix://{valkey.socket}", "limit_key_requests": "100/hour"}
    async with gateway(tmp_path, answering(), **settings) as app, client_of(app) as client:
        ada, own = profiled(app, "ada", questions_per_day=1), profiled(app, questions_per_day=3)
        first = await client.post("/v1/answers", json=body, headers=ada)
        assert first.status_code == 200
        assert [part.split(";")[0:2] for part in first.headers["ratelimit"].split(", ")] == [
            ['"key-requests"', "r=99"],
            ['"user-questions-daily"', "r=0"],
            ['"tenant-questions-daily"', "r=2"],
        ]
        refused = await client.post("/v1/answers", json=body, headers=ada)
        assert (refused.status_code, "user questions daily" in refused.json()["detail"]) == (429, True)
        assert abs(int(refused.headers["retry-after"]) - seconds_to_midnight()) < 60
        assert (await client.post("/v1/search", json={"query": "x", "collection": COLLECTION}, headers=ada)).is_success
        found = [await client.post("/v1/answers", json=body, headers=own) for _ in range(3)]
        assert [one.status_code for one in found] == [200, 200, 429]
        assert "tenant questions daily" in found[-1].json()["detail"]


async def test_profiles_say_how_many_tokens_a_day_answers_may_take(tmp_path, valkey):
    body = {"question": "When did the harbour open?", "collection": COLLECTION}
    async with gateway(tmp_path, answering(), broker_url=f"unix://{valkey.socket}") as app, client_of(app) as client:
        ada, own = profiled(app, "ada", tokens_per_day=15), profiled(app)
        found = [(await client.post("/v1/answers", json=body, headers=ada)).status_code for _ in range(3)]
        assert found == [200, 200, 429]  # each takes ten
        assert (await client.post("/v1/answers", json=body, headers=own)).status_code == 200


async def test_an_answer_is_paid_once_however_many_heard_its_end(limiter):
    counting = limiter(quota_tenant_tokens=100)
    for _ in range(3):
        await counting.charge("t", "k", 60, "an answer")
    await counting.require_tokens("t", "k")
    await counting.charge("t", "k", 60, "another")
    with pytest.raises(RateLimited):
        await counting.require_tokens("t", "k")


async def test_tokens_are_paid_after_they_were_used(limiter):
    counting = limiter(limit_key_tokens="100/minute", quota_tenant_tokens=1_000)
    await counting.require_tokens("t", "k")
    await counting.charge("t", "k", 150)
    with pytest.raises(RateLimited, match="key tokens") as refused:
        await counting.require_tokens("t", "k")
    assert 29 <= int(refused.value.headers["Retry-After"]) <= 31
    await counting.require_tokens("t", "other")
    await counting.charge("t", "other", 900)
    with pytest.raises(RateLimited, match="tenant tokens daily"):
        await counting.require_tokens("t", "third")


async def test_streams_are_counted_over_gateways_and_those_of_a_dead_one_run_out(limiter):
    here, there = limiter(limit_streams=2), limiter(limit_streams=2)
    for one in (here, there):
        one._streams.seconds = 0.6
    async with AsyncExitStack() as open_streams:
        await open_streams.enter_async_context(here.stream("t", "k"))
        await there._streams.acquire("t/k")  # a gateway that dies now: nobody renews this one
        with pytest.raises(RateLimited):
            await open_streams.enter_async_context(here.stream("t", "k"))
        await asyncio.sleep(0.7)
        async with there.stream("t", "k"):
            with pytest.raises(RateLimited):
                await open_streams.enter_async_context(here.stream("t", "k"))
        await open_streams.enter_async_context(there.stream("t", "k"))
    async with here.stream("t", "k"), there.stream("t", "k"):
        pass


async def test_a_question_is_refused_at_once_while_too_many_wait_in_all_queues_together(limiter, valkey):
    counting = limiter(answers_waiting=2)
    own = answer_queue("t", QUEUES)
    async with Redis(unix_socket_path=str(valkey.socket)) as redis:
        await redis.rpush(own, "one")
        async with counting.answer("t"):
            await redis.rpush(next(queue for queue in answer_queues(QUEUES) if queue != own), "two")
            with pytest.raises(Overloaded, match="in time"):
                await enter(counting.answer("t"))
        await redis.lpop(own)
        await enter(counting.answer("t"))


async def test_the_backlog_of_one_tenant_refuses_no_other_its_share(limiter, valkey):
    counting = limiter(answers_waiting=2 * QUEUES)
    own, other = answer_queue("t", QUEUES), answer_queue("u", QUEUES)
    assert own != other
    async with Redis(unix_socket_path=str(valkey.socket)) as redis:
        await redis.rpush(own, *range(2 * QUEUES))
        with pytest.raises(Overloaded, match="in time"):
            await enter(counting.answer("t"))
        await redis.rpush(other, "one")
        await enter(counting.answer("u"))
        await redis.rpush(other, "two")
        with pytest.raises(Overloaded, match="in time"):
            await enter(counting.answer("u"))


async def test_so_many_answers_are_in_flight_over_all_gateways_and_tenants(limiter):
    here, there = limiter(answers_in_flight=2), limiter(answers_in_flight=2)
    async with here.answer("t"):
        async with there.answer("u"):
            for tenant in "tu":
                with pytest.raises(Overloaded, match="in time"):
                    await enter(here.answer(tenant))
        await enter(there.answer("t"))


async def test_a_tenant_that_holds_less_than_its_share_is_let_in_though_others_hold_all(limiter):
    answers = limiter(answers_in_flight=2 * QUEUES)
    async with AsyncExitStack() as held:
        for tenant in [*2 * QUEUES * "t", *2 * "u"]:
            await held.enter_async_context(answers.answer(tenant))
        for tenant in "tu":
            with pytest.raises(Overloaded, match="in time"):
                await enter(answers.answer(tenant))
        for number in range(2 * QUEUES - 2):
            await held.enter_async_context(answers.answer(f"another {number}"))
        with pytest.raises(Overloaded, match="in time"):
            await enter(answers.answer("one more"))


async def test_a_tenant_has_so_many_answers_in_flight_over_all_gateways(limiter):
    here, there = limiter(answers_of_tenant=1), limiter(answers_of_tenant=1)
    async with here.answer("t"):
        with pytest.raises(RateLimited):
            await enter(there.answer("t"))
        await enter(there.answer("u"))
    await enter(there.answer("t"))


async def test_a_full_queue_is_told_by_http_before_anything_is_recorded(tmp_path, valkey):
    settings = {"broker_url": f"unix://{valkey.socket}", "answers_waiting": 1}
    body = {"question": "When did the harbour open?", "collection": COLLECTION, "stream": True}
    async with (
        Redis(unix_socket_path=str(valkey.socket)) as redis,
        gateway(tmp_path, answering(), **settings) as app,
        client_of(app) as client,
    ):
        queue = answer_queue("local", QUEUES)
        await redis.rpush(queue, "one")
        refused = await client.post("/v1/answers", json=body)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert refused.json()["type"].endswith("overloaded")
        await redis.delete(queue)
        assert (await client.post("/v1/answers", json=body)).status_code == 200


async def enter(context):
    async with context:
        pass


async def test_a_request_is_counted_once_and_its_stream_held_to_its_end(tmp_path, valkey):
    settings = {"broker_url": f"unix://{valkey.socket}", "limit_key_requests": "5/hour", "limit_streams": 1}
    body = {"question": "When did the harbour open?", "collection": COLLECTION, "stream": True}
    async with gateway(tmp_path, answering(), **settings) as app, client_of(app) as client:
        for left in (4, 3, 2):
            response = await client.post("/v1/answers", json=body)
            assert response.status_code == 200
            assert f'"key-requests";r={left}' in response.headers["ratelimit"]
        async with app.state.context.limiter.stream("local", ""):
            assert (await client.post("/v1/answers", json=body)).status_code == 429
            assert (await client.post("/v1/answers", json={**body, "stream": False})).status_code == 200
        last = await client.get("/v1/models")
        assert (last.status_code, last.json()["error"]["code"]) == (429, "rate-limited")


async def test_without_redis_nothing_is_asked_where_nothing_is_limited(directory):
    nowhere = Limiter(GatewaySettings(broker_url=f"unix://{directory}/none"))
    assert await nowhere.admit("t", "k") == {}
    async with nowhere.stream("t", "k"):
        await nowhere.charge("t", "k", 5)
    closed = Limiter(
        GatewaySettings(broker_url=f"unix://{directory}/none", limit_streams=1, limits_without_redis="closed")
    )
    with pytest.raises(Unavailable):
        await closed.stream("t", "k").__aenter__()
