"""Prompts that caches like: evidence sentences only, or whole passages with the cited sentences named after them.

Both layouts are asked the same questions of xquad, in turn, with prefix caches on. `sentences` is the prompt we send:
instructions, the best sentences by words, the question. `passages` has the passages in document order before the
sentences, so that every question about the same passages begins alike. A question's passages are its own paragraph and
those beside it; `--same` questions in a row are about one paragraph. Each layout is a tenant, so that neither
finds what the other left in the cache.

Told are time to first text and the share of prompt tokens that came from the cache, of the first question about its
passages (new) and of those after it (again); how often the model's text contains the gold span, how often the answer
made of it does, and how often the answer is the model's own text and not a quote.

`--backend vllm --model DIR` is measured in the environment of `make test-vllm`; `python -m tests.fakes.checkpoint DIR`
writes the model there.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from benchmarks.common import Figures, MissingData, data_file, parser, publish
from services.common.errors import InvalidRequest
from services.common.moment import parse_instant
from services.common.nodes.generator import Message, Prompt
from services.common.sentences import sentences
from services.generator.backends import open_backend
from services.generator.backends.base import Backend
from services.generator.settings import GeneratorSettings
from services.orchestrator.graph.grounding import Evidence, Grounder
from services.orchestrator.graph.prompt import build_messages
from services.orchestrator.graph.words import content_stems

QUESTIONS = "xquad.en.json"
AS_OF = parse_instant("2016-01-01")
_EVIDENCE = 2
_WARM_UP = 2


class Asked(NamedTuple):
    """A question, its passages in document order, its gold answers, and whether they were asked about before."""

    question: str
    passages: Sequence[str]
    gold: Sequence[str]
    again: bool


class Told(NamedTuple):
    """An answer: seconds to the first text and to the end, prompt tokens and those of them cached, the text."""

    first: float
    total: float
    prompt: int
    cached: int
    text: str


def sentences_only(asked: Asked) -> list[Message]:
    return build_messages(asked.question, _evidence(asked), AS_OF)


def passages_first(asked: Asked) -> list[Message]:
    instructions, user = build_messages(asked.question, _evidence(asked), AS_OF)
    read = "\n\n".join(asked.passages)
    return [instructions, Message("user", f"Passages:\n{read}\n\n{user.content}")]


LAYOUTS: dict[str, Callable[[Asked], list[Message]]] = {"sentences": sentences_only, "passages": passages_first}


def measure(settings: GeneratorSettings, count: int, same: int, tokens: int) -> Figures:
    """Both layouts on one engine. Raises MissingData."""
    asked = _asked(count, same)
    try:
        backend = open_backend(settings)
    except InvalidRequest as error:
        raise MissingData(error.detail) from error
    return asyncio.run(_measure(backend, asked, tokens))


async def _measure(backend: Backend, asked: Sequence[Asked], tokens: int) -> Figures:
    figures: Figures = {"model": backend.model, "questions": len(asked)}
    for one in asked[:_WARM_UP]:
        for layout in LAYOUTS.values():
            await _told(backend, Prompt("warm-up", layout(one), tokens))
    told: dict[str, list[Told]] = {name: [] for name in LAYOUTS}
    for one in asked:
        for name, layout in LAYOUTS.items():
            told[name].append(await _told(backend, Prompt(name, layout(one), tokens)))
    await backend.close()
    return {**figures, "layouts": [{"layout": name, **_row(asked, answers)} for name, answers in told.items()]}


def _row(asked: Sequence[Asked], told: Sequence[Told]) -> Figures:
    pairs = list(zip(asked, told, strict=True))
    answers = [_answer(one, answer.text) for one, answer in pairs]
    return {
        "prompt_tokens": round(statistics.mean(one.prompt for one in told)),
        **_speed("new", [answer for one, answer in pairs if not one.again]),
        **_speed("again", [answer for one, answer in pairs if one.again]),
        "total_ms": round(statistics.mean(one.total for one in told) * 1e3),
        "contains": _share(_right(one, answer.text) for one, answer in pairs),
        "answers": _share(_right(one, answer.text) for one, answer in zip(asked, answers, strict=True)),
        "own_text": _share(answer.grounding == "generated" for answer in answers),
    }


def _speed(when: str, told: Sequence[Told]) -> Figures:
    """Milliseconds to the first text, mean and median, and the share of prompt tokens that were cached."""
    if not told:
        return {}
    first = [one.first * 1e3 for one in told]
    return {
        f"{when}_cached": round(sum(one.cached for one in told) / sum(one.prompt for one in told), 3),
        f"{when}_first_ms": round(statistics.mean(first)),
        f"{when}_first_ms_p50": round(statistics.median(first)),
    }


def _answer(asked: Asked, text: str) -> Grounder:
    """What a reader is told where the model says this."""
    grounder = Grounder(_evidence(asked), question=asked.question)
    grounder.feed(text)
    grounder.finish()
    return grounder


def _right(asked: Asked, text: str) -> bool:
    return any(span in text for span in asked.gold)


def _share(found: Iterable[bool]) -> float:
    return round(statistics.mean(map(float, found)), 3)


async def _told(backend: Backend, prompt: Prompt) -> Told:
    began, first, text, last = time.perf_counter(), 0.0, "", None
    async for chunk in backend.generate(prompt):
        first = first or time.perf_counter() - began
        text, last = text + chunk.text, chunk
    assert last is not None
    return Told(first, time.perf_counter() - began, last.prompt_tokens, last.cached_tokens, text)


def _asked(count: int, same: int) -> list[Asked]:
    """`same` questions of each paragraph, until there are `count`."""
    found = []
    for article in json.loads(data_file(QUESTIONS).read_text())["data"]:
        parts = article["paragraphs"]
        for place, part in enumerate(parts):
            passages = [beside["context"] for beside in parts[max(0, place - 1) : place + 2]]
            for number, qa in enumerate(part["qas"][:same]):
                gold = [answer["text"] for answer in qa["answers"]]
                found.append(Asked(qa["question"], passages, gold, again=number > 0))
    return found[:count]


def _evidence(asked: Asked) -> list[Evidence]:
    """The sentences that share the most content words with the question."""
    wanted = set(content_stems(asked.question))
    spoken = [text[start:end] for text in asked.passages for start, end in sentences(text)]
    best = sorted(spoken, key=lambda sentence: len(wanted & set(content_stems(sentence))), reverse=True)[:_EVIDENCE]
    return [Evidence(number, sentence) for number, sentence in enumerate(best, start=1)]


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--backend", choices=("llamacpp", "vllm"), default="llamacpp")
    options.add_argument("--model", default=GeneratorSettings().generator_model)
    options.add_argument("--questions", type=int, default=60)
    options.add_argument("--same", type=int, default=3, help="questions in a row about one paragraph")
    options.add_argument("--tokens", type=int, default=48, help="longest answer")
    chosen = options.parse_args()
    settings = GeneratorSettings(
        generator_backend=chosen.backend,
        generator_model=chosen.model,
        generator_slots=len(LAYOUTS),
        generator_prefix_cache=True,
    )
    count, same, tokens = chosen.questions, chosen.same, chosen.tokens
    return publish("prompts", {}, chosen.json, lambda: measure(settings, count, same, tokens))


if __name__ == "__main__":
    sys.exit(main())
