"""The connection: a server by its URL, or the client's own engine in this process; errors as the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from services.common.errors import Internal, Unavailable
from services.retriever.settings import RetrieverSettings

_OLDEST = (1, 19)
"""The first that computes term statistics over the points a filter passes (qdrant/qdrant#9661); an older one would
take them from other moments and tenants, and not say so."""
_LOST = (ResponseHandlingException, httpx.HTTPError, OSError)
_REFUSED = {401: "the API key", 403: "the API key"}

_opened: WeakValueDictionary[str, QdrantClient] = WeakValueDictionary()
"""A directory can be opened once in a process."""


class Server:
    """The client and how it is to be used."""

    def __init__(self, settings: RetrieverSettings) -> None:
        self.url = settings.retriever_qdrant_url
        self.local = "://" not in self.url
        self.client = _client(settings)
        self.prefix = settings.retriever_qdrant_prefix
        self.ordering = models.WriteOrdering(settings.retriever_qdrant_ordering)
        self.shards = settings.retriever_qdrant_shards
        self.replicas = settings.retriever_qdrant_replicas
        # A close that one replica has not seen would show what ended: all of them acknowledge unless told otherwise.
        self.acknowledging = settings.retriever_qdrant_write_consistency or self.replicas
        if not self.local:
            self._check_version()

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Raises Unavailable where the server does not answer, or not yet; Internal where it refuses a request."""
        try:
            yield
        except UnexpectedResponse as error:
            raise self._said(error) from error
        except (*_LOST, ApiException) as error:
            raise Unavailable(f"the Qdrant server at {self.url} does not answer: {error}") from error

    def _said(self, error: UnexpectedResponse) -> Unavailable | Internal:
        status = error.status_code or 0
        if status in _REFUSED:
            return Unavailable(f"the Qdrant server at {self.url} refuses {_REFUSED[status]}; set another")
        if status in (404, 408, 429) or status >= 500:
            return Unavailable(f"the Qdrant server at {self.url} cannot do it now: {error}")
        return Internal(f"the Qdrant server at {self.url} refuses a request: {error}")

    def _check_version(self) -> None:
        with self.reached():
            version = self.client.info().version
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            raise Unavailable(f"the Qdrant server at {self.url} is {version}; {oldest} or later is needed")


def _client(settings: RetrieverSettings) -> QdrantClient:
    url, key = settings.retriever_qdrant_url, settings.retriever_qdrant_api_key.get_secret_value()
    if "://" in url:
        timeout = settings.retriever_qdrant_timeout_seconds
        return QdrantClient(url=url, api_key=key or None, timeout=timeout, check_compatibility=False)
    if url == ":memory:":
        return QdrantClient(url, force_disable_check_same_thread=True)
    path = str(Path(url) if url else settings.home / "index-qdrant")
    client = _opened.get(path)
    if client is None:
        client = _opened[path] = QdrantClient(path=path, force_disable_check_same_thread=True)
    return client
