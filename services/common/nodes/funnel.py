"""The funnel: how a generation of the index narrows its points down to the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from services.common.errors import InvalidRequest


class Rotation(StrEnum):
    """What is done before dimensions are cut: nothing for models trained as Matryoshka, PCA for any other."""

    NONE = "none"
    PCA = "pca"


class Quantization(StrEnum):
    """What the coarse codes are: float32, one byte or one bit a dimension."""

    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"


class Fusion(StrEnum):
    """How dense and lexical scores become one: by their distributions, or by reciprocal ranks."""

    DBSF = "dbsf"
    RRF = "rrf"


@dataclass(frozen=True, slots=True)
class Funnel:
    """Coarse codes choose, full vectors rescore, BM25 joins in. Part of what a generation is: it never changes.

    dimensions: of the coarse vectors, 0 for all there are. oversampling: coarse candidates for each item wanted.
    rescore: by the full vectors; coarse codes without it lose much, so that is refused unless `accept_loss` asks for it
    by name. lexical: whether BM25 takes part. candidates: items each stage gives to the fusion, at least.
    Raises InvalidRequest for what makes no sense.
    """

    dimensions: int = 0
    rotation: Rotation = Rotation.NONE
    quantization: Quantization = Quantization.NONE
    oversampling: float = 4.0
    rescore: bool = True
    accept_loss: bool = False
    lexical: bool = True
    fusion: Fusion = Fusion.DBSF
    candidates: int = 100

    def __post_init__(self) -> None:
        if self.dimensions < 0:
            raise InvalidRequest(f"a funnel of {self.dimensions} dimensions; 0 means all there are")
        if not 1.0 <= self.oversampling <= 100.0:
            raise InvalidRequest(f"oversampling is {self.oversampling}; it must be between 1 and 100")
        if not 1 <= self.candidates <= 1_000:
            raise InvalidRequest(f"candidates is {self.candidates}; it must be between 1 and 1000")
        if self.rotation is not Rotation.NONE and not self.dimensions:
            raise InvalidRequest("a rotation without fewer dimensions changes nothing; name the dimensions to keep")
        if self.coarse and not self.rescore and not self.accept_loss:
            raise InvalidRequest(
                "coarse codes without rescoring lose much of the recall; let full vectors rescore, or ask for the loss "
                "by name (accept_loss)"
            )

    @property
    def coarse(self) -> bool:
        """Whether anything coarser than the full vectors chooses."""
        return bool(self.dimensions) or self.quantization is not Quantization.NONE

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises InvalidRequest for a name that is none."""
        try:
            named = {
                "rotation": Rotation(data.get("rotation", Rotation.NONE)),
                "quantization": Quantization(data.get("quantization", Quantization.NONE)),
                "fusion": Fusion(data.get("fusion", Fusion.DBSF)),
            }
            return cls(**{**data, **named})
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"no such funnel: {error}") from None


PLAIN = Funnel()
"""Full vectors alone, searched exhaustively or through their graph, beside BM25."""

DEFAULT = Funnel(quantization=Quantization.BINARY)
"""What the first generation has: one bit a dimension chooses, full vectors rescore."""
