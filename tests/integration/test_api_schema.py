"""The OpenAPI document is true: its examples work, and what it describes is all that a client meets.

schemathesis makes requests from the document, right ones and wrong ones, over the application in process, with the
graph behind it, a paced generator, nodes that are up or down, and keys of several scopes or none; some name what there
is, some what there is not. ALMANAC_PROPERTY_ROWS sets how many. Not among them is /mcp: its messages are the
protocol's, which its own client proves.
"""

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import schemathesis
from hypothesis import Phase, given, settings, strategies
from hypothesis import seed as seeded
from jsonschema import Draft202012Validator
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import Failure
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi
from sqlalchemy import text
from sqlalchemy.exc import DataError

from services.catalog import answers, generations, jobs, keys
from services.catalog.state import index_reader, set_watermark
from services.common.errors import Unavailable
from services.common.moment import Moment, now
from services.common.nodes.funnel import Funnel
from services.gateway.app import create_app
from services.gateway.context import Context
from services.gateway.dispatch import Dispatcher
from services.gateway.document import operations
from services.gateway.problems import understood
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.nodes import Nodes
from tests.fakes.gateway import (
    COLLECTION,
    GENERATION,
    MemoryBroker,
    ask,
    catalog_in,
    citation,
    client_of,
    nodes_over,
    said,
)
from tests.fakes.generator import FakeGenerator

FEWEST, ROWS_A_CASE = 500, 16
SCOPES = {"all": ("ask", "ingest", "admin"), "ask": ("ask",), "ingest": ("ingest",), "none": ()}
CALLERS = ["all"] * 6 + ["ask", "ingest", "none", "other", "nobody", "made-up"]
LEFT_OUT = {"/mcp"}
CONFIG = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})


class Perhaps:
    """A node that answers as long as `up` says so."""

    def __init__(self, node, world) -> None:
        self._node, self._world = node, world

    def __getattr__(self, name):
        if self._world.up:
            return getattr(self._node, name)

        async def fails(*given, **named):
            raise Unavailable("the node is down")

        return fails


@dataclass
class World:
    """The application, its keys, and what requests have met so far."""

    up: bool = True
    keys: dict[str, str] = field(default_factory=lambda: {"made-up": "alm_0123456789ab_made-up", "nobody": ""})
    statuses: Counter = field(default_factory=Counter)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def headers(self, caller: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[caller]}"} if self.keys[caller] else {}


DOCUMENT = create_app(GatewaySettings()).openapi()
OPERATIONS = {f"{method.upper()} {path}": (path, operation) for path, method, operation in operations(DOCUMENT)}


def example(parameter: dict):
    """What the document gives as an example of a parameter, or None."""
    return next(iter(parameter["schema"].get("examples", ())), None)


def examples(operation: dict, place: str) -> dict:
    """The document's examples of an operation's parameters: those of the path, or of the query."""
    found = {one["name"]: example(one) for one in operation.get("parameters", ()) if one["in"] == place}
    return {name: given for name, given in found.items() if given is not None}


EXAMPLES = {
    name: given
    for _, operation in OPERATIONS.values()
    for name, given in examples(operation, "path").items()
    if name != "name"
}
"""Of each kind of id."""


def fill(catalog) -> None:
    """What the document's examples speak of."""
    question = ask(catalog, at=Moment(now(), now()))
    with catalog.write() as tx:
        answers.record(tx, question.answer_id, 1, answers.DONE, said(question, "In 1901 [1].", citation()).to_json())
        jobs.create(tx, "local", "plans", "documents", {"files": []}, job_id=EXAMPLES["job_id"])
        key = keys.create(tx, "local", ["ask"])[0].key_id
        tx.execute(text("UPDATE answers SET answer_id = :id"), {"id": EXAMPLES["answer_id"]})
        tx.execute(text("UPDATE keys SET key_id = :id WHERE key_id = :was"), {"id": EXAMPLES["key_id"], "was": key})
        made = generations.start(tx, GENERATION.encoder, GENERATION.dimensions, Funnel())
        generations.mark_ready(tx, made.name)
        set_watermark(tx, index_reader(made.name), "local", COLLECTION, now())


def application(directory, world: World):
    @asynccontextmanager
    async def opened(chosen, metrics):
        catalog = catalog_in(directory)
        fill(catalog)
        with catalog.write() as tx:
            for name, scopes in SCOPES.items():
                world.keys[name] = keys.create(tx, "local", scopes)[1]
            world.keys["other"] = keys.create(tx, "other", SCOPES["all"])[1]
        real = nodes_over(
            catalog, FakeGenerator("The harbour opened in 1901 [1].", pace=500, adapters=["legal"]), recorded_at=now()
        )
        parts = (Perhaps(node, world) for node in (real.encoder, real.retriever, real.features, real.generator))
        nodes = Nodes(catalog, *parts)
        dispatcher = Dispatcher(nodes, MemoryBroker(down=True), metrics, chosen.answer_seconds)
        yield Context(chosen, catalog, nodes, MemoryBroker(), dispatcher.answer, metrics)
        catalog.close()

    return create_app(GatewaySettings(home=directory, answer_seconds=10), opened)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(tmp_path, world):
    with asgi.get_client(application(tmp_path, world)) as opened:
        yield opened
    asgi.shutdown_lifespans()


def keeps_its_word(world: World, case, response, told: str) -> None:
    """Note every way in which a response is not as the document says."""
    world.statuses[response.status_code] += 1
    found = []
    if response.status_code >= 500 and not (response.status_code == 503 and "retry-after" in response.headers):
        found.append(f"{response.status_code} {response.text[:200]}")
    try:
        case.validate_response(response, checks=CHECKS)
    except (Failure, BaseExceptionGroup) as failure:
        found += [str(one) for one in getattr(failure, "exceptions", [failure])]
    for one in found:
        world.failures.setdefault((case.operation.label, one.partition("\n")[0]), f"{told}\n{one[:1500]}")


load_all_checks()
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]


def cases_of(operation):
    """Its requests, half of them right."""
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))


def name_what_there_is(case) -> None:
    """Put into a request the ids of the document's examples."""
    _, operation = OPERATIONS[case.operation.label]
    case.path_parameters.update(examples(operation, "path"))
    if isinstance(case.body, dict) and "collection" in case.body:
        case.body["collection"] = COLLECTION
    if any(one["name"] == "collection" for one in operation.get("parameters", ())):
        (case.query if "collection" not in case.path_parameters else case.path_parameters)["collection"] = COLLECTION


@pytest.mark.timeout(3600)
def test_no_request_meets_what_the_document_does_not_say(client, world, histories, seed):
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, config=CONFIG)
    tried = [found.ok() for found in schema.get_all_operations() if found.ok().path not in LEFT_OUT]
    each = max(FEWEST, histories // ROWS_A_CASE) // len(tried) + 1
    for number, operation in enumerate(tried):
        _try(operation, client, world, each, seed + number)
    sent = sum(world.statuses.values())
    print(f"{sent} requests of {len(tried)} operations, seed {seed}, by status {dict(sorted(world.statuses.items()))}")
    assert not world.failures, "\n\n".join(f"{label}: {told}" for (label, _), told in world.failures.items())
    assert {200, 201, 202, 400, 401, 403, 404, 503} <= set(world.statuses)
    assert sent >= FEWEST and (histories < 100_000 or sent >= 5_000)


def _try(operation, client, world: World, most: int, seed: int) -> None:
    @seeded(seed)
    @settings(max_examples=most, derandomize=False, database=None, phases=[Phase.generate])
    @given(
        case=cases_of(operation),
        caller=strategies.sampled_from(CALLERS),
        up=strategies.sampled_from([True, True, True, False]),
        known=strategies.booleans(),
    )
    def send(case, caller, up, known):
        world.up = up
        if known:
            name_what_there_is(case)
        response = case.call(session=client, headers=world.headers(caller))
        keeps_its_word(world, case, response, f"{caller}, nodes {'up' if up else 'down'}: {case!r}")

    send()


MADE_SO = {
    "POST /v1/jobs/{job_id}/retry": "UPDATE jobs SET state = 'failed'",
    "POST /v1/admin/generations": "UPDATE generations SET state = 'dropped' WHERE generation = 'g2'",
    "POST /v1/admin/generations/rollback": "UPDATE generations SET state = 'kept' WHERE generation = 'g2'",
}
"""How things must stand for an example to work, where that is not as `fill` leaves them."""


@pytest.fixture
async def application_and_key(tmp_path, world):
    app = application(tmp_path, world)
    async with app.router.lifespan_context(app):
        yield app, world.headers("all")


@pytest.mark.parametrize("label", OPERATIONS)
async def test_every_example_of_the_document_works(application_and_key, label):
    (app, headers), (path, operation) = application_and_key, OPERATIONS[label]
    with app.state.context.catalog.write() as tx:
        tx.execute(text(MADE_SO.get(label, "SELECT 1")))
    in_path, in_query = examples(operation, "path"), examples(operation, "query")
    needed = {one["name"] for one in operation.get("parameters", ()) if one["required"]}
    assert needed <= {*in_path, *in_query}, "it has no example"
    bodies = operation.get("requestBody", {"content": {}})["content"].get("application/json", {"examples": {"": None}})
    assert bodies["examples"]
    async with client_of(app) as client:
        for body in bodies["examples"].values():
            response = await client.request(
                label.partition(" ")[0],
                path.format(**in_path),
                params=in_query,
                headers=headers,
                json=body and body["value"],
            )
            check_success(operation, response)


def check_success(operation: dict, response) -> None:
    told = operation["responses"].get(str(response.status_code))
    unready = operation["tags"] == ["health"] and response.status_code == 503
    assert told is not None and (response.is_success or unready), response.text
    kind = response.headers["content-type"].partition(";")[0]
    schema = {**told["content"][kind]["schema"], "components": DOCUMENT["components"]}
    if kind == "application/json":
        Draft202012Validator(schema).validate(response.json())


NASTY = {
    "nothing": b"",
    "half of it": b'{"question": ',
    "not UTF-8": b'{"question": "\xff"}',
    "UTF-16": '{"question": "q"}'.encode("utf-16"),
    "a lone surrogate": rb'{"question": "\ud800", "query": "\ud800", "removed": ["\udfff"], "name": "\ud800"}',
    "NUL": rb'{"question": "\u0000", "query": "\u0000", "removed": ["\u0000"], "name": "\u0000", "note": "\u0000"}',
    "deep lists": b"[" * 50_000,
    "deep objects": b'{"filters":' * 20_000,
    "no numbers": b'{"question": NaN, "max_tokens": Infinity, "limit": NaN, "oversampling": NaN, "candidates": 1e999}',
    "a huge integer": b'{"question": "q", "max_tokens": %s, "limit": %s, "grace_seconds": %s}' % ((b"9" * 5_000,) * 3),
    "64 bits and one": b'{"question": "q", "max_tokens": 18446744073709551616, "tokens_per_day": 9223372036854775808}',
    "the same field twice": b'{"question": "q", "question": 1, "collection": "notes", "collection": []}',
    "the year 10000": b'{"question": "q", "query": "q", "as_of": "10000-01-01", "valid_from": "-1-01-01"}',
    "a field of an object": b'{"__proto__": {}, "constructor": 1}',
    "a number": b"1e400",
    "null": b"null",
}
"""Bodies that no document describes."""


@pytest.mark.parametrize("name", NASTY)
async def test_no_body_is_too_strange_to_be_refused(application_and_key, name):
    app, headers = application_and_key
    async with client_of(app) as client:
        for label, (path, operation) in OPERATIONS.items():
            if "requestBody" in operation and path not in LEFT_OUT:
                method, told = label.partition(" ")[0], {**headers, "Content-Type": "application/json"}
                response = await client.request(
                    method, path.format(**examples(operation, "path")), content=NASTY[name], headers=told
                )
                assert str(response.status_code) in operation["responses"], label
                assert 400 <= response.status_code < 500, (label, response.text[:500])


@pytest.mark.parametrize(
    "query", ["limit=1&limit=2", "limit=" + "9" * 5_000, "after=%00", "after=%ff", "known_at=%ED%A0%80"]
)
async def test_no_query_is_too_strange_to_be_answered(application_and_key, query):
    app, headers = application_and_key
    async with client_of(app) as client:
        for label, (path, operation) in OPERATIONS.items():
            if "get" in label.lower() and "health" not in operation["tags"]:
                response = await client.get(f"{path.format(**examples(operation, 'path'))}?{query}", headers=headers)
                assert str(response.status_code) in operation["responses"], label
                assert response.status_code < 500, (label, response.text[:500])


def test_what_the_database_cannot_hold_is_the_clients_mistake():
    assert understood(DataError("INSERT", {}, ValueError("NUL")), "/v1/x").http_status == 400
