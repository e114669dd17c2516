"""What the generator can be told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr

from services.common.settings import Settings
from services.generator.adapters import AdapterEntry
from services.generator.residency.policies import DEFAULT_PATIENCE

Residency = Literal["learned", "keep-alive", "preload", "hold", "stay"]


class GeneratorSettings(Settings):
    generator_backend: str = Field(
        "",
        description="Engine of the generator: `llamacpp`, `vllm`, `openai` (any compatible server) or `memory`. "
        "Default: `openai` where `generator_url` is set, else `vllm` where it is installed, else `llamacpp`.",
    )
    generator_model: str = Field(
        "SmolLM2-135M-Instruct",
        description="The model it serves: a name of the manifest; for `vllm` also a directory or a hub repository, for "
        "`openai` the server's name of it.",
    )
    generator_adapters: dict[str, AdapterEntry] = Field(
        default_factory=dict,
        description="LoRA adapters as JSON, name to source: a GGUF file for `llamacpp`, a directory for `vllm`, the "
        'server\'s model name for `openai`. In place of the source, `{"source": …, "tenants": […], "pinned": true}`: '
        "only these tenants may use it; it is loaded at the start and stays.",
    )
    generator_residency: Residency = Field(
        "learned",
        description="How long adapters stay after a request, and a model that is not pinned: `learned` (while the next "
        "is to be expected soon, by how requests came so far), `keep-alive`, `preload` (go at once, come back when one "
        "has become likely), `hold` (until one has become unlikely) or `stay`.",
    )
    generator_residency_seconds: float = Field(
        DEFAULT_PATIENCE,
        gt=0,
        description="For `learned`: wanted once in so many seconds, an adapter is worth its memory. For `keep-alive`: "
        "how long it stays.",
    )
    generator_residency_window: int = Field(
        5, ge=2, le=1_000, description="Gaps between requests from which `preload` and `hold` tell how often they come."
    )
    generator_residency_mib: int = Field(
        0,
        ge=0,
        description="Memory for adapters, on `llamacpp` with the model, by the sizes of their files; what is wanted "
        "least makes room. 0: no limit.",
    )
    generator_model_pinned: bool = Field(
        True, description="Keep the model of `llamacpp` in memory; else it comes and goes as adapters do."
    )
    generator_slots: int = Field(4, ge=1, le=1024, description="How many answers are decoded at once.")
    generator_queue: int = Field(32, ge=0, description="How many more may wait; beyond, requests are refused.")
    generator_context_tokens: int = Field(2048, ge=256, description="Window of one slot: prompt and answer together.")
    generator_max_tokens: int = Field(512, ge=1, description="The longest answer a request may ask for.")
    generator_threads: int = Field(0, ge=0, description="Threads that decode. Default: one per core, at most 8.")
    generator_prefix_cache: bool | None = Field(
        None,
        description="Reuse what was computed for a prompt that began alike, within a tenant: faster, but a text at "
        "temperature 0 may then depend on what was asked before. Default: yes for `vllm`, no for `llamacpp`.",
    )
    generator_batch_tokens: int = Field(
        0,
        ge=0,
        description="Prompt tokens in one step of the engine; between steps others decode and cancelled requests end. "
        "Default: 64 for `llamacpp`, what suits the device for `vllm`.",
    )
    generator_draft_tokens: int = Field(
        0,
        ge=0,
        le=16,
        description="Tokens that `vllm` guesses ahead by n-grams of the prompt; apt for quoting. 0: none.",
    )
    generator_dtype: str = Field(
        "auto", description="Numbers `vllm` computes in. `auto`: the model's; float32 on a CPU."
    )
    generator_memory_share: float = Field(
        0.9, gt=0, le=1, description="Share of the GPU's memory that `vllm` may take, weights and cache together."
    )
    generator_cache_gib: float = Field(
        0.0, ge=0, description="Size of `vllm`'s key-value cache. Default: what is left of its share; 1 GiB on a CPU."
    )
    generator_adapter_places: int = Field(
        4, ge=1, le=256, description="Adapters that `vllm` computes with in one batch; all but one may be pinned."
    )
    generator_adapter_rank: int = Field(16, ge=1, le=512, description="Largest rank of an adapter of `vllm`.")
    generator_url: str = Field("", description="Base URL of the `openai` backend, such as `http://vllm:8000/v1`.")
    generator_api_key: SecretStr = Field(SecretStr(""), description="API key of that server.")
    generator_timeout_seconds: float = Field(
        60.0, gt=0, description="How long that server may be silent, before the first piece of text and between two."
    )
    generator_cache_salt: bool = Field(
        False, description="Send the tenant as `cache_salt`: for a vLLM server, whose prefix cache it keeps apart."
    )
    generator_extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Fields added to every request to that server, as JSON."
    )
    generator_pace: float = Field(0.0, ge=0, description="Tokens a second of the `memory` backend; 0 is unpaced.")
