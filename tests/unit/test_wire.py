"""Values on the wire."""

import numpy as np
import pytest

from services.common.clients import wire
from services.common.errors import InvalidRequest, ScopeMissing, Unavailable
from services.common.moment import Moment
from services.common.nodes.scope import Scope, Stretch
from services.protos import common_pb2, features_pb2


async def stream(*requests):
    for request in requests:
        yield request


BATCH = features_pb2.AppendRequest(batch=features_pb2.AppendBatch())
END = features_pb2.AppendRequest(end=common_pb2.StretchEnd())
HEADER = features_pb2.AppendRequest(header=features_pb2.AppendHeader())


async def test_changes_that_break_off_are_an_error():
    with pytest.raises(Unavailable, match="broke off"):
        [batch async for batch in wire.batches_until_end(stream(BATCH))]


async def test_changes_that_end_are_whole():
    assert len([batch async for batch in wire.batches_until_end(stream(BATCH, BATCH, END))]) == 2


async def test_a_second_header_is_refused():
    with pytest.raises(InvalidRequest):
        [batch async for batch in wire.batches_until_end(stream(BATCH, HEADER))]


def test_a_scope_needs_every_part():
    whole = Scope("t", "c", "g", Moment(1, 2))
    assert wire.scope_from_pb(wire.scope_to_pb(whole)) == whole
    for missing in ("tenant", "collection", "generation", "moment"):
        message = wire.scope_to_pb(whole)
        message.ClearField(missing)
        with pytest.raises(ScopeMissing):
            wire.scope_from_pb(message)


def test_a_stretch_needs_tenant_and_collection():
    whole = Stretch("t", "c", 1, 2)
    assert wire.stretch_from_pb(wire.stretch_to_pb(whole)) == whole
    with pytest.raises(ScopeMissing):
        wire.stretch_from_pb(common_pb2.Stretch(tenant="t"))


def test_a_tensor_travels_as_packed_bytes_with_its_shape():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    message = wire.tensor_to_pb(array)
    assert len(message.data) == 24 and list(message.shape) == [2, 3]
    assert (wire.tensor_from_pb(message) == array).all()


@pytest.mark.parametrize("tensor", [{"dtype": "float64"}, {"dtype": "float32", "data": b"\0" * 8, "shape": [3]}])
def test_a_tensor_whose_parts_disagree_is_refused(tensor):
    with pytest.raises(InvalidRequest):
        wire.tensor_from_pb(common_pb2.Tensor(**tensor))
