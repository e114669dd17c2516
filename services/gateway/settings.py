"""The gateway's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from services.common.settings import Settings
from services.gateway.limits.meters import Strategy
from services.gateway.limits.policies import checked
from services.orchestrator.graph.ranking import FEATURES

MIB = 1024 * 1024

Quota = Annotated[str, AfterValidator(checked)]


class GatewaySettings(Settings):
    """Settings of the gateway process."""

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8420, ge=0, le=65535, description="Port the gateway listens on.")
    max_question_chars: int = Field(2_000, ge=1, description="Longest question or search text.")
    max_answer_tokens: int = Field(512, ge=1, description="Largest `max_tokens` of an answer.")
    max_body_bytes: int = Field(1 * MIB, ge=1_024, description="Largest JSON body that holds no documents or facts.")
    max_upload_bytes: int = Field(64 * MIB, ge=1, description="Largest upload, all of its files together.")
    bulk_bytes: int = Field(1 * MIB, ge=1, description="Uploads from this size on are bulk: small ones pass them.")
    head_bytes: int = Field(32 * 1024, ge=1_024, description="Largest head of a request, each field 32 bytes more.")
    head_seconds: float = Field(10.0, gt=0, description="A request's head, or the next request, comes within this.")
    body_seconds: float = Field(20.0, gt=0, description="A body comes within this time, and what `body_rate` adds.")
    body_rate: int = Field(1_024, ge=1, description="For each so many bytes of it, a body may take a second longer.")
    stalled_seconds: float = Field(30.0, gt=0, description="A client that takes nothing for so long is disconnected.")
    connections: int = Field(1_000, ge=1, description="Open connections; beyond, those longest idle are closed.")
    max_upload_files: int = Field(1_000, ge=1, description="Most files in one upload.")
    answer_seconds: float = Field(60.0, gt=0, description="Every answer ends, well or badly, within this time.")
    heartbeat_seconds: float = Field(5.0, gt=0, description="Longest silence on an event stream.")
    resume_seconds: float = Field(
        5.0, ge=0, description="How long an answer goes on whose stream was cut off, for its client to come back to it."
    )
    gateway_threads: int = Field(32, ge=1, description="Threads that wait for the catalog and the broker.")
    rank_recency: float = Field(0.0, description="Weight of a document's recency beside the fused score (0 to 2).")
    rank_authority: float = Field(0.0, description="Weight of the `authority` that its metadata give it, 0 to 1.")
    rank_cited: float = Field(0.0, description="Weight of its citations per retrieval over 30 days.")
    rank_helpful: float = Field(0.0, description="Weight of the balance of its users' feedback, -1 to 1.")
    drain_seconds: float = Field(
        0.0, ge=0, description="How long, once told to stop, it takes requests, not ready, asking to connect elsewhere."
    )
    require_key: bool = Field(False, description="Ask for a key on a loopback address too, before one was made.")
    limit_strategy: Strategy = Field(
        "token-bucket",
        description="How requests are counted: `token-bucket` (bursts of a whole quota), `leaky-bucket` (evenly "
        "spaced), `fixed-window`, `sliding-window` (two weighted counters) or `moving-window` (exact, an entry each).",
    )
    limit_key_requests: Quota = Field("", description="Requests of one key, like `600/minute`. Default: no limit.")
    limit_tenant_requests: Quota = Field("", description="Requests of one tenant. Default: no limit.")
    limit_key_tokens: Quota = Field(
        "", description="Tokens, read and written, of one key's answers, like `20000/minute`. Default: no limit."
    )
    limit_tenant_tokens: Quota = Field("", description="Tokens of one tenant's answers. Default: no limit.")
    quota_key_requests: int = Field(0, ge=0, description="Requests of one key a day, UTC; 0: no limit.")
    quota_tenant_requests: int = Field(0, ge=0, description="Requests of one tenant a day, UTC; 0: no limit.")
    quota_key_tokens: int = Field(0, ge=0, description="Tokens of one key's answers a day, UTC; 0: no limit.")
    quota_tenant_tokens: int = Field(0, ge=0, description="Tokens of one tenant's answers a day, UTC; 0: no limit.")
    limit_streams: int = Field(0, ge=0, description="Streams that one key may have open at once; 0: no limit.")
    answers_in_flight: int = Field(
        64,
        ge=0,
        description="Answers under way at once, over all gateways; beyond, questions are refused, but for those of a "
        "tenant that has less than an even share of them, as there are sub-queues; 0: no limit.",
    )
    answers_within_seconds: float = Field(
        30.0,
        ge=0,
        description="Of those, as many as end in this time at the pace of the last, and at least four; 0: whatever the "
        "pace.",
    )
    answers_waiting: int = Field(
        64,
        ge=1,
        description="Questions that may wait for a worker; beyond, they are refused, but for those of a tenant in "
        "whose sub-queue less than an even share of them waits.",
    )
    answers_of_tenant: int = Field(0, ge=0, description="Answers one tenant may have in flight; 0: no limit.")
    cache_answers: bool = Field(False, description="Keep answers, and give them again where nothing has changed.")
    cache_seconds: float = Field(
        3_600.0, gt=0, le=86_400, description="Longest life of a kept answer; the next commit or boundary ends it too."
    )
    cache_pinned_seconds: float = Field(
        86_400.0, gt=0, le=2_592_000, description="Life of one whose `as_of` and `known_at` both lie in the past."
    )
    limits_without_redis: Literal["open", "closed"] = Field(
        "open", description="While the broker is down, `open` lets every request through, `closed` refuses it."
    )

    @property
    def rank_weights(self) -> dict[str, float]:
        """Feature → weight, of those that weigh anything."""
        given = {name: getattr(self, f"rank_{name}") for name in FEATURES}
        return {name: weight for name, weight in given.items() if weight}
