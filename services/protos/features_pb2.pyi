from services.protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Value(_message.Message):
    __slots__ = ("text", "integer", "number", "flag")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    text: str
    integer: int
    number: float
    flag: bool
    def __init__(self, text: _Optional[str] = ..., integer: _Optional[int] = ..., number: _Optional[float] = ..., flag: _Optional[bool] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("scope", "view", "entities")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    scope: _common_pb2.Scope
    view: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, scope: _Optional[_Union[_common_pb2.Scope, _Mapping]] = ..., view: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ...) -> None: ...

class FeatureRow(_message.Message):
    __slots__ = ("entity", "found", "event_us", "created_us", "values")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    EVENT_US_FIELD_NUMBER: _ClassVar[int]
    CREATED_US_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    entity: str
    found: bool
    event_us: int
    created_us: int
    values: _containers.MessageMap[str, Value]
    def __init__(self, entity: _Optional[str] = ..., found: _Optional[bool] = ..., event_us: _Optional[int] = ..., created_us: _Optional[int] = ..., values: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[FeatureRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[FeatureRow, _Mapping]]] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("header", "batch", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: AppendHeader
    batch: AppendBatch
    end: _common_pb2.StretchEnd
    def __init__(self, header: _Optional[_Union[AppendHeader, _Mapping]] = ..., batch: _Optional[_Union[AppendBatch, _Mapping]] = ..., end: _Optional[_Union[_common_pb2.StretchEnd, _Mapping]] = ...) -> None: ...

class AppendHeader(_message.Message):
    __slots__ = ("view", "stretch")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    STRETCH_FIELD_NUMBER: _ClassVar[int]
    view: str
    stretch: _common_pb2.Stretch
    def __init__(self, view: _Optional[str] = ..., stretch: _Optional[_Union[_common_pb2.Stretch, _Mapping]] = ...) -> None: ...

class AppendBatch(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[FeatureRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[FeatureRow, _Mapping]]] = ...) -> None: ...

class PositionRequest(_message.Message):
    __slots__ = ("view", "tenant", "collection")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    view: str
    tenant: str
    collection: str
    def __init__(self, view: _Optional[str] = ..., tenant: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class MaterializeRequest(_message.Message):
    __slots__ = ("view",)
    VIEW_FIELD_NUMBER: _ClassVar[int]
    view: str
    def __init__(self, view: _Optional[str] = ...) -> None: ...

class MaterializeResponse(_message.Message):
    __slots__ = ("through_us",)
    THROUGH_US_FIELD_NUMBER: _ClassVar[int]
    through_us: int
    def __init__(self, through_us: _Optional[int] = ...) -> None: ...

class EraseRequest(_message.Message):
    __slots__ = ("view", "tenant", "collection", "entity")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    view: str
    tenant: str
    collection: str
    entity: str
    def __init__(self, view: _Optional[str] = ..., tenant: _Optional[str] = ..., collection: _Optional[str] = ..., entity: _Optional[str] = ...) -> None: ...

class EraseResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    def __init__(self, rows: _Optional[int] = ...) -> None: ...

class DropRequest(_message.Message):
    __slots__ = ("view", "tenant", "collection")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    view: str
    tenant: str
    collection: str
    def __init__(self, view: _Optional[str] = ..., tenant: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class DropResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
