"""Values every node's messages share, to protobuf and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common.errors import InvalidRequest, ScopeMissing, Unavailable
from services.common.moment import Extent, Moment, Span
from services.common.nodes.scope import Scope, Stretch
from services.protos import common_pb2 as pb


def scope_to_pb(scope: Scope) -> pb.Scope:
    moment = pb.Moment(as_of_us=scope.moment.as_of, known_at_us=scope.moment.known_at)
    return pb.Scope(tenant=scope.tenant, collection=scope.collection, generation=scope.generation, moment=moment)


def scope_from_pb(scope: pb.Scope) -> Scope:
    """Raises ScopeMissing where the message lacks any part."""
    if not scope.HasField("moment"):
        raise ScopeMissing("the request carries no moment")
    moment = Moment(scope.moment.as_of_us, scope.moment.known_at_us)
    return Scope(scope.tenant, scope.collection, scope.generation, moment)


def stretch_to_pb(stretch: Stretch) -> pb.Stretch:
    return pb.Stretch(tenant=stretch.tenant, collection=stretch.collection, from_us=stretch.start, to_us=stretch.end)


def stretch_from_pb(stretch: pb.Stretch) -> Stretch:
    if not stretch.tenant or not stretch.collection:
        raise ScopeMissing("the stretch names no tenant or no collection")
    return Stretch(stretch.tenant, stretch.collection, stretch.from_us, stretch.to_us)


async def batches_until_end(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The batches of a stream of changes. Raises Unavailable where it breaks off: grpc.aio shows that as its end."""
    async for request in requests:
        part = request.WhichOneof("part")
        if part == "end":
            return
        if part != "batch":
            raise InvalidRequest("after the header only batches and the end may follow")
        yield request.batch
    raise Unavailable("the changes broke off before their end and were not applied; send them again")


def extent_to_pb(extent: Extent) -> pb.Extent:
    return pb.Extent(
        valid_from_us=extent.valid.start,
        valid_to_us=extent.valid.end,
        recorded_from_us=extent.recorded.start,
        recorded_to_us=extent.recorded.end,
    )


def extent_from_pb(extent: pb.Extent) -> Extent:
    valid = Span(extent.valid_from_us, extent.valid_to_us)
    return Extent(valid, Span(extent.recorded_from_us, extent.recorded_to_us))


def tensor_to_pb(array: npt.NDArray[np.float32]) -> pb.Tensor:
    packed = np.ascontiguousarray(array, dtype="<f4")
    return pb.Tensor(data=packed.tobytes(), shape=packed.shape, dtype="float32")


def tensor_from_pb(tensor: pb.Tensor) -> npt.NDArray[np.float32]:
    """Raises InvalidRequest where bytes, shape and dtype do not agree."""
    if tensor.dtype != "float32":
        raise InvalidRequest(f"a tensor of dtype {tensor.dtype!r}; only float32 travels")
    array = np.frombuffer(tensor.data, dtype="<f4")
    if array.size != int(np.prod(tensor.shape, dtype=np.int64)):
        raise InvalidRequest(f"a tensor of shape {list(tensor.shape)} with {array.size} values")
    return array.reshape(tuple(tensor.shape))
