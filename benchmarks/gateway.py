"""The gateway itself: 200 streams of answers at once on one process, and searches beside a bare FastAPI route.

Streams: a gateway and a broker as they are, a worker that says the same words at a fixed pace (benchmarks/paced.py) in
the place of the graph. All are opened at once (`opening`), and while they run more are opened one after the other
(`running`): milliseconds to the headers, to the body's first byte, which is the answer's first event, and to its first
text. Memory is the gateway's before, and once all are open, by RSS and by PSS (proc(5)).

Searches: a stack as `almanac up` starts it, with SciFact in it. Three servers take turns, all of one process under the
same uvicorn settings, asked the same queries by the same client, each request as soon as the one before is answered:

- `bare`: encodes, asks the retriever, tells the hits' ids (benchmarks/bare_search.py).
- `gateway`: `/v1/search` as it is by default, asked with a key: moments, the catalog's check of every hit, texts.
- `limited`: the same with a rate and a daily quota of the key and of its tenant, which cost round trips to Redis.

`ratio`, `limited_ratio`: their searches a second over the bare route's, the median of the rounds' ratios. cpu_ms:
processor time a search, of the server alone and with encoder and retriever.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import httpx

from benchmarks import http_load
from benchmarks.common import ROOT, Figures, Stack, cpu_seconds, data_file, free_port, parser, publish, running_stack
from benchmarks.http_load import Load, Reply, post
from pipelines.evaluation import Targets, read_lines
from services.admin.client import Gateway
from services.admin.jobs import send, wait
from services.admin.valkey import valkey_argv
from services.catalog import keys
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.records import Generation
from services.catalog.state import VIEWS, ensure_generation, index_reader, live_generation, set_watermark, view_reader
from services.common.moment import now
from services.common.settings import Settings
from services.orchestrator.graph.remembering import MOST

TARGETS: Targets = {"errors": {"max": 0}, "ratio": {"min": 0.8}, "limited_ratio": {"min": 0.8}}
COLLECTION = "scifact"
LIMITS = {
    "ALMANAC_LIMIT_KEY_REQUESTS": "1000000/minute",
    "ALMANAC_LIMIT_TENANT_REQUESTS": "1000000/minute",
    "ALMANAC_QUOTA_KEY_REQUESTS": "100000000",
    "ALMANAC_QUOTA_TENANT_REQUESTS": "100000000",
}
_QUESTION = "What inhibits the growth of tumour cells?"
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """One process that answers searches."""

    pid: int
    load: Load


def measure(streams: int, probes: int, documents: int, clients: int, seconds: float, rounds: int) -> Figures:
    """Everything the report tells. Raises MissingData."""
    load = os.getloadavg()[0]
    followed = _streams(streams, probes)
    print(followed, file=sys.stderr)
    searched = _searches(documents, clients, seconds, rounds)
    errors = followed.pop("errors") + searched.pop("errors")
    return {"load_before": round(load, 2), "errors": errors, **followed, **searched}


def _streams(streams: int, probes: int, words: int = 60, per_second: float = 4.0) -> Figures:
    with tempfile.TemporaryDirectory(prefix="almanac-gateway-", ignore_cleanup_errors=True) as name, ExitStack() as own:
        settings = Settings(home=Path(name))
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        key = _filled(settings)
        socket = settings.run_dir / "valkey.sock"
        own.enter_context(_process(list(valkey_argv(socket, settings.home)), settings))
        paced = [sys.executable, "-m", "benchmarks.paced", str(socket), str(words), str(per_second)]
        own.enter_context(_process(paced, settings))
        most = {f"ALMANAC_ANSWERS_{what}": str(2 * streams) for what in ("WAITING", "IN_FLIGHT")}
        most["ALMANAC_ANSWERS_WITHIN_SECONDS"] = "0"
        pid, port = own.enter_context(_gateway(settings, most))
        request = post("/v1/answers", {"question": _QUESTION, "collection": COLLECTION, "stream": True}, key)
        return asyncio.run(_followed(pid, port, request, streams, probes))


async def _followed(pid: int, port: int, request: bytes, streams: int, probes: int) -> Figures:
    await asyncio.gather(*(http_load.listen(port, request) for _ in range(4)))
    before, used = memory_kib(pid), cpu_seconds(pid)
    heard = [asyncio.Event() for _ in range(streams)]
    following = [asyncio.create_task(http_load.listen(port, request, one)) for one in heard]
    await asyncio.gather(*(one.wait() for one in heard))
    probed, probing = [], []
    for _ in range(probes):
        began = asyncio.Event()
        probing.append(asyncio.create_task(http_load.listen(port, request, began)))
        await began.wait()
        await asyncio.sleep(0.05)
    open_then = sum(not one.done() for one in following)
    during = memory_kib(pid)
    opened = await asyncio.gather(*following)
    probed = await asyncio.gather(*probing)
    every = [*opened, *probed]
    return {
        "streams": streams,
        "streams_open_at_the_last_probe": open_then,
        "errors": sum(one.status != 200 or not one.ended or not one.text for one in every),
        "opening_ms": _percentiles(opened),
        "running_ms": _percentiles(probed),
        "gateway_mib": {name: [round(part[name] / 1024, 1) for part in (before, during)] for name in before},
        "kib_per_stream": {name: round((during[name] - before[name]) / (streams + probes), 1) for name in before},
        "cpu_ms_per_stream": round((cpu_seconds(pid) - used) * 1000 / len(every), 1),
    }


def _percentiles(replies: Sequence[Reply]) -> list[Figures]:
    rows = []
    for what in ("headers", "first", "text"):
        each = sorted(getattr(one, what) * 1000 for one in replies)
        rows.append({"until": what, **{f"p{share}": round(each[len(each) * share // 100], 1) for share in (50, 95)}})
    return rows


def memory_kib(pid: int) -> dict[str, int]:
    """`rss` and `pss` of a process (proc(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return {name: next(int(one.split()[1]) for one in lines if one.lower().startswith(f"{name}:")) for name in _MEMORY}


_MEMORY = ("rss", "pss")


def _filled(settings: Settings) -> str:
    """A catalog with an empty collection that every reader has applied, and a key for it."""
    catalog, generation = Database(settings.catalog_url), Generation("g1", settings.encoder_model, 384)
    with catalog.write() as tx:
        ensure_generation(tx, generation)
        recorded = Recorder(tx, settings.tenant, COLLECTION).close()
        for reader in (index_reader(generation.name), *(view_reader(view) for view in VIEWS)):
            set_watermark(tx, reader, settings.tenant, COLLECTION, recorded)
        _, key = keys.create(tx, settings.tenant, ["ask"])
    catalog.close()
    return key


def _searches(documents: int, clients: int, seconds: float, rounds: int) -> Figures:
    corpus = data_file("scifact/corpus.jsonl.gz")
    texts = [str(row["text"]) for _, row in read_lines(data_file("scifact/queries.jsonl"))]
    # So many that the gateway's memory of vectors never has one: the bare route has no such memory.
    queries = [f"{text} ({n})" for n in range(2 * MOST // len(texts) + 1) for text in texts]
    with running_stack() as stack, ExitStack() as own:
        _ingest(stack, corpus, documents)
        servers = _servers(stack, queries, own)
        nodes = [stack.pid(name) for name in ("encoder", "retriever")]
        return _in_turns(servers, nodes, clients, seconds, rounds)


def _ingest(stack: Stack, corpus: Path, documents: int) -> None:
    file = stack.home / "part.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for _, row in islice(read_lines(corpus), documents)))
    gateway = Gateway(stack.url)
    ended = wait(gateway, send(gateway, "documents", [(file.name, file)], {"collection": COLLECTION}))
    if any(job["state"] != "done" for job in ended):
        raise RuntimeError(f"the documents were not ingested: {ended}")


def _servers(stack: Stack, queries: Sequence[str], own: ExitStack) -> dict[str, Server]:
    settings = Settings(home=stack.home)
    catalog = Database(settings.catalog_url)
    with catalog.write() as tx:
        _, key = keys.create(tx, settings.tenant, ["ask"])
        generation = live_generation(tx).name
    catalog.close()
    clock = now()
    scope = {"collection": COLLECTION, "generation": generation, "as_of": clock, "known_at": _known_at(stack, key)}
    requests = [post("/v1/search", {"query": query, "collection": COLLECTION}, key) for query in queries]
    port = free_port()
    bare = own.enter_context(
        _process([sys.executable, "-m", "benchmarks.bare_search", str(port), json.dumps(scope)], settings, port)
    )
    started = {
        "bare": (bare, port),
        "gateway": own.enter_context(_gateway(settings, {})),
        "limited": own.enter_context(_gateway(settings, LIMITS)),
    }
    return {name: Server(pid, Load(where, requests)) for name, (pid, where) in started.items()}


def _known_at(stack: Stack, key: str) -> int:
    """The record time that the gateway itself pins."""
    from services.common.moment import parse_instant

    found = Gateway(stack.url, key=key).post("/v1/search", {"query": "any", "collection": COLLECTION})
    return parse_instant(found["moment"]["known_at"])


def _in_turns(
    servers: Mapping[str, Server], nodes: Sequence[int], clients: int, seconds: float, rounds: int
) -> Figures:
    rates: dict[str, list[float]] = {name: [] for name in servers}
    cpu: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for name, server in servers.items() if turn % 2 else reversed([*servers.items()]):
            before, did = _cpu(server, nodes), len(server.load.ms)
            rate = asyncio.run(server.load.run(clients, seconds if turn else 1.0))
            if turn:  # the first one warms up
                rates[name].append(rate)
                done = len(server.load.ms) - did
                cpu[name].append(tuple((b - a) * 1000 / done for a, b in zip(before, _cpu(server, nodes), strict=True)))  # type: ignore[arg-type]
                print(f"{name}: {rate:.0f} a second", file=sys.stderr)
    return {
        "errors": sum(server.load.failures for server in servers.values()),
        "ratio": _ratio(rates["gateway"], rates["bare"]),
        "limited_ratio": _ratio(rates["limited"], rates["bare"]),
        "clients": clients,
        "searches": [_row(name, servers[name], rates[name], cpu[name]) for name in servers],
    }


def _ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(ours, bare, strict=True)), 3)


def _cpu(server: Server, nodes: Sequence[int]) -> tuple[float, float]:
    """Processor seconds of the server, and of it with the nodes."""
    own = cpu_seconds(server.pid)
    return own, own + sum(cpu_seconds(pid) for pid in nodes)


def _row(name: str, server: Server, rates: Sequence[float], cpu: Sequence[tuple[float, float]]) -> Figures:
    ms = sorted(server.load.ms)
    own, whole = (statistics.median(part) for part in zip(*cpu, strict=True))
    return {
        "server": name,
        "per_second": round(statistics.median(rates), 1),
        "p50_ms": round(ms[len(ms) // 2], 1),
        "p95_ms": round(ms[len(ms) * 95 // 100], 1),
        "cpu_ms": round(own, 2),
        "cpu_ms_with_nodes": round(whole, 2),
    }


@contextmanager
def _gateway(settings: Settings, given: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """A gateway process over the home: its pid and port."""
    port = free_port()
    with _process([sys.executable, "-m", "services.gateway"], settings, port, ALMANAC_PORT=str(port), **given) as pid:
        yield pid, port


@contextmanager
def _process(command: list[str], settings: Settings, port: int = 0, **given: str) -> Iterator[int]:
    """The process, once it listens on the port, if it does; ended at the end."""
    env = {**os.environ, "ALMANAC_HOME": str(settings.home), **given}
    with (settings.home / "benchmark.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        if port:
            _await(port)
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await(port: int) -> None:
    transport = httpx.HTTPTransport(retries=int(_START_SECONDS // 2))
    with httpx.Client(transport=transport, trust_env=False, timeout=_START_SECONDS) as client:
        client.get(f"http://127.0.0.1:{port}/openapi.json")


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--streams", type=int, default=200, help="streams open at once")
    options.add_argument("--probes", type=int, default=40, help="streams opened one by one while those run")
    options.add_argument("--documents", type=int, default=500, help="abstracts of SciFact to search among")
    options.add_argument("--clients", type=int, default=8, help="searching clients")
    options.add_argument("--seconds", type=float, default=4.0, help="of each turn of each server")
    options.add_argument("--rounds", type=int, default=6, help="how often the servers take turns")
    it = options.parse_args()
    measured = partial(measure, it.streams, it.probes, it.documents, it.clients, it.seconds, it.rounds)
    return publish("gateway", TARGETS, it.json, measured)


if __name__ == "__main__":
    sys.exit(main())
