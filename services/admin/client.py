"""The gateway, as the command line sees it: JSON, uploads, server-sent events, and problems as one clear line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.admin.failures import Failed

_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event, its data already read as JSON."""

    name: str
    data: Any


class Gateway:
    """A client of one gateway, safe to use from several threads. Whatever goes wrong is raised as Failed."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None, key: str = "") -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        proxied = httpx.URL(url).host not in _LOOPBACK
        self._http = httpx.Client(
            base_url=url, transport=transport, timeout=_TIMEOUT, trust_env=proxied, headers=headers
        )

    def get(self, path: str, **query: object) -> Any:
        return self._call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("POST", path, json=_given(body))

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("PUT", path, json=_given(body))

    def delete(self, path: str, **query: object) -> Any:
        return self._call("DELETE", path, params={name: value for name, value in query.items() if value is not None})

    def upload(self, path: str, files: Sequence[tuple[str, Path]], fields: Mapping[str, str]) -> Any:
        """Send files, each under the name given with it, as one multipart request."""
        with _opened(files) as parts:
            return self._call("POST", path, files=parts, data=dict(fields))

    def events(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Iterator[Event]:
        """The events of a stream, until the server ends it."""
        given = None if body is None else _given(body)
        headers = {"Accept": "text/event-stream"}
        with self._clearly(), self._http.stream(method, path, json=given, headers=headers) as response:
            if response.is_error:
                response.read()
                raise Failed(problem(response))
            yield from read_events(response.iter_lines())

    def _call(self, method: str, path: str, **request: Any) -> Any:
        with self._clearly():
            response = self._http.request(method, path, **request)
            if response.is_error:
                raise Failed(problem(response))
            return response.json()

    @contextmanager
    def _clearly(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Failed(f"no stack answers at {self.url}; start it with `almanac up`") from None
        except httpx.TimeoutException:
            raise Failed(f"the stack at {self.url} did not answer in time; see `almanac status`") from None
        except httpx.HTTPError as error:
            raise Failed(f"the connection to {self.url} broke ({error}); see `almanac status`") from None
        except json.JSONDecodeError:
            raise Failed(f"what answers at {self.url} is no Almanac gateway; is another program on its port?") from None


def _given(body: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in body.items() if value is not None}


def problem(response: httpx.Response) -> str:
    """An error response as one line: the problem's title and detail where it has them."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return f"the gateway answered {response.status_code} {response.reason_phrase}"
    return explain(body, f"the gateway answered {response.status_code}")


def explain(body: Json, otherwise: str = "the gateway reported an error") -> str:
    """Problem details as one line."""
    parts = [str(body[key]) for key in ("title", "detail") if body.get(key)]
    return " ".join(": ".join(dict.fromkeys(parts)).split()) or otherwise


@contextmanager
def _opened(files: Sequence[tuple[str, Path]]) -> Iterator[list[tuple[str, tuple[str, Any]]]]:
    handles = []
    try:
        for _, path in files:
            handles.append(path.open("rb"))
        yield [("files", (name, handle)) for (name, _), handle in zip(files, handles, strict=True)]
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    finally:
        for handle in handles:
            handle.close()


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events out of their lines (WHATWG HTML, section 9.2); comments, ids and retries are passed over."""
    name, data = "message", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        if not line:
            if data:
                yield Event(name, json.loads("\n".join(data)))
            name, data = "message", []
        elif field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))
