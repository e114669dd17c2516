"""Every error that may reach a user, each knowing its HTTP status and gRPC code.

AlmanacError
├── InvalidRequest        400  the request cannot be understood as it stands
│   ├── InvalidMoment          a date that is none, or a known_at in the future
│   ├── InvalidQuestion        empty, or longer than allowed
│   ├── InvalidDocument        a document or fact that cannot be taken in
│   └── ScopeMissing           tenant, moment or generation missing at a reader's door
├── Unauthorized          401  no key, or one that is not valid
├── Forbidden             403  the key, or where the request comes from, does not allow it
├── NotFound              404
│   ├── CollectionNotFound, JobNotFound, AnswerNotFound, DocumentNotFound, ModelNotFound, KeyNotFound
├── TooSlow               408  a request that did not come in the time allowed
├── Conflict              409  the state does not allow it
├── TooLarge              413  more bytes than allowed
├── RateLimited           429  more than the key or its tenant may have just now
├── HeadTooLarge          431  more bytes before the body than allowed
├── Overloaded            503  come back later
├── Unavailable           503  something needed does not answer
│   ├── BehindWatermark        a reader has not yet applied the record asked for
│   └── DiskFull               no room where something is to be written
├── DeadlineExceeded      504  not done in the time allowed
└── Internal              500  our fault
    ├── MomentViolation        a backend gave something the moment forbids; it was withheld
    └── ModelCorrupt           a model file whose SHA-256 is not the manifest's
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from grpc import StatusCode


class AlmanacError(Exception):
    """The root. `detail` says to a person what is wrong and what to do."""

    type: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"
    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[StatusCode] = StatusCode.INTERNAL

    def __init__(self, detail: str = "", headers: Mapping[str, str] | None = None) -> None:
        """headers: what an HTTP response says beside the problem."""
        super().__init__(detail)
        self.detail = detail or self.title
        self.headers = headers or {}

    def problem(self) -> dict[str, object]:
        """The error as RFC 9457 problem details."""
        return {
            "type": f"urn:almanac:error:{self.type}",
            "title": self.title,
            "status": self.http_status,
            "detail": self.detail,
        }


class InvalidRequest(AlmanacError):
    type, title, http_status, grpc_code = "invalid-request", "Invalid request", 400, StatusCode.INVALID_ARGUMENT


class InvalidMoment(InvalidRequest):
    type, title = "invalid-moment", "Invalid moment"


class InvalidQuestion(InvalidRequest):
    type, title = "invalid-question", "Invalid question"


class InvalidDocument(InvalidRequest):
    type, title = "invalid-document", "Invalid document"


class ScopeMissing(InvalidRequest):
    type, title = "scope-missing", "Tenant, moment or generation missing"


class Unauthorized(AlmanacError):
    type, title, http_status, grpc_code = "unauthorized", "A key is needed", 401, StatusCode.UNAUTHENTICATED


class Forbidden(AlmanacError):
    type, title, http_status, grpc_code = "forbidden", "Not allowed", 403, StatusCode.PERMISSION_DENIED


class NotFound(AlmanacError):
    type, title, http_status, grpc_code = "not-found", "Not found", 404, StatusCode.NOT_FOUND


class CollectionNotFound(NotFound):
    type, title = "collection-not-found", "Collection not found"


class JobNotFound(NotFound):
    type, title = "job-not-found", "Job not found"


class AnswerNotFound(NotFound):
    type, title = "answer-not-found", "Answer not found"


class DocumentNotFound(NotFound):
    type, title = "document-not-found", "Document not found"


class ModelNotFound(NotFound):
    type, title = "model-not-found", "Model not found"


class KeyNotFound(NotFound):
    type, title = "key-not-found", "Key not found"


class TooSlow(AlmanacError):
    type, title, http_status, grpc_code = "too-slow", "Too slow", 408, StatusCode.DEADLINE_EXCEEDED


class Conflict(AlmanacError):
    type, title, http_status, grpc_code = "conflict", "Conflict", 409, StatusCode.FAILED_PRECONDITION


class TooLarge(AlmanacError):
    type, title, http_status, grpc_code = "too-large", "Too large", 413, StatusCode.OUT_OF_RANGE


class RateLimited(AlmanacError):
    type, title, http_status, grpc_code = "rate-limited", "Too many requests", 429, StatusCode.RESOURCE_EXHAUSTED


class HeadTooLarge(AlmanacError):
    type, title, http_status, grpc_code = "head-too-large", "Head too large", 431, StatusCode.OUT_OF_RANGE


class Overloaded(AlmanacError):
    type, title, http_status, grpc_code = "overloaded", "Overloaded", 503, StatusCode.RESOURCE_EXHAUSTED


class Unavailable(AlmanacError):
    type, title, http_status, grpc_code = "unavailable", "Unavailable", 503, StatusCode.UNAVAILABLE


class BehindWatermark(Unavailable):
    type, title = "behind-watermark", "Not yet applied"


class DiskFull(Unavailable):
    type, title = "disk-full", "Disk full"


class DeadlineExceeded(AlmanacError):
    type, title, http_status, grpc_code = "deadline-exceeded", "Took too long", 504, StatusCode.DEADLINE_EXCEEDED


class Internal(AlmanacError):
    type, title = "internal", "Internal error"


class MomentViolation(Internal):
    type, title = "moment-violation", "A backend broke the moment"


class ModelCorrupt(Internal):
    type, title = "model-corrupt", "Model file corrupt"


def _descendants(root: type[AlmanacError]) -> list[type[AlmanacError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _descendants(child))]


ERRORS: Mapping[str, type[AlmanacError]] = {error.type: error for error in _descendants(AlmanacError)}
"""Every error by its stable `type`."""

BY_CODE: Mapping[StatusCode, type[AlmanacError]] = {
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.CANCELLED: Unavailable,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    StatusCode.INVALID_ARGUMENT: InvalidRequest,
    StatusCode.NOT_FOUND: NotFound,
}
"""What a bare status code, without our type beside it, is read as; any other is Internal."""
