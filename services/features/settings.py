"""The settings of the features node."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import Settings


class FeaturesSettings(Settings):
    """Adds to the shared settings what the features node alone needs."""

    features_backend: str = Field("feast", description="Where features are kept: feast or memory.")
    features_dir: Path | None = Field(None, description="Where Feast's stores lie. Default: `home/features`.")
    features_online_redis: str = Field(
        "", description="Feast's connection string of a Redis online store, `host:port`. Default: SQLite."
    )
    features_buffer_rows: int = Field(
        65_536,
        ge=4,
        description="Rows of a view that are held in memory before they are merged into sorted runs, which are mapped "
        "from files.",
    )
    features_wait_seconds: float = Field(
        5.0, ge=0, description="How long a read waits at most for the watermark to reach `known_at`."
    )

    @property
    def directory(self) -> Path:
        return self.features_dir or self.home / "features"
