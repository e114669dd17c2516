"""A channel to one node, whose methods know the node's circuit."""

from __future__ import annotations

from typing import Any

import grpc

from services.common.rpc.circuit import Circuit


class Line(grpc.aio.Channel):
    """Stands for another channel, which may be replaced between calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._circuits: dict[str, Circuit] = {}

    def at_hand(self) -> grpc.aio.Channel:
        """The channel that calls go to from now on."""
        return self._channel

    def circuit(self, path: str) -> Circuit:
        """The circuit of the node that serves `/almanac.NODE.v1.Node/Call`."""
        node = path.split(".")[1]
        if node not in self._circuits:
            self._circuits[node] = Circuit(node)
        return self._circuits[node]

    def unary_unary(self, method: str, *rest: Any, **named: Any) -> Any:
        return Method(self, "unary_unary", method, rest, named)

    def unary_stream(self, method: str, *rest: Any, **named: Any) -> Any:
        return Method(self, "unary_stream", method, rest, named)

    def stream_unary(self, method: str, *rest: Any, **named: Any) -> Any:
        return Method(self, "stream_unary", method, rest, named)

    def stream_stream(self, method: str, *rest: Any, **named: Any) -> Any:
        return Method(self, "stream_stream", method, rest, named)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()


class Method:
    """One method, called on the channel that is at hand then."""

    def __init__(self, line: Line, kind: str, method: str, rest: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._line, self._kind, self._rest, self._named = line, kind, rest, named
        self.path = method

    @property
    def circuit(self) -> Circuit:
        return self._line.circuit(self.path)

    def __call__(self, *given: Any, **named: Any) -> Any:
        made = getattr(self._line.at_hand(), self._kind)(self.path, *self._rest, **self._named)
        return made(*given, **named)
