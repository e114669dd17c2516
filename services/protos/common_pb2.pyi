from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Moment(_message.Message):
    __slots__ = ("as_of_us", "known_at_us")
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_US_FIELD_NUMBER: _ClassVar[int]
    as_of_us: int
    known_at_us: int
    def __init__(self, as_of_us: _Optional[int] = ..., known_at_us: _Optional[int] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("tenant", "collection", "generation", "moment")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MOMENT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    collection: str
    generation: str
    moment: Moment
    def __init__(self, tenant: _Optional[str] = ..., collection: _Optional[str] = ..., generation: _Optional[str] = ..., moment: _Optional[_Union[Moment, _Mapping]] = ...) -> None: ...

class Extent(_message.Message):
    __slots__ = ("valid_from_us", "valid_to_us", "recorded_from_us", "recorded_to_us")
    VALID_FROM_US_FIELD_NUMBER: _ClassVar[int]
    VALID_TO_US_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FROM_US_FIELD_NUMBER: _ClassVar[int]
    RECORDED_TO_US_FIELD_NUMBER: _ClassVar[int]
    valid_from_us: int
    valid_to_us: int
    recorded_from_us: int
    recorded_to_us: int
    def __init__(self, valid_from_us: _Optional[int] = ..., valid_to_us: _Optional[int] = ..., recorded_from_us: _Optional[int] = ..., recorded_to_us: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("data", "shape", "dtype")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    def __init__(self, data: _Optional[bytes] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ...) -> None: ...

class Watermark(_message.Message):
    __slots__ = ("recorded_us",)
    RECORDED_US_FIELD_NUMBER: _ClassVar[int]
    recorded_us: int
    def __init__(self, recorded_us: _Optional[int] = ...) -> None: ...

class Stretch(_message.Message):
    __slots__ = ("tenant", "collection", "from_us", "to_us")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    collection: str
    from_us: int
    to_us: int
    def __init__(self, tenant: _Optional[str] = ..., collection: _Optional[str] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ...) -> None: ...

class StretchEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
