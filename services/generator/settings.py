"""What the generator can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import Settings


class GeneratorSettings(Settings):
    generator_backend: str = Field("llamacpp", description="Engine of the generator: `llamacpp` or `memory`.")
    generator_model: str = Field("SmolLM2-135M-Instruct", description="The model it serves, by its manifest name.")
    generator_adapters: dict[str, Path] = Field(
        default_factory=dict, description="LoRA adapters as JSON, name to GGUF file; a request names one."
    )
    generator_slots: int = Field(4, ge=1, le=64, description="How many answers are decoded at once.")
    generator_queue: int = Field(32, ge=0, description="How many more may wait; beyond, requests are refused.")
    generator_context_tokens: int = Field(2048, ge=256, description="Window of one slot: prompt and answer together.")
    generator_max_tokens: int = Field(512, ge=1, description="The longest answer a request may ask for.")
    generator_threads: int = Field(0, ge=0, description="Threads that decode. Default: one per core, at most 8.")
    generator_prefix_cache: bool = Field(
        False,
        description="Reuse what a slot computed for a prompt that began alike: faster, but a text at temperature 0 may "
        "then depend on what was asked before.",
    )
    generator_batch_tokens: int = Field(
        64, ge=32, description="Prompt tokens read between two looks at whether the request was cancelled."
    )
    generator_pace: float = Field(0.0, ge=0, description="Tokens a second of the `memory` backend; 0 is unpaced.")
