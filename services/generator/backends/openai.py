"""Any server that speaks OpenAI's chat completions; a remote vLLM too."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from json import JSONDecodeError
from typing import Any

import httpx

from services.common.errors import AlmanacError, Internal, InvalidRequest, ModelNotFound, Overloaded, Unavailable
from services.common.nodes.generator import Chunk, Prompt, Stats
from services.common.streams import made_twice
from services.generator.adapters import Permanent
from services.generator.backends.completions import Event, body, chunks, refusal
from services.generator.backends.slots import Turns
from services.generator.settings import GeneratorSettings

_CONNECT_SECONDS = 5.0


def open_backend(settings: GeneratorSettings) -> OpenAIBackend:
    """The server the settings name; it is not called yet. Raises InvalidRequest without a usable URL."""
    if not settings.generator_url.startswith(("http://", "https://")):
        raise InvalidRequest("ALMANAC_GENERATOR_URL is no URL; name the server's base URL, such as http://vllm:8000/v1")
    return OpenAIBackend(settings)


class OpenAIBackend:
    """Streams from the server. Closing an answer closes its connection, at which servers stop decoding."""

    def __init__(self, settings: GeneratorSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._permanent = Permanent()
        self._turns = Turns(settings.generator_slots)
        key = settings.generator_api_key.get_secret_value()
        self._client = httpx.AsyncClient(
            base_url=settings.generator_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.generator_timeout_seconds, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.generator_slots),
            transport=transport,
        )

    @property
    def model(self) -> str:
        return self._settings.generator_model

    @property
    def slots(self) -> int:
        return self._settings.generator_slots

    @property
    def adapters(self) -> Permanent:
        return self._permanent

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Chunk, None]:
        async with self._turns.one():
            with self._translated():
                async with aclosing(chunks(self._events(prompt))) as given:
                    async for chunk in given:
                        self._turns.count(chunk)
                        yield chunk

    def _events(self, prompt: Prompt) -> AsyncGenerator[Event, None]:
        """As the server streams them. A connection that the server closed while it lay idle is replaced once."""
        return made_twice(lambda: self._streamed(prompt), lambda error: isinstance(error, httpx.RemoteProtocolError))

    async def _streamed(self, prompt: Prompt) -> AsyncGenerator[Event, None]:
        async with self._client.stream("POST", "chat/completions", json=self._body(prompt)) as response:
            if response.status_code != httpx.codes.OK:
                raise _refused(response.status_code, await response.aread(), prompt)
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if data and data != "[DONE]":
                    yield json.loads(data)

    def _body(self, prompt: Prompt) -> Event:
        entry = self._settings.generator_adapters.get(prompt.adapter)
        salt = {"cache_salt": prompt.tenant} if self._settings.generator_cache_salt and prompt.tenant else {}
        return {
            **body(prompt),
            "model": entry.source if entry else self.model,
            **salt,
            **self._settings.generator_extra_body,
        }

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise our own errors instead of the transport's."""
        url = self._settings.generator_url
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(f"{url} cannot be reached: {error or 'no connection in time'}") from None
        except httpx.TimeoutException:
            seconds = self._settings.generator_timeout_seconds
            raise Unavailable(f"{url} said nothing for {seconds:g} s; ask again") from None
        except httpx.TransportError as error:
            raise Unavailable(f"{url} broke off the answer: {error}; ask again") from None
        except JSONDecodeError as error:
            raise Internal(f"{url} does not speak OpenAI's chat completions: {error}") from None

    async def stats(self) -> Stats:
        return self._turns.stats()

    async def close(self) -> None:
        await self._client.aclose()


def _refused(status: int, content: bytes, prompt: Prompt) -> AlmanacError:
    """A status that is not 200 as ours: the client's mistake, the settings', or the server's state."""
    problem = _problem(content)
    reason = problem.get("message", problem) if isinstance(problem, dict) else problem
    if status in (400, 413, 422):
        return refusal({**(problem if isinstance(problem, dict) else {"message": problem}), "code": 400})
    if status in (401, 403):
        return Unavailable(f"the model's server refuses ALMANAC_GENERATOR_API_KEY: {reason}")
    if status == 404 and prompt.adapter:
        return ModelNotFound(f"the model's server has no adapter {prompt.adapter!r}: {reason}")
    if status == 404:
        return Unavailable(f"the model's server has no such path or model; check URL and model: {reason}")
    if status == 429:
        return Overloaded(f"the model's server has too much to do: {reason}")
    return Unavailable(f"the model's server failed with status {status}: {reason}")


def _problem(content: bytes) -> Any:
    """The error of a body: an object where it is OpenAI's, else the beginning of its text."""
    try:
        told = json.loads(content)
    except ValueError:
        return content[:200].decode(errors="replace") or "no reason given"
    return told.get("error", told) if isinstance(told, dict) else told
