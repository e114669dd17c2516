"""From what a client asks to a question: its text checked, its moment resolved once, its row in the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sqlalchemy import Connection

from services.catalog import answers
from services.catalog.records import Generation
from services.catalog.state import live_generation, resolve_moment
from services.common.errors import AlmanacError, InvalidQuestion, ModelNotFound
from services.common.moment import Moment, now, parse_as_of, parse_known_at
from services.common.rpc.deadlines import deadline
from services.gateway.caller import Caller, Hold
from services.gateway.context import Context
from services.orchestrator.graph.answer import Question
from services.orchestrator.graph.conversing import Turn, standing_alone
from services.orchestrator.graph.proposing import at_its_words
from services.orchestrator.graph.timing import speaks_of_time

_ADAPTERS_SECONDS = 1.0
"""How long the generator may take to name its adapters."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks. `as_of` and `known_at` as they were written. exact: search exhaustively.

    history: what was asked and answered before, in order; the text may lean on it.
    """

    text: str
    collection: str
    as_of: str | None = None
    known_at: str | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    generate: bool = True
    max_tokens: int | None = None
    adapter: str = ""
    exact: bool = False
    history: Sequence[Turn] = ()


@dataclass(frozen=True, slots=True)
class Pinned:
    """The moment and the generation that one request uses throughout."""

    moment: Moment
    generation: Generation


def check_text(text: str, longest: int, what: str = "question") -> str:
    """The text without white space around it. Raises InvalidQuestion."""
    stripped = text.strip()
    if not stripped:
        raise InvalidQuestion(f"{what}: it is empty; ask something")
    if len(stripped) > longest:
        raise InvalidQuestion(f"{what}: {len(stripped)} characters, at most {longest} are allowed")
    if "\x00" in stripped:
        raise InvalidQuestion(f"{what}: it holds NUL characters")
    return stripped


async def pin(context: Context, caller: Caller, asked: Asked) -> Pinned:
    """Raises InvalidMoment, CollectionNotFound, or Unavailable before there is a live generation."""
    as_of, known_at = _instants(asked)
    return await context.catalog.reading(lambda tx: _resolve(tx, caller.tenant, asked.collection, as_of, known_at))


async def has_place() -> None:
    """Takes no place: the caller has one."""


async def open_question(context: Context, caller: Caller, asked: Asked, queueing: Hold = has_place) -> Question:
    """The question, committed as asked, once `queueing` has taken its place among those in flight.

    Raises what `pinned_question` and `queueing` raise.
    """
    read = await _reading(context, asked)
    with context.ahead.encoding(read.text):
        await queueing()
        await _admit(context, caller, asked)
        question = await _opened(context, caller, asked, read)
    context.ahead.asked_of(question.generation)
    return question


async def _opened(context: Context, caller: Caller, asked: Asked, read: _Read) -> Question:
    if asked.as_of is None and speaks_of_time(read.text):
        pinned = await pin(context, caller, asked)
        question = await at_its_words(context.nodes, _question(context, caller, asked, read, pinned))
        return await context.catalog.writing(lambda tx: _created(tx, question))
    as_of, known_at = _instants(asked)

    def opened(tx: Connection) -> Question:
        pinned = _resolve(tx, caller.tenant, asked.collection, as_of, known_at)
        return _created(tx, _question(context, caller, asked, read, pinned))

    return await context.catalog.writing(opened)


async def pinned_question(context: Context, caller: Caller, asked: Asked) -> Question:
    """The question, without an id yet. Raises what `check_text`, `require_adapter` and `pin` raise, and RateLimited."""
    read = await _reading(context, asked)
    await _admit(context, caller, asked)
    return _question(context, caller, asked, read, await pin(context, caller, asked))


class _Read(NamedTuple):
    """A question as it is answered, and as it was put where that is something else."""

    text: str
    original: str = ""


async def _reading(context: Context, asked: Asked) -> _Read:
    """The question to answer. Raises InvalidQuestion."""
    longest = context.settings.max_question_chars
    put = check_text(asked.text, longest)
    # In a thread: it may read dates, for which a parser is imported.
    text = check_text(await asyncio.to_thread(standing_alone, put, asked.history), longest) if asked.history else put
    return _Read(text, "" if text == put else put)


async def _admit(context: Context, caller: Caller, asked: Asked) -> None:
    """Count the question of a caller who has tokens left. Raises ModelNotFound, RateLimited."""
    await require_adapter(context, caller.tenant, asked.adapter)
    await _count(context, caller)


def _question(context: Context, caller: Caller, asked: Asked, read: _Read, pinned: Pinned) -> Question:
    question = Question(
        answer_id="",
        tenant=caller.tenant,
        collection=asked.collection,
        text=read.text,
        moment=pinned.moment,
        generation=pinned.generation,
        filters=asked.filters,
        generate=asked.generate,
        adapter=asked.adapter,
        key_id=caller.key_id,
        weights=context.settings.rank_weights,
        exact=asked.exact,
        original=read.original,
    )
    return question if asked.max_tokens is None else replace(question, max_tokens=asked.max_tokens)


async def served(context: Context, tenant: str) -> list[str] | None:
    """The generator's adapters that the tenant may name; None where the generator does not say."""
    try:
        with deadline(_ADAPTERS_SECONDS):
            return (await context.nodes.generator.models(tenant))[1:]
    except AlmanacError:
        return None


async def require_adapter(context: Context, tenant: str, name: str) -> None:
    """Raises ModelNotFound for one that the tenant may not name. Without the generator any passes: it quotes then."""
    there = await served(context, tenant) if name else None
    if there is not None and name not in there:
        raise ModelNotFound(f"no adapter {name[:64]!r} is served; there are: {', '.join(there) or 'none'}")


async def require_tokens(context: Context, caller: Caller) -> None:
    """Raises RateLimited where the caller's key, its tenant or a profile has no tokens left."""
    quotas = await context.quotas.of(caller.tenant, caller.user, "tokens")
    await context.limiter.require_tokens(caller.tenant, caller.key_id, quotas)


async def _count(context: Context, caller: Caller) -> None:
    """Count the question where a profile says how many a day there may be, and tell the caller. Raises RateLimited."""
    await require_tokens(context, caller)
    questions = await context.quotas.of(caller.tenant, caller.user, "questions")
    caller.tell(await context.limiter.ask(caller.tenant, caller.key_id, questions))


def _instants(asked: Asked) -> tuple[int, int | None]:
    clock = now()
    return parse_as_of(asked.as_of, clock), parse_known_at(asked.known_at, clock)


def _resolve(tx: Connection, tenant: str, collection: str, as_of: int, known_at: int | None) -> Pinned:
    generation = live_generation(tx)
    return Pinned(resolve_moment(tx, tenant, collection, generation, as_of, known_at), generation)


def _created(tx: Connection, question: Question) -> Question:
    answer_id = answers.create(tx, question.tenant, question.collection, question.to_json())
    return replace(question, answer_id=answer_id)
