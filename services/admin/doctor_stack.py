"""What may be wrong with a stack that runs: its port, broker, nodes and worker, and readers behind the record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from services.admin.doctor import Finding, note, well, wrong
from services.admin.failures import Failed
from services.admin.ports import require_free
from services.admin.probes import answers_ping, node_healthy, readiness
from services.admin.settings import AdminSettings
from services.admin.state import Places, StackState, read_state
from services.admin.topology import NODES
from services.catalog.engine import open_engine
from services.catalog.migrations import schema
from services.catalog.state import VIEWS, index_reader, lagging, live_generation, view_reader
from services.catalog.tables import collections
from services.common.errors import AlmanacError
from services.common.moment import now
from services.common.rpc import tls

_BROKER_SECONDS = 2.0
_LATE_US = 60_000_000
"""How long after it was recorded something should have been applied."""


def running(own: AdminSettings) -> StackState | None:
    return read_state(Places(own.home))


def port(own: AdminSettings) -> Finding:
    """Whether the gateway could listen. To be asked only where no stack runs."""
    try:
        require_free(own.host, own.port)
    except Failed as error:
        found, _, remedy = str(error).partition("; ")
        return wrong("port", found, remedy)
    return well("port", f"{own.port} is free")


async def nodes(own: AdminSettings, is_running: bool) -> list[Finding]:
    """Those of the stack, and those that lie elsewhere by their address."""
    tls.configure(own)
    names = [name for name in NODES if is_running or f"{name}_address" in own.model_fields_set]
    return list(await asyncio.gather(*(_node(own, name) for name in names)))


async def _node(own: AdminSettings, name: str) -> Finding:
    address = getattr(own, f"{name}_address")
    if await node_healthy(address):
        return well(name, "serves")
    return wrong(name, f"no healthy answer at {address}", f"see {Places(own.home).log(name)}, or where the node runs")


async def broker(own: AdminSettings) -> Finding:
    socket = own.run_dir / "valkey.sock"
    if own.broker_url == f"unix://{socket}":
        answers, where = await answers_ping(socket), str(socket)
    else:
        answers, where = await _redis_answers(own.broker_url), own.broker_url.rpartition("@")[2]
    if answers:
        return well("broker", "answers")
    return wrong("broker", f"no answer at {where}", f"see {Places(own.home).log('valkey')}, or ALMANAC_BROKER_URL")


async def _redis_answers(url: str) -> bool:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(url, socket_timeout=_BROKER_SECONDS, socket_connect_timeout=_BROKER_SECONDS)
    try:
        return bool(await client.ping())  # type: ignore[misc]
    except (RedisError, OSError, ValueError):
        return False
    finally:
        await client.aclose()


async def gateway(own: AdminSettings, state: StackState) -> list[Finding]:
    """The gateway itself, and whether it hears from a worker."""
    places = Places(own.home)
    status, body = await readiness(own.reachable_host, state.port)
    if status != 200:
        said = f"not ready at {state.url} (status {status})" if status else f"no answer at {state.url}"
        return [wrong("gateway", said, f"see {places.log('gateway')} and what is wrong here besides")]
    worker = body.get("components", {}).get("worker")
    heard = well("worker", "is heard") if worker else wrong("worker", "is not heard of", f"see {places.log('worker')}")
    return [well("gateway", f"ready at {state.url}"), heard]


def processes(state: StackState) -> Iterator[Finding]:
    """Those that the supervisor had to start again and again."""
    for name, process in state.processes.items():
        if process.restarts:
            yield note(f"process {name}", f"started again {process.restarts} times", f"see logs/{name}.log")


def readers(own: AdminSettings) -> Iterator[Finding]:
    """Collections whose record an index or a feature view has not applied for a minute."""
    engine = open_engine(own.catalog_url)
    try:
        with engine.connect() as tx, tx.begin():
            if schema.current(tx) == schema.revisions()[-1]:
                yield from _behind(tx)
    except (SQLAlchemyError, AlmanacError) as error:
        yield note("readers", f"cannot be told: {getattr(error, 'detail', error)}")
    finally:
        engine.dispose()


def _behind(tx: Connection) -> Iterator[Finding]:
    names = [index_reader(live_generation(tx).name), *(view_reader(view) for view in VIEWS)]
    late = dict[str, list[str]]()
    settled = select(collections.c.tenant, collections.c.collection).where(collections.c.recorded_at < now() - _LATE_US)
    old = {tuple(row) for row in tx.execute(settled)}
    for reader, tenant, collection in lagging(tx, names):
        if (tenant, collection) in old:
            late.setdefault(reader, []).append(f"{tenant}/{collection}")
    for reader, where in late.items():
        said = f"{len(where)} collections behind their record for more than a minute: {', '.join(where[:3])}"
        yield wrong(f"reader {reader}", said, "see logs/worker.log; if it stays so: almanac reindex rebuild")
    if not late:
        yield well("readers", "up to the record")
