"""Searches under load: throughput and times at 1, 4, 16 and 64 clients, beside the bare engine and beside Haystack.

All sides hold the same SciFact passages and vectors, are asked the same queries for the best 10 by closed-loop clients
(each asks as soon as it has its answer), and take turns at every number of clients:

- `retriever`: the retriever's process over gRPC, at a moment, the query's vector given.
- `encoder_and_retriever`: the encoder's process first, as a search does it; both on the same cores as the clients.
- `bare_engine`: one process with a Qdrant Edge shard in it, asked by its own threads: one query with two prefetches and
  the engine's own fusion; no moment, no filter, no calls between processes.
- `haystack`: one process with Haystack's BM25 and embedding retrievers in memory and its distribution-based joiner,
  asked by its own threads, in a virtual environment of its own; no moment, no filter, no calls between processes.

Searches that wait are searched in one engine call: the times of `dense` and `lexical` are those of the whole call, and
`queue_and_call` is what is left of `retrieve`.

`held`: the least ratio of a throughput to the one at fewer clients. `over_haystack` and `over_bare_engine`: the
retriever's throughput over theirs, at the most clients.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise

from benchmarks import nodes, rivals, scifact
from benchmarks.common import Figures, parser, publish
from benchmarks.rivals import CannotRun
from pipelines.evaluation import Targets
from services.common.nodes.funnel import DEFAULT

CLIENTS = (1, 4, 16, 64)
TARGETS: Targets = {"held": {"min": 0.95}, "held_with_encoder": {"min": 0.95}}

Side = Callable[[int, float], Figures]
Measured = Mapping[str, Mapping[int, Sequence[Figures]]]


def measure(documents: int | None, clients: Sequence[int], seconds: float, rounds: int) -> Figures:
    """Everything the report tells. Raises MissingData."""
    data = scifact.load(documents)
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(nodes.running(data, DEFAULT))
        sides: dict[str, Side] = {
            "retriever": partial(ours.load, encode=False),
            "encoder_and_retriever": partial(ours.load, encode=True),
        }
        for name, start in {"bare_engine": rivals.bare_engine, "haystack": rivals.haystack}.items():
            try:
                sides[name] = stack.enter_context(start(data)).load
            except CannotRun as reason:
                skipped[name] = str(reason)
        found = _in_turns(sides, clients, seconds, rounds)
    return {"passages": len(data.passages), "seconds": seconds, "rounds": rounds, **_figures(found), "skipped": skipped}


def _in_turns(sides: Mapping[str, Side], clients: Sequence[int], seconds: float, rounds: int) -> Measured:
    found: dict[str, dict[int, list[Figures]]] = {name: {number: [] for number in clients} for name in sides}
    for _ in range(rounds):
        for number in clients:
            for name, side in sides.items():
                found[name][number].append(side(number, seconds))
                print(
                    f"{name}, {number} clients: {found[name][number][-1]['per_second']:.0f} a second", file=sys.stderr
                )
    return found


def _figures(found: Measured) -> Figures:
    rate = {
        name: {number: statistics.median(turn["per_second"] for turn in turns) for number, turns in levels.items()}
        for name, levels in found.items()
    }
    most = max(rate["retriever"])
    over = {
        f"over_{name}": round(rate["retriever"][most] / rate[name][most], 2)
        for name in ("bare_engine", "haystack")
        if name in rate
    }
    return {
        "held": _held(rate["retriever"]),
        "held_with_encoder": _held(rate["encoder_and_retriever"]),
        **over,
        "throughput": [
            {"side": name, **{f"{n} clients": round(one, 1) for n, one in levels.items()}}
            for name, levels in rate.items()
        ],
        "ms": [row for name, levels in found.items() for row in _times(name, levels)],
    }


def _held(rate: Mapping[int, float]) -> float:
    return round(min((more / fewer for (_, fewer), (_, more) in pairwise(rate.items())), default=1.0), 3)


def _times(side: str, levels: Mapping[int, Sequence[Figures]]) -> list[Figures]:
    """p50 and p95 of each step over all rounds, milliseconds."""
    rows = []
    for number, turns in levels.items():
        for step in turns[0]["ms"]:
            each = sorted(ms for turn in turns for ms in turn["ms"].get(step, ()))
            p50, p95 = (round(each[int(len(each) * share)], 2) for share in (0.5, 0.95))
            rows.append({"side": side, "clients": number, "step": step, "p50": p50, "p95": p95})
    return rows


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--documents", type=int, default=None, help="only so many abstracts, for a trial")
    options.add_argument("--clients", type=int, nargs="*", default=CLIENTS, help="numbers of clients, growing")
    options.add_argument("--seconds", type=float, default=4.0, help="of each turn of each side")
    options.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    chosen = options.parse_args()
    measured = partial(measure, chosen.documents, chosen.clients, chosen.seconds, chosen.rounds)
    return publish("search_load", TARGETS, chosen.json, measured)


if __name__ == "__main__":
    sys.exit(main())
