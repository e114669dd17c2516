"""llama.cpp with real adapters that come and go: a server for each set of them, answers that end where they began."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from services.common.errors import ModelNotFound, Unavailable
from services.common.nodes.generator import Message, Prompt
from services.generator.generator import BoundedGenerator, Limits
from services.generator.residency.holding import MODEL
from services.generator.settings import GeneratorSettings
from tests.fakes.adapters import write_gguf

pytest.importorskip("xllamacpp")

from services.generator.backends.llamacpp import LlamaCppBackend, open_backend

pytestmark = pytest.mark.slow

STORY = "Tell a story about a fox and a crow who meet by a river."


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("gguf")
    (place / "broken.gguf").write_bytes(b"GGUF, or so it says")
    made = {name: write_gguf(place / f"{name}.gguf", seed) for seed, name in enumerate(("terse", "fancy"))}
    return {**made, "broken": str(place / "broken.gguf")}


def opened(sources: dict[str, str], **how: Any) -> LlamaCppBackend:
    settings = GeneratorSettings(
        generator_backend="llamacpp",
        generator_slots=2,
        generator_threads=1,
        generator_context_tokens=256,
        generator_adapters=sources,
        **how,
    )
    try:
        return open_backend(settings)
    except ModelNotFound as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.detail)


@pytest.fixture
async def backend(sources: dict[str, str]) -> AsyncGenerator[LlamaCppBackend, None]:
    made = opened(sources, generator_residency="stay")
    yield made
    await made.close()


def prompt(adapter: str = "", tokens: int = 12) -> Prompt:
    return Prompt("a", (Message("user", STORY),), max_tokens=tokens, adapter=adapter)


async def text_of(backend: LlamaCppBackend, asked: Prompt) -> str:
    return "".join([chunk.text async for chunk in backend.generate(asked)])


async def until(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 60
        await asyncio.sleep(0.05)


async def test_adapters_are_loaded_when_asked_for_once_for_all_who_ask(backend: LlamaCppBackend) -> None:
    plain = await text_of(backend, prompt())
    assert not backend.adapters.show("terse").loaded
    texts = await asyncio.gather(*(text_of(backend, prompt("terse")) for _ in range(3)))
    assert plain not in texts
    shown = backend.adapters.show("terse")
    assert (shown.loaded, shown.loads, shown.cold_starts) == (True, 1, 3)
    assert shown.size_bytes > 100_000
    assert len({plain, texts[0], await text_of(backend, prompt("fancy"))}) == 3
    assert await text_of(backend, prompt()) == plain


async def test_an_answer_runs_on_while_the_server_is_replaced_and_the_old_one_goes_with_it(
    backend: LlamaCppBackend,
) -> None:
    assert await text_of(backend, prompt("terse"))
    old = backend._servers._now
    assert old is not None
    async with aclosing(backend.generate(prompt("terse", tokens=180))) as chunks:
        await anext(chunks)
        assert await text_of(backend, prompt("fancy", tokens=4))
        assert backend._servers._now is not old
        assert old.server is not None or not old.answers
        *_, last = [chunk async for chunk in chunks]
    assert last.finish_reason
    assert last.completion_tokens > 4
    await until(lambda: old.server is None)


async def test_an_unloaded_one_leaves_memory_and_comes_back_as_it_was(backend: LlamaCppBackend) -> None:
    before = await text_of(backend, prompt("terse"))
    await backend.adapters.unload("terse")
    assert not backend.adapters.show("terse").loaded
    await until(lambda: backend._servers._now is not None and not backend._servers._now.adapters)
    assert await text_of(backend, prompt())
    assert await text_of(backend, prompt("terse")) == before


async def test_adapters_go_when_their_time_is_over_and_the_pinned_model_stays(sources: dict[str, str]) -> None:
    backend = opened(sources, generator_residency="keep-alive", generator_residency_seconds=0.01)
    assert await text_of(backend, prompt("terse"))
    await asyncio.sleep(0.05)
    await backend.adapters.tick()
    assert not backend.adapters.show("terse").loaded
    await until(lambda: backend._servers._now is not None and not backend._servers._now.adapters)
    assert await text_of(backend, prompt())
    assert backend.adapters.show(MODEL).loads == 0, "it was there from the start"
    await backend.close()


async def test_within_the_budget_one_takes_the_place_of_another_at_once(sources: dict[str, str]) -> None:
    backend = opened(sources, generator_residency="stay")
    held = sum(backend.adapters.show(name).size_bytes for name in (MODEL, "terse"))
    await backend.close()
    backend = opened(sources, generator_residency="stay", generator_residency_mib=held // (1 << 20) + 1)
    assert await text_of(backend, prompt("terse"))
    made, open_server = [], backend._servers._open
    backend._servers._open = lambda adapters: (made.append(adapters), open_server(adapters))[1]
    assert await text_of(backend, prompt("fancy"))
    assert [backend.adapters.show(name).loaded for name in ("terse", "fancy", MODEL)] == [False, True, True]
    assert made == [("fancy",)], "one server anew, not two"
    await backend.close()


async def test_one_that_the_engine_cannot_read_fails_alone(backend: LlamaCppBackend) -> None:
    with pytest.raises(Unavailable, match="broken"):
        await text_of(backend, prompt("broken"))
    assert await text_of(backend, prompt("terse"))


async def test_a_model_that_is_not_pinned_comes_and_goes(sources: dict[str, str]) -> None:
    backend = opened(
        sources,
        generator_model_pinned=False,
        generator_residency="keep-alive",
        generator_residency_seconds=0.01,
    )
    generator = BoundedGenerator(backend, Limits())
    assert backend._servers._now is None
    assert await generator.models()
    for loads in (1, 2):
        assert await text_of(backend, prompt())
        assert backend.adapters.show(MODEL).loads == loads
        await asyncio.sleep(0.05)
        await backend.adapters.tick()
        await until(lambda: backend._servers._now is None)
    await generator.close()
