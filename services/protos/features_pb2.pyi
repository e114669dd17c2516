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
    __slots__ = ("scope", "view", "entities", "online")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    scope: _common_pb2.Scope
    view: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    online: bool
    def __init__(self, scope: _Optional[_Union[_common_pb2.Scope, _Mapping]] = ..., view: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., online: _Optional[bool] = ...) -> None: ...

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

class ApplyRequest(_message.Message):
    __slots__ = ("dry_run",)
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    def __init__(self, dry_run: _Optional[bool] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("tenant", "view", "statistics")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    view: str
    statistics: bool
    def __init__(self, tenant: _Optional[str] = ..., view: _Optional[str] = ..., statistics: _Optional[bool] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("views",)
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[ViewState]
    def __init__(self, views: _Optional[_Iterable[_Union[ViewState, _Mapping]]] = ...) -> None: ...

class ViewState(_message.Message):
    __slots__ = ("name", "ttl_us", "rows", "bytes", "watermarks", "materialized_us", "fields")
    class WatermarksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TTL_US_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    WATERMARKS_FIELD_NUMBER: _ClassVar[int]
    MATERIALIZED_US_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ttl_us: int
    rows: int
    bytes: int
    watermarks: _containers.ScalarMap[str, int]
    materialized_us: int
    fields: _containers.RepeatedCompositeFieldContainer[FieldState]
    def __init__(self, name: _Optional[str] = ..., ttl_us: _Optional[int] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., watermarks: _Optional[_Mapping[str, int]] = ..., materialized_us: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[FieldState, _Mapping]]] = ...) -> None: ...

class FieldState(_message.Message):
    __slots__ = ("name", "type", "rows", "nulls", "empty", "least", "most", "limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    rows: int
    nulls: int
    empty: int
    least: float
    most: float
    limits: Limits
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., rows: _Optional[int] = ..., nulls: _Optional[int] = ..., empty: _Optional[int] = ..., least: _Optional[float] = ..., most: _Optional[float] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("required", "least", "most")
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    required: bool
    least: float
    most: float
    def __init__(self, required: _Optional[bool] = ..., least: _Optional[float] = ..., most: _Optional[float] = ...) -> None: ...

class TrainingRequest(_message.Message):
    __slots__ = ("header", "batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    header: TrainingHeader
    batch: TrainingBatch
    def __init__(self, header: _Optional[_Union[TrainingHeader, _Mapping]] = ..., batch: _Optional[_Union[TrainingBatch, _Mapping]] = ...) -> None: ...

class TrainingHeader(_message.Message):
    __slots__ = ("tenant", "collection", "view")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    collection: str
    view: str
    def __init__(self, tenant: _Optional[str] = ..., collection: _Optional[str] = ..., view: _Optional[str] = ...) -> None: ...

class TrainingBatch(_message.Message):
    __slots__ = ("asked",)
    ASKED_FIELD_NUMBER: _ClassVar[int]
    asked: _containers.RepeatedCompositeFieldContainer[Asked]
    def __init__(self, asked: _Optional[_Iterable[_Union[Asked, _Mapping]]] = ...) -> None: ...

class Asked(_message.Message):
    __slots__ = ("entity", "at_us")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    entity: str
    at_us: int
    def __init__(self, entity: _Optional[str] = ..., at_us: _Optional[int] = ...) -> None: ...

class TrainingResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[FeatureRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[FeatureRow, _Mapping]]] = ...) -> None: ...
