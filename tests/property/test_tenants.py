"""The promise of tenants at the gateway: a request reads and writes its key's tenant, and nothing of any other.

Each case is one request: a route, a key (of some tenant, with some scopes, or none that is valid), and ids that are the
tenant's own, another's or nobody's. The oracle knows the scope that the route needs, whose the ids are, a word that
stands in every text of one tenant alone, and from triggers in the catalog whose rows a request has touched. A route it
does not know fails the test. ALMANAC_PROPERTY_ROWS sets how many requests there are.
"""

import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text

from services.catalog import answers, jobs, keys
from services.catalog.commit import Recorder
from services.catalog.engine import Database
from services.catalog.reading import document_versions
from services.catalog.records import DocumentIn, PassageIn
from services.catalog.state import VIEWS, ensure_generation, index_reader, set_watermark, view_reader
from services.catalog.tables import metadata
from services.common.errors import Unavailable
from services.common.moment import OPEN_END, OPEN_START, Extent, Moment, Span, now
from services.common.nodes.retriever import Found, Hit, Target
from services.gateway.app import create_app
from services.gateway.context import Context
from services.gateway.settings import GatewaySettings
from services.orchestrator.graph.answer import Event, Question
from services.orchestrator.graph.nodes import Nodes
from tests.fakes.encoder import FakeEncoder
from tests.fakes.gateway import GENERATION, MemoryBroker, client_of, said
from tests.fakes.generator import FakeGenerator

OPERATOR = "local"
WORDS = {OPERATOR: "quartz", "acme": "zebra", "rival": "walnut"}
"""A word of each tenant that stands in all of its texts and in no request."""
NOBODY = "nobody"
SCOPES = [(), ("ask",), ("ingest",), ("admin",), ("ask", "ingest"), ("ask", "ingest", "admin")]
COLLECTION, DOC = "notes", "port/harbour"
"""What every tenant has under the same name."""


@dataclass
class Holding:
    """What one tenant has: its ids, and keys that requests may end."""

    word: str
    versions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bearer:
    """A key, and what the oracle knows of it."""

    tenant: str
    scopes: tuple[str, ...]
    text: str
    valid: bool = True


@dataclass(frozen=True)
class Case:
    """A route's requests: the scope it needs, whether the operator's alone, and how to make one from ids.

    `own`: an id in it is one tenant's alone, so that it is not found by any other.
    """

    scope: str | None
    path: str
    body: dict | None = None
    own: bool = False
    operator: bool = False
    wide: bool = False
    """Shows or changes what is other tenants', to the operator."""
    works: bool = True
    """Whether it can succeed here, over fakes."""


IN = "?collection=notes"
HERE = {"collection": COLLECTION}
ASKS = {"question": "When did the harbour open?", **HERE}
DAY = {"as_of": "2020-01-01"}
CHAT = {"model": "almanac", "messages": [{"role": "user", "content": "When?"}], **HERE}
TOOL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": ASKS}}
A = "/v1/admin"
CASES = {
    ("POST", "/v1/answers"): Case("ask", "/v1/answers", ASKS),
    ("GET", "/v1/answers/{answer_id}"): Case("ask", "/v1/answers/{answer}", own=True),
    ("GET", "/v1/answers/{answer_id}/events"): Case("ask", "/v1/answers/{answer}/events", own=True),
    ("POST", "/v1/answers/{answer_id}/feedback"): Case(
        "ask", "/v1/answers/{answer}/feedback", {"helpful": True}, own=True, works=False
    ),
    ("POST", "/v1/answers/{answer_id}/replay"): Case("ask", "/v1/answers/{answer}/replay", own=True),
    ("POST", "/v1/answers/compare"): Case("ask", "/v1/answers/compare", {**ASKS, "at": [DAY, DAY]}),
    ("POST", "/v1/answers/timeline"): Case("ask", "/v1/answers/timeline", ASKS),
    ("POST", "/v1/chat/completions"): Case("ask", "/v1/chat/completions", CHAT),
    ("GET", "/v1/models"): Case("ask", "/v1/models"),
    ("GET", "/v1/models/{name}"): Case("ask", "/v1/models/almanac"),
    ("POST", "/mcp"): Case("ask", "/mcp", TOOL),
    ("POST", "/v1/search"): Case("ask", "/v1/search", {"query": "harbour", **HERE}),
    ("POST", "/v1/documents/{doc_id:path}/erase"): Case("admin", f"/v1/documents/{DOC}-old/erase{IN}", works=False),
    ("POST", f"{A}/reindex/rebuild"): Case("admin", f"{A}/reindex/rebuild", operator=True, works=False),
    ("GET", f"{A}/generations"): Case("admin", f"{A}/generations", operator=True),
    ("POST", f"{A}/generations"): Case("admin", f"{A}/generations", {"encoder": "x"}, operator=True, works=False),
    ("POST", f"{A}/generations/rollback"): Case("admin", f"{A}/generations/rollback", operator=True, works=False),
    ("POST", f"{A}/generations/{{name}}/verify"): Case(
        "admin", f"{A}/generations/x/verify", operator=True, works=False
    ),
    ("POST", f"{A}/generations/{{name}}/switch"): Case(
        "admin", f"{A}/generations/x/switch", {}, operator=True, works=False
    ),
    ("DELETE", f"{A}/generations/{{name}}"): Case("admin", f"{A}/generations/x", operator=True, works=False),
    ("POST", "/v1/documents"): Case("ingest", "/v1/documents", {"documents": [{"id": "d", "text": "t"}], **HERE}),
    ("GET", "/v1/documents"): Case("ask", f"/v1/documents{IN}"),
    ("DELETE", "/v1/documents/{doc_id:path}"): Case("ingest", f"/v1/documents/{DOC}{IN}"),
    ("GET", "/v1/documents/{doc_id:path}/versions"): Case("ask", f"/v1/documents/{DOC}/versions{IN}"),
    ("GET", "/v1/documents/{doc_id:path}/versions/{version_id}"): Case(
        "ask", f"/v1/documents/{DOC}/versions/{{version}}{IN}", own=True
    ),
    ("POST", "/v1/facts"): Case("ingest", "/v1/facts", {"facts": [{"question": "q", "answer": "a"}], **HERE}),
    ("GET", "/v1/jobs"): Case("ingest", "/v1/jobs"),
    ("GET", "/v1/jobs/{job_id}"): Case("ingest", "/v1/jobs/{job}", own=True),
    ("POST", "/v1/jobs/{job_id}/cancel"): Case("ingest", "/v1/jobs/{job}/cancel", own=True),
    ("POST", "/v1/jobs/{job_id}/retry"): Case("ingest", "/v1/jobs/{job}/retry", own=True),
    ("GET", f"{A}/keys"): Case("admin", f"{A}/keys", wide=True),
    ("POST", f"{A}/keys"): Case("admin", f"{A}/keys", {"scopes": ["ask"]}, wide=True),
    ("POST", f"{A}/keys/{{key_id}}/rotate"): Case("admin", f"{A}/keys/{{key}}/rotate", {}, own=True, wide=True),
    ("DELETE", f"{A}/keys/{{key_id}}"): Case("admin", f"{A}/keys/{{key}}", own=True, wide=True),
    ("GET", f"{A}/tenants"): Case("admin", f"{A}/tenants", operator=True),
    ("GET", f"{A}/audit"): Case("admin", f"{A}/audit", wide=True),
    ("GET", f"{A}/usage"): Case("admin", f"{A}/usage", wide=True),
    ("GET", f"{A}/features"): Case("admin", f"{A}/features", works=False),
    ("POST", f"{A}/features/apply"): Case("admin", f"{A}/features/apply", {}, operator=True, works=False),
    ("POST", f"{A}/features/materialize"): Case("admin", f"{A}/features/materialize", {}, operator=True, works=False),
    ("POST", f"{A}/features/training"): Case(
        "admin",
        f"{A}/features/training",
        {"view": "v", "rows": [{"entity": "e", "at": "2001-01-01"}], **HERE},
        works=False,
    ),
    ("GET", f"{A}/features/check"): Case("admin", f"{A}/features/check{IN}", works=False),
    ("POST", f"{A}/profiles"): Case("admin", f"{A}/profiles", {"plan": "p"}, operator=True, wide=True, works=False),
    ("GET", f"{A}/profiles"): Case("admin", f"{A}/profiles", wide=True, works=False),
    ("GET", f"{A}/adapters"): Case("admin", f"{A}/adapters"),
    ("PUT", f"{A}/adapters/{{name}}"): Case("admin", f"{A}/adapters/of-{{tenant}}", {}, own=True),
    ("DELETE", f"{A}/adapters/{{name}}"): Case("admin", f"{A}/adapters/of-{{tenant}}", own=True),
    ("GET", "/v1/graph"): Case("ask", "/v1/graph"),
    ("GET", "/v1/collections"): Case("ask", "/v1/collections"),
    ("GET", "/v1/collections/{collection}/changes"): Case("ask", "/v1/collections/notes/changes"),
    ("GET", "/v1/collections/{collection}/sync/{source}"): Case("ingest", "/v1/collections/notes/sync/folder"),
    ("POST", "/v1/collections/{collection}/sync/{source}"): Case(
        "ingest", "/v1/collections/notes/sync/folder", {"removed": ["none"]}
    ),
    **{("GET", path): Case(None, path) for path in ("/healthz", "/metrics", "/", "/docs", "/openapi.json")},
    ("GET", "/readyz"): Case(None, "/healthz"),  # it probes nodes, which are not there, and takes its time
}


class Scoped:
    """Nodes that stand for all others: they must be asked about the caller's tenant, and give what it asked for."""

    def __init__(self) -> None:
        self.tenant = NOBODY

    def check(self, tenant: str) -> None:
        assert tenant == self.tenant, f"a node was asked about {tenant!r} for a caller of {self.tenant!r}"

    async def search(self, query) -> Found:
        self.check(query.scope.tenant)
        if query.target is Target.QUESTIONS:
            return Found([])
        doc = document(query.scope.tenant)
        passage = doc.passage_id(query.scope.tenant, query.scope.collection, doc.passages[0])
        everywhere = Extent(Span(OPEN_START, OPEN_END), Span(0, OPEN_END))
        return Found([Hit(passage, doc.doc_id, 0.5, 0.9, 1.5, everywhere, dense_rank=1, lexical_rank=1)], [])

    def __getattr__(self, name: str):
        async def called(*given, **named):
            for tenant in given[:1]:
                if isinstance(tenant, str) and tenant in WORDS:
                    self.check(tenant)
            raise Unavailable("this node is a fake")

        return called


def document(tenant: str) -> DocumentIn:
    words = f"The {WORDS[tenant]} harbour opened in 1901."
    return DocumentIn(DOC, f"Harbour {WORDS[tenant]}", words, passages=(PassageIn(0, (), 0, len(words), words),))


def fill(catalog: Database) -> dict[str, Holding]:
    with catalog.write() as tx:
        ensure_generation(tx, GENERATION)
        return {tenant: _holding(tx, tenant) for tenant in WORDS}


def _holding(tx, tenant: str) -> Holding:
    holding, word = Holding(WORDS[tenant]), WORDS[tenant]
    recorder = Recorder(tx, tenant, COLLECTION)
    recorder.document(document(tenant))
    recorded = recorder.close()
    for reader in (index_reader(GENERATION.name), *(view_reader(view) for view in VIEWS)):
        set_watermark(tx, reader, tenant, COLLECTION, recorded)
    holding.versions = [row.version_id for row in document_versions(tx, tenant, COLLECTION, DOC)]
    question = Question("", tenant, COLLECTION, f"{word}?", Moment(recorded, recorded), GENERATION)
    for _ in range(3):
        answer_id = answers.create(tx, tenant, COLLECTION, question.to_json())
        given = said(Question(**{**_fields(question), "answer_id": answer_id}), f"Yes, {word}.")
        answers.record(tx, answer_id, 1, answers.DONE, given.to_json())
        holding.answers.append(answer_id)
        request = {"files": [], "kind": "documents"}
        holding.jobs.append(jobs.create(tx, tenant, COLLECTION, "documents", request).job_id)
        holding.keys.append(keys.create(tx, tenant, ["ask"], name=word)[0].key_id)
    return holding


def _fields(question: Question) -> dict:
    return {name: getattr(question, name) for name in question.__dataclass_fields__}


def watch(catalog: Database) -> None:
    """From now on `touched` names the tenants whose rows were written; a key's last use is noted later, by nobody."""
    with catalog.write() as tx:
        tx.execute(text("CREATE TABLE touched (tenant TEXT, name TEXT)"))
        for table in metadata.tables.values():
            new, old = ("NEW.tenant", "OLD.tenant") if "tenant" in table.columns else (f"'{OPERATOR}'",) * 2
            columns = ", ".join(f'"{column.name}"' for column in table.columns if column.name != "used_at")
            for change, row in (("INSERT", new), (f"UPDATE OF {columns}", new), ("DELETE", old)):
                name = f"touched_{table.name}_{change.split()[0]}"
                then = f"BEGIN INSERT INTO touched VALUES({row}, '{table.name}'); END"
                tx.execute(text(f"CREATE TRIGGER {name} AFTER {change} ON {table.name} {then}"))


def touched(catalog: Database) -> set[tuple[str, str]]:
    """The tenants whose rows were written since the last look, and in which tables."""
    with catalog.write() as tx:
        found = {(row.tenant, row.name) for row in tx.execute(text("SELECT DISTINCT tenant, name FROM touched"))}
        if found:
            tx.execute(text("DELETE FROM touched"))
    return found


def bearers(catalog: Database) -> list[Bearer]:
    found = [Bearer(NOBODY, (), "", False), Bearer(NOBODY, (), "alm_0123456789ab_made-up", False)]
    with catalog.write() as tx:
        for tenant in WORDS:
            for scopes in SCOPES:
                found.append(Bearer(tenant, scopes, keys.create(tx, tenant, scopes)[1]))
            everything = SCOPES[-1]
            found.append(Bearer(tenant, (), keys.create(tx, tenant, everything, expires_at=now() - 1)[1], False))
            made, revoked = keys.create(tx, tenant, everything)
            keys.revoke(tx, None, made.key_id)
            found.append(Bearer(tenant, (), revoked, False))
            found.append(Bearer(tenant, (), f"{keys.create(tx, tenant, everything)[1][:-1]}!", False))
    return found


@dataclass
class World:
    app: FastAPI
    client: httpx.AsyncClient
    catalog: Database
    nodes: Scoped
    holdings: dict[str, Holding]
    bearers: list[Bearer]
    seen: Counter = field(default_factory=Counter)

    async def ask(self, route: tuple[str, str], bearer: Bearer, target: str, dice: random.Random) -> None:
        """Send one request and hold what came of it against what the oracle says."""
        case = CASES[route]
        path = case.path.format(**self._ids(target, dice))
        headers = {"Authorization": f"Bearer {bearer.text}"} if bearer.text else {}
        self.nodes.tenant = bearer.tenant
        response = await self.client.request(route[0], path, json=case.body, headers=headers)
        said_ = f"{route} by {bearer} for {target}: {response.status_code} {response.text[:300]}"
        await self.app.state.context.searches.close()  # counted a second later; here, before the next request
        self._check_status(case, bearer, target, response.status_code, said_)
        operates = bearer.tenant == OPERATOR and case.wide
        for tenant, word in WORDS.items():
            assert operates or tenant == bearer.tenant or word not in response.text, f"{tenant} was read: {said_}"
        written = touched(self.catalog)
        allowed = {bearer.tenant, *((target,) if operates else ())} if bearer.valid else set()
        assert {tenant for tenant, _ in written} <= allowed, f"{written} was written: {said_}"
        self.seen[route, response.status_code] += 1

    def _check_status(self, case: Case, bearer: Bearer, target: str, status: int, said_: str) -> None:
        if case.scope is None:
            assert status == 200, said_
        elif not bearer.valid:
            assert status == 401, said_
        elif case.scope not in bearer.scopes or (case.operator and bearer.tenant != OPERATOR):
            assert status == 403, said_
        elif (
            case.own and target != bearer.tenant and not (case.wide and bearer.tenant == OPERATOR and target != NOBODY)
        ):
            assert status == 404, said_
        else:
            assert status not in (401, 403, 500), said_

    def _ids(self, target: str, dice: random.Random) -> dict[str, str]:
        holding = self.holdings.get(target) or Holding("", *[["no-such-thing"] for _ in range(4)])
        kinds = {"version": "versions", "answer": "answers", "job": "jobs", "key": "keys"}
        return {"tenant": target, **{name: dice.choice(getattr(holding, kind)) for name, kind in kinds.items()}}


@pytest.fixture
async def world(tmp_path):
    catalog, nodes, broker = Database(f"sqlite:///{tmp_path / 'catalog.db'}"), Scoped(), MemoryBroker()

    async def answering(question: Question, emit) -> None:
        nodes.check(question.tenant)
        answer = said(question, f"It is {WORDS[question.tenant]}.").to_json()
        await emit(Event("done", {"answer": answer}))

    @asynccontextmanager
    async def opened(settings, metrics):
        yield Context(
            settings, catalog, Nodes(catalog, FakeEncoder(), nodes, nodes, FakeGenerator()), broker, answering, metrics
        )

    # Whose rows were written is asked after each request; none of it needs to outlive a power cut.
    event.listen(catalog.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    catalog.engine.dispose()
    holdings, keyring = fill(catalog), bearers(catalog)
    app = create_app(GatewaySettings(home=tmp_path, tenant=OPERATOR), opened)
    async with app.router.lifespan_context(app), client_of(app) as client:
        watch(catalog)
        yield World(app, client, catalog, nodes, holdings, keyring)
    catalog.close()


def routes(found) -> set[tuple[str, str]]:
    """Every route of an application, but the page's files."""
    known = set()
    for route in found:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            known |= routes(inner.routes)
        elif not route.path.startswith("/static/"):
            known |= {
                (method, route.path) for method in (route.methods or ["ANY"]) if method not in ("HEAD", "OPTIONS")
            }
    return known


async def test_every_route_keeps_tenants_apart(world, seed):
    assert routes(world.app.routes) == set(CASES), "a route has no case here, or a case no route"
    dice = random.Random(seed)
    whole = [one for one in world.bearers if one.valid and len(one.scopes) == 3]
    for route in sorted(CASES):
        for bearer in (*whole, *dice.sample(world.bearers, 3)):
            for target in dice.sample([*WORDS, NOBODY], 2):
                await world.ask(route, bearer, target, dice)


@pytest.mark.slow
async def test_no_request_reads_or_writes_another_tenant(world, histories, seed):
    dice, known = random.Random(seed), sorted(CASES)
    whole = [one for one in world.bearers if one.valid and len(one.scopes) == 3]
    for _ in range(histories):
        bearer = dice.choice(dice.choice((whole, world.bearers)))
        await world.ask(dice.choice(known), bearer, dice.choice([*WORDS, NOBODY]), dice)
    if histories >= 20_000:
        worked = {route for (route, status), count in world.seen.items() if status < 300 and count}
        assert {route for route, case in CASES.items() if case.works} <= worked
    print(
        f"{sum(world.seen.values())} requests, by status {dict(Counter(status for _, status in world.seen.elements()))}"
    )
