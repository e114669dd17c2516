"""Before an index is served: does its kind keep to selectors on its device?

Classic GPU indexes ignore them without a word, and would return what a moment or a tenant forbids; cuVS builds honour
them. So a tiny index of the same kind is searched under a selector first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from services.common.errors import Unavailable
from services.common.nodes.funnel import Funnel
from services.common.nodes.retriever import Vectors
from services.retriever.backends.base import Definition
from services.retriever.backends.faiss.coarse import Codes, FaissKind, make, on_device
from services.retriever.backends.rows.bits import Bits
from services.retriever.backends.rows.coarse import normalized

_POINTS, _DIMENSIONS, _WANTED = 512, 64, 20


def check_selectors(kind: FaissKind, funnel: Funnel) -> None:
    """Raises Unavailable for an index that returns what is forbidden, or fewer than there are.

    On the CPU nothing is searched: there the library's own tests and ours hold it.
    """
    if kind.device == "cpu":
        return
    plain = Definition(Funnel(quantization=funnel.quantization, rescore=funnel.rescore, accept_loss=True))
    index = on_device(make(kind.option, plain, _points()), kind.device)
    refuse_if_ignored(Codes(index, kind.option), f"{kind.option} on {kind.device}")


def refuse_if_ignored(index: Any, name: str) -> None:
    """index: with `search(vectors, allowed, wanted)` as Coarse has it, over the probe's points."""
    points = _points()
    for share in (2, 20):
        rows = np.arange(1, _POINTS, share)
        forbidden = points[rows - 1]  # asked for what lies right beside the allowed
        allowed = np.isin(np.arange(_POINTS), rows)
        ids, _ = index.search(forbidden, Bits.of(allowed), _WANTED)
        if not allowed[ids[ids >= 0]].all():
            raise Unavailable(
                f"this FAISS ignores selectors ({name}): a search returned ids it was forbidden. Install a build with "
                "cuVS (faiss-gpu-cuvs), or set ALMANAC_RETRIEVER_FAISS_DEVICE=cpu"
            )
        if ((ids >= 0).sum(axis=1) < min(_WANTED, len(rows))).any():
            raise Unavailable(
                f"this FAISS finds too few under a selector ({name}): fewer ids than are allowed. Choose "
                "ALMANAC_RETRIEVER_FAISS_INDEX=ivf or flat, or set ALMANAC_RETRIEVER_FAISS_DEVICE=cpu"
            )


def _points() -> Vectors:
    return normalized(np.random.default_rng(0).standard_normal((_POINTS, _DIMENSIONS), np.float32))
