"""Starting vLLM's engine as the settings say, and reading what it tells of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from vllm import AsyncEngineArgs
from vllm.config.lora import MaxLoRARanks
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from services.common.errors import InvalidRequest
from services.common.models import ModelCache, ModelKind, find, load_manifest
from services.common.nodes.generator import Stats
from services.generator.settings import GeneratorSettings

_GIB = 1 << 30
_CPU_BLOCK = 32
"""Tokens in a block of the cache on a CPU. By default it is 128: a third slower at eight streams."""
_CPU_BATCH_TOKENS = 512
_DRAFT_WORDS = (2, 4)
"""Shortest and longest n-gram of the last tokens that is looked up in the prompt."""


class Meter(StatLoggerBase):  # type: ignore[misc]
    """Keeps the engine's own figures; what it tells by step is added up."""

    def __init__(self, vllm_config: Any = None, engine_index: int = 0) -> None:
        self.stats = Stats()

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        if iteration_stats is not None:
            preemptions = self.stats.preemptions + iteration_stats.num_preempted_reqs
            self.stats = replace(self.stats, preemptions=preemptions)
        if scheduler_stats is not None:
            prefix = scheduler_stats.prefix_cache_stats
            self.stats = replace(
                self.stats,
                running=scheduler_stats.num_running_reqs,
                waiting=scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs,
                kv_usage=scheduler_stats.kv_cache_usage,
                prefix_queries=self.stats.prefix_queries + prefix.queries,
                prefix_hits=self.stats.prefix_hits + prefix.hits,
            )

    def log_engine_initialized(self) -> None:
        pass


def start(settings: GeneratorSettings) -> tuple[AsyncLLM, Meter]:
    """An engine with the model loaded, and its meter. Raises InvalidRequest for a model it cannot read."""
    meter = Meter()
    try:
        engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**arguments(settings)), stat_loggers=[lambda config, index: meter]
        )
    except (ValueError, OSError) as error:
        raise InvalidRequest(f"vllm cannot serve {settings.generator_model!r}: {error}") from error
    return engine, meter


def arguments(settings: GeneratorSettings) -> dict[str, Any]:
    """What the engine is started with. Raises InvalidRequest or ModelNotFound for a model it cannot read."""
    cached = settings.generator_prefix_cache
    return {
        "model": _source(settings),
        "dtype": settings.generator_dtype,
        "max_model_len": settings.generator_context_tokens,
        "max_num_seqs": settings.generator_slots,
        "gpu_memory_utilization": settings.generator_memory_share,
        "enable_prefix_caching": True if cached is None else cached,
        "enable_chunked_prefill": True,
        # The meter's figures are all that is kept.
        "disable_log_stats": True,
        **_cache(settings.generator_cache_gib),
        **_batch(settings.generator_batch_tokens, settings.generator_slots),
        **_lora(settings),
        **_drafts(settings.generator_draft_tokens),
        **(_cpu(settings) if current_platform.is_cpu() else {}),
    }


def _source(settings: GeneratorSettings) -> str:
    """The model's directory where the manifest has it; else what was given, a directory or a hub repository."""
    assert settings.models_dir is not None
    manifest = load_manifest(settings.models_manifest)
    if settings.generator_model not in manifest:
        return settings.generator_model
    model = find(manifest, settings.generator_model, ModelKind.GENERATOR)
    if not any(file.name == "config.json" for file in model.files):
        raise InvalidRequest(
            f"{model.name} is a GGUF, which vllm does not read; set ALMANAC_GENERATOR_MODEL to a directory or a hub "
            "repository with config.json and safetensors"
        )
    return str(ModelCache(Path(settings.models_dir)).path(model))


def _cache(gib: float) -> dict[str, Any]:
    return {"kv_cache_memory_bytes": int(gib * _GIB)} if gib else {}


def _batch(tokens: int, slots: int) -> dict[str, Any]:
    return {"max_num_batched_tokens": max(tokens, slots)} if tokens else {}


def _lora(settings: GeneratorSettings) -> dict[str, Any]:
    """Room in main memory for every adapter, so that none leaves unless it is told to."""
    held = len(settings.generator_adapters)
    if not held:
        return {}
    places = settings.generator_adapter_places
    rank = next((one for one in get_args(MaxLoRARanks) if one >= settings.generator_adapter_rank), None)
    return {"enable_lora": True, "max_loras": places, "max_cpu_loras": max(held, places), "max_lora_rank": rank}


def _drafts(tokens: int) -> dict[str, Any]:
    if not tokens:
        return {}
    shortest, longest = _DRAFT_WORDS
    lookup = {"prompt_lookup_min": shortest, "prompt_lookup_max": longest}
    return {"speculative_config": {"method": "ngram", "num_speculative_tokens": tokens, **lookup}}


def _cpu(settings: GeneratorSettings) -> dict[str, Any]:
    """Float32, as narrower numbers are slower; no compiler, which would take minutes at the start."""
    chosen: dict[str, Any] = {"enforce_eager": True, "block_size": _CPU_BLOCK}
    if settings.generator_dtype == "auto":
        chosen["dtype"] = "float32"
    if not settings.generator_cache_gib:
        chosen |= _cache(1.0)
    if not settings.generator_batch_tokens:
        chosen |= _batch(_CPU_BATCH_TOKENS, settings.generator_slots)
    return chosen
