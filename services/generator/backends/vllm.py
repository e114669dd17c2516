"""vLLM in this process's charge: its asynchronous engine, which batches continuously and pages its key-value cache."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

from vllm import SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from services.common.errors import InvalidRequest, Unavailable
from services.common.nodes.generator import Chunk, Prompt, Stats
from services.generator.adapters import AdapterEntry
from services.generator.backends.vllm_engine import Meter, start
from services.generator.residency.choosing import chosen, sizes
from services.generator.residency.holding import OnDemand
from services.generator.settings import GeneratorSettings

_SHUTDOWN_SECONDS = 2.0


def open_backend(settings: GeneratorSettings) -> VllmBackend:
    """The settings' model in a new engine. Raises InvalidRequest where it cannot be served.

    An engine that dies takes the node with it, so that whoever supervises the node starts both again.
    """
    engine, meter = start(settings)
    return VllmBackend(engine, meter, settings, lambda: signal.raise_signal(signal.SIGTERM))


class VllmBackend:
    """An engine with its adapters. `died` is called when the engine is found dead."""

    def __init__(self, engine: AsyncLLM, meter: Meter, settings: GeneratorSettings, died: Callable[[], None]) -> None:
        self._engine, self._meter, self._died = engine, meter, died
        self._settings = settings
        self._numbers = count()
        self._loras = _requests(settings.generator_adapters)
        self._adapters = OnDemand(
            self._load,
            self._unload,
            self._pin,
            settings.generator_adapter_places - 1,
            chosen(settings),
            sizes(settings.generator_adapters),
        )
        # One thread: the tokenizer's settings are its own state, and a long prompt must not hold up the loop.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    @property
    def model(self) -> str:
        return Path(self._settings.generator_model).name

    @property
    def slots(self) -> int:
        return self._settings.generator_slots

    @property
    def adapters(self) -> OnDemand:
        return self._adapters

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        tokens = await self._tokens(prompt)
        window = self._settings.generator_context_tokens
        if len(tokens) >= window:
            raise InvalidRequest(f"the prompt has {len(tokens)} tokens and the window {window}; shorten it")
        params = _params(prompt, window - len(tokens))
        async with self._adapters.using(prompt.adapter), aclosing(self._outputs(prompt, tokens, params)) as outputs:
            written = 0
            async for output in outputs:
                piece = output.outputs[0]
                written += len(piece.token_ids)
                counts = (len(tokens), written, output.num_cached_tokens or 0)
                if piece.text:
                    yield Chunk(piece.text, "", *counts)
                if output.finished:
                    yield Chunk("", "length" if piece.finish_reason == "length" else "stop", *counts)

    async def _outputs(
        self, prompt: Prompt, tokens: list[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """What the engine gives; closing this aborts the request, which frees its blocks."""
        asked = TokensPrompt(prompt_token_ids=tokens)
        if prompt.tenant:
            asked["cache_salt"] = prompt.tenant
        name = f"{next(self._numbers)}"
        try:
            async with aclosing(
                self._engine.generate(asked, params, name, lora_request=self._loras.get(prompt.adapter))
            ) as outputs:
                async for output in outputs:
                    yield output
        except EngineDeadError:
            self._died()
            raise Unavailable("the engine has died; it is started again") from None
        except EngineGenerateError as error:
            raise Unavailable(f"the engine gave up on the answer: {error}") from None
        except ValueError as error:
            raise InvalidRequest(f"the engine refused the prompt: {error}") from None

    async def _tokens(self, prompt: Prompt) -> list[int]:
        tokenizer = self._engine.get_tokenizer()
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._tokenizing, _templated, tokenizer, messages)
        except Exception as error:
            raise InvalidRequest(f"the model's chat template refuses the messages: {error}") from error

    async def _load(self, name: str) -> None:
        # Before any request names it: files that cannot be read would kill the engine in the middle of a batch.
        try:
            await self._engine.add_lora(self._loras[name])
        except Exception as error:
            raise Unavailable(f"adapter {name!r} cannot be loaded: {error}") from error

    async def _unload(self, name: str) -> None:
        await self._engine.remove_lora(self._loras[name].lora_int_id)

    async def _pin(self, name: str) -> None:
        await self._engine.pin_lora(self._loras[name].lora_int_id)

    async def stats(self) -> Stats:
        """As of the engine's last step."""
        return self._meter.stats

    async def close(self) -> None:
        self._tokenizing.shutdown()
        self._engine.shutdown(timeout=_SHUTDOWN_SECONDS)


def _requests(entries: Mapping[str, AdapterEntry]) -> dict[str, LoRARequest]:
    return {
        name: LoRARequest(lora_name=name, lora_int_id=number, lora_path=entry.source)
        for number, (name, entry) in enumerate(entries.items(), start=1)
    }


def _params(prompt: Prompt, room: int) -> SamplingParams:
    return SamplingParams(
        max_tokens=min(prompt.max_tokens, room),
        temperature=prompt.temperature,
        seed=prompt.seed if prompt.temperature else None,
        stop=list(prompt.stop),
        output_kind=RequestOutputKind.DELTA,
    )


def _templated(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))
