"""N-gram drafts: the same text in fewer steps where it quotes. `make test-vllm` makes an environment with vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vllm is not installed: `make test-vllm`")

from services.common.errors import InvalidRequest, ModelNotFound
from services.common.nodes.generator import Message, Prompt
from services.generator.backends import open_backend
from services.generator.backends.vllm_engine import arguments
from services.generator.settings import GeneratorSettings
from tests.fakes.checkpoint import write_checkpoint

SENTENCE = "The harbour of Dunmore was rebuilt in 1847 by Alba Wren, the keeper of the lights, after the great storm."
ASKED = Prompt("a", (Message("user", f"Repeat this sentence exactly: {SENTENCE}"),), max_tokens=32)


def settings_of(**how: object) -> GeneratorSettings:
    return GeneratorSettings(generator_backend="vllm", generator_context_tokens=256, generator_slots=2, **how)


async def test_drafts_by_n_grams_give_several_tokens_a_step(tmp_path: Path) -> None:
    model = str(write_checkpoint(tmp_path / "model"))
    backend = open_backend(settings_of(generator_model=model, generator_draft_tokens=4))
    try:
        *pieces, last = [chunk async for chunk in backend.generate(ASKED)]
    finally:
        await backend.close()
    assert "rebuilt in 1847 by Alba Wren, the keeper of the lights" in "".join(piece.text for piece in pieces)
    assert len(pieces) < 0.75 * last.completion_tokens


def test_the_cache_of_prefixes_is_on_unless_it_is_turned_off() -> None:
    model = settings_of(generator_model="/models/any")
    assert arguments(model)["enable_prefix_caching"] and arguments(model)["enable_chunked_prefill"]
    assert not arguments(settings_of(generator_model="/models/any", generator_prefix_cache=False))[
        "enable_prefix_caching"
    ]


def test_every_adapter_has_room_and_the_rank_is_one_there_is() -> None:
    adapters = {name: f"/adapters/{name}" for name in "abcdef"}
    given = arguments(
        settings_of(generator_model="/models/any", generator_adapters=adapters, generator_adapter_rank=20)
    )
    assert (given["max_loras"], given["max_cpu_loras"], given["max_lora_rank"]) == (4, 6, 32)


def test_a_gguf_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="ALMANAC_GENERATOR_MODEL"):
        arguments(settings_of())


def test_an_encoder_is_no_generator() -> None:
    with pytest.raises(ModelNotFound):
        arguments(settings_of(generator_model="all-MiniLM-L6-v2-float32"))
