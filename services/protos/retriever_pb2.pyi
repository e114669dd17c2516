from services.protos import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TARGET_UNSPECIFIED: _ClassVar[Target]
    TARGET_PASSAGES: _ClassVar[Target]
    TARGET_QUESTIONS: _ClassVar[Target]
TARGET_UNSPECIFIED: Target
TARGET_PASSAGES: Target
TARGET_QUESTIONS: Target

class Filter(_message.Message):
    __slots__ = ("key", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("scope", "target", "vector", "text", "limit", "filters", "exact")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    scope: _common_pb2.Scope
    target: Target
    vector: _common_pb2.Tensor
    text: str
    limit: int
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    exact: bool
    def __init__(self, scope: _Optional[_Union[_common_pb2.Scope, _Mapping]] = ..., target: _Optional[_Union[Target, str]] = ..., vector: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., text: _Optional[str] = ..., limit: _Optional[int] = ..., filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ..., exact: _Optional[bool] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("item_id", "doc_id", "score", "dense", "lexical", "extent", "dense_rank", "lexical_rank")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    DENSE_RANK_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_RANK_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    doc_id: str
    score: float
    dense: float
    lexical: float
    extent: _common_pb2.Extent
    dense_rank: int
    lexical_rank: int
    def __init__(self, item_id: _Optional[str] = ..., doc_id: _Optional[str] = ..., score: _Optional[float] = ..., dense: _Optional[float] = ..., lexical: _Optional[float] = ..., extent: _Optional[_Union[_common_pb2.Extent, _Mapping]] = ..., dense_rank: _Optional[int] = ..., lexical_rank: _Optional[int] = ...) -> None: ...

class Stage(_message.Message):
    __slots__ = ("name", "method", "passing", "points", "ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PASSING_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    method: str
    passing: int
    points: int
    ms: float
    def __init__(self, name: _Optional[str] = ..., method: _Optional[str] = ..., passing: _Optional[int] = ..., points: _Optional[int] = ..., ms: _Optional[float] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "plan")
    HITS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    plan: _containers.RepeatedCompositeFieldContainer[Stage]
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., plan: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ...) -> None: ...

class Funnel(_message.Message):
    __slots__ = ("dimensions", "rotation", "quantization", "oversampling", "rescore", "accept_loss", "lexical", "fusion", "candidates")
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    OVERSAMPLING_FIELD_NUMBER: _ClassVar[int]
    RESCORE_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_LOSS_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    dimensions: int
    rotation: str
    quantization: str
    oversampling: float
    rescore: bool
    accept_loss: bool
    lexical: bool
    fusion: str
    candidates: int
    def __init__(self, dimensions: _Optional[int] = ..., rotation: _Optional[str] = ..., quantization: _Optional[str] = ..., oversampling: _Optional[float] = ..., rescore: _Optional[bool] = ..., accept_loss: _Optional[bool] = ..., lexical: _Optional[bool] = ..., fusion: _Optional[str] = ..., candidates: _Optional[int] = ...) -> None: ...

class DefineRequest(_message.Message):
    __slots__ = ("generation", "funnel", "basis")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FUNNEL_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    generation: str
    funnel: Funnel
    basis: _common_pb2.Tensor
    def __init__(self, generation: _Optional[str] = ..., funnel: _Optional[_Union[Funnel, _Mapping]] = ..., basis: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ...) -> None: ...

class DefineResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StandingRequest(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: str
    def __init__(self, generation: _Optional[str] = ...) -> None: ...

class StandingResponse(_message.Message):
    __slots__ = ("exists", "points", "unbuilt", "disk_bytes", "building", "memory_bytes")
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    UNBUILT_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUILDING_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    exists: bool
    points: int
    unbuilt: int
    disk_bytes: int
    building: bool
    memory_bytes: int
    def __init__(self, exists: _Optional[bool] = ..., points: _Optional[int] = ..., unbuilt: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., building: _Optional[bool] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class ContentsRequest(_message.Message):
    __slots__ = ("generation", "tenant", "collection")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    generation: str
    tenant: str
    collection: str
    def __init__(self, generation: _Optional[str] = ..., tenant: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class ContentsResponse(_message.Message):
    __slots__ = ("points", "fingerprint")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    points: int
    fingerprint: int
    def __init__(self, points: _Optional[int] = ..., fingerprint: _Optional[int] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("header", "batch", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: ApplyHeader
    batch: ApplyBatch
    end: _common_pb2.StretchEnd
    def __init__(self, header: _Optional[_Union[ApplyHeader, _Mapping]] = ..., batch: _Optional[_Union[ApplyBatch, _Mapping]] = ..., end: _Optional[_Union[_common_pb2.StretchEnd, _Mapping]] = ...) -> None: ...

class ApplyHeader(_message.Message):
    __slots__ = ("generation", "stretch")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STRETCH_FIELD_NUMBER: _ClassVar[int]
    generation: str
    stretch: _common_pb2.Stretch
    def __init__(self, generation: _Optional[str] = ..., stretch: _Optional[_Union[_common_pb2.Stretch, _Mapping]] = ...) -> None: ...

class ApplyBatch(_message.Message):
    __slots__ = ("upserts", "vectors", "closes")
    UPSERTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    CLOSES_FIELD_NUMBER: _ClassVar[int]
    upserts: _containers.RepeatedCompositeFieldContainer[Upsert]
    vectors: _common_pb2.Tensor
    closes: _containers.RepeatedCompositeFieldContainer[Close]
    def __init__(self, upserts: _Optional[_Iterable[_Union[Upsert, _Mapping]]] = ..., vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., closes: _Optional[_Iterable[_Union[Close, _Mapping]]] = ...) -> None: ...

class Upsert(_message.Message):
    __slots__ = ("point_id", "target", "item_id", "doc_id", "extent", "text", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    POINT_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    point_id: str
    target: Target
    item_id: str
    doc_id: str
    extent: _common_pb2.Extent
    text: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, point_id: _Optional[str] = ..., target: _Optional[_Union[Target, str]] = ..., item_id: _Optional[str] = ..., doc_id: _Optional[str] = ..., extent: _Optional[_Union[_common_pb2.Extent, _Mapping]] = ..., text: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("point_id", "recorded_to_us")
    POINT_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_TO_US_FIELD_NUMBER: _ClassVar[int]
    point_id: str
    recorded_to_us: int
    def __init__(self, point_id: _Optional[str] = ..., recorded_to_us: _Optional[int] = ...) -> None: ...

class PositionRequest(_message.Message):
    __slots__ = ("generation", "tenant", "collection")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    generation: str
    tenant: str
    collection: str
    def __init__(self, generation: _Optional[str] = ..., tenant: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class EraseRequest(_message.Message):
    __slots__ = ("generation", "tenant", "collection", "doc_id")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    generation: str
    tenant: str
    collection: str
    doc_id: str
    def __init__(self, generation: _Optional[str] = ..., tenant: _Optional[str] = ..., collection: _Optional[str] = ..., doc_id: _Optional[str] = ...) -> None: ...

class EraseResponse(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: int
    def __init__(self, points: _Optional[int] = ...) -> None: ...

class DropRequest(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: str
    def __init__(self, generation: _Optional[str] = ...) -> None: ...

class DropResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplaceRequest(_message.Message):
    __slots__ = ("generation", "by")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    generation: str
    by: str
    def __init__(self, generation: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ReplaceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
