"""The settings every process shares, read once at the edge and frozen. Prefix: `ALMANAC_`."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_LONGEST_SOCKET_PATH = 90
"""A unix socket's path must stay below 108 bytes (`sun_path` in unix(7)); names take up to 18 of them."""

_UNSET = Path()
"""A path that was not given."""


class Settings(BaseSettings):
    """Settings of the whole stack. Empty addresses mean the embedded one: unix sockets and files under `home`."""

    model_config = SettingsConfigDict(env_prefix="ALMANAC_", frozen=True, extra="ignore")

    home: Path = Field(Path(".almanac"), description="Where all state lies; two homes are two independent stacks.")
    log_level: str = Field("info", description="Least severe level that is logged.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of the process's figures for Prometheus; 0: none.")
    shutdown_seconds: int = Field(5, ge=0, description="How long what is in flight may take to end at shutdown.")
    patience_seconds: float = Field(
        10.0, ge=0, description="How long a node that went away, as when it is replaced, is waited for; 0: not at all."
    )
    tls_certificate: Path | None = Field(None, description="Certificate chain (PEM) of this process for mutual TLS.")
    tls_key: Path | None = Field(None, description="The key of that certificate (PEM).")
    tls_authority: Path | None = Field(None, description="Whom the other side's certificate must come from (PEM).")
    otlp_endpoint: str = Field("", description="Where traces go, OTLP over gRPC: `http://host:4317`. Default: nowhere.")
    tenant: str = Field("local", description="Who runs the stack: local requests without a key are this tenant's.")
    models_dir: Path = Field(_UNSET, description="The model cache. Default: `HOME/.cache/almanac/models`.")
    models_manifest: Path | None = Field(None, description="Another manifest than the packaged `models.toml`.")
    encoder_model: str = Field("all-MiniLM-L6-v2", description="The encoder of new index generations.")
    catalog_url: str = Field("", description="SQLAlchemy URL of the catalog. Default: SQLite under `home`.")
    vectors_dir: str = Field(
        "",
        description="Where vector files lie: a directory, or a URL such as `s3://bucket/prefix` (install the extra "
        "`s3`; credentials and endpoint as `AWS_*` variables). Default: `home/vectors`.",
    )
    uploads_dir: Path = Field(_UNSET, description="Where uploads wait for ingestion. Default: `home/uploads`.")
    broker_url: str = Field("", description="Redis URL of broker and streams. Default: the embedded Valkey.")
    answer_queues: int = Field(
        8, ge=1, le=64, description="Sub-queues that answers wait in, by tenant; the same for all gateways and workers."
    )
    encoder_address: str = Field("", description="gRPC address of the encoder. Default: a unix socket.")
    retriever_address: str = Field("", description="gRPC address of the retriever. Default: a unix socket.")
    features_address: str = Field("", description="gRPC address of the features node. Default: a unix socket.")
    generator_address: str = Field("", description="gRPC address of the generator. Default: a unix socket.")

    @model_validator(mode="after")
    def _embedded_defaults(self) -> Self:
        home = self.home.resolve()
        defaults: dict[str, object] = {
            "home": home,
            "models_dir": self._or(self.models_dir, Path.home() / ".cache" / "almanac" / "models"),
            "catalog_url": self.catalog_url or f"sqlite:///{home / 'catalog.db'}",
            "vectors_dir": self._vectors(home),
            "uploads_dir": self._or(self.uploads_dir, home / "uploads"),
            "broker_url": self.broker_url or f"unix://{self.run_dir / 'valkey.sock'}",
        }
        for node in ("encoder", "retriever", "features", "generator"):
            name = f"{node}_address"
            defaults[name] = getattr(self, name) or f"unix:{self.run_dir / node}.sock"
        for name, value in defaults.items():
            object.__setattr__(self, name, value)
        return self

    def _vectors(self, home: Path) -> str:
        if "://" in self.vectors_dir:
            return self.vectors_dir
        return str(Path(self.vectors_dir).resolve() if self.vectors_dir else home / "vectors")

    @staticmethod
    def _or(given: Path, default: Path) -> Path:
        return default if given == _UNSET else given.resolve()

    @property
    def run_dir(self) -> Path:
        """Where sockets lie: under `home`, or in a private temporary directory where that path is too long."""
        inside = self.home.resolve() / "run"
        if len(str(inside)) <= _LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(str(inside).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"almanac-{digest}"

    @property
    def celery_broker_url(self) -> str:
        """The broker's URL as Celery's transport spells it."""
        return self.broker_url.replace("unix://", "redis+socket://", 1)

    @property
    def log_dir(self) -> Path:
        return self.home / "logs"
