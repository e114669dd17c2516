"""An encoder for tests: the real one over hashed words, so nothing is read and nothing is learned."""

from __future__ import annotations

from services.common.models import Model, ModelFile, ModelKind
from services.encoder.backends.memory import MemoryBackend
from services.encoder.encoder import ModelEncoder


def encoder_model(name: str = "all-MiniLM-L6-v2", dimensions: int = 64, max_tokens: int = 256) -> Model:
    """A manifest entry whose files nobody reads."""
    file = ModelFile(name="none", path="none", sha256="0" * 64, wheel="none==0")
    return Model(
        name=name,
        kind=ModelKind.ENCODER,
        licence="none",
        files=(file,),
        dimensions=dimensions,
        max_tokens=max_tokens,
    )


class FakeEncoder(ModelEncoder):
    """Serves models of these names (default: the default encoder's), with `dimensions` each."""

    def __init__(self, *names: str, dimensions: int = 64, max_tokens: int = 256) -> None:
        models = [encoder_model(name, dimensions, max_tokens) for name in names or ("all-MiniLM-L6-v2",)]
        super().__init__(MemoryBackend(), {model.name: model for model in models})
