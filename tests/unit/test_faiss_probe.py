"""An index that ignores selectors is refused before it serves."""

import faiss
import numpy as np
import pytest

from services.common.errors import Unavailable
from services.common.nodes.funnel import DEFAULT, PLAIN, Funnel, Quantization
from services.retriever.backends.base import Definition
from services.retriever.backends.faiss import probe
from services.retriever.backends.faiss.coarse import Codes, FaissKind, make
from services.retriever.settings import RetrieverSettings


class Unbounded(Codes):
    """HNSW as FAISS searches it without its bounded queue: whatever the selector says."""

    def _parameters(self, selector, probed, wanted):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=64, bounded_queue=False)


class Short(Codes):
    def search(self, vectors, allowed, wanted):
        ids, scores = super().search(vectors, allowed, wanted)
        ids[:, 5:] = -1
        return ids, scores


def index_of(kind, quantization=Quantization.NONE):
    return make(kind, Definition(Funnel(quantization=quantization)), probe._points())


@pytest.mark.parametrize(("kind", "quantization"), [("flat", "binary"), ("ivf", "int8"), ("ivf", "binary")])
def test_an_index_that_keeps_to_its_selector_passes(kind, quantization):
    probe.refuse_if_ignored(Codes(index_of(kind, Quantization(quantization)), kind), kind)


def test_an_index_that_ignores_selectors_is_refused():
    with pytest.raises(Unavailable, match="ignores selectors"):
        probe.refuse_if_ignored(Unbounded(index_of("hnsw"), "hnsw"), "hnsw")


def test_an_index_that_finds_too_few_is_refused():
    with pytest.raises(Unavailable, match="too few"):
        probe.refuse_if_ignored(Short(index_of("flat"), "flat"), "flat")


def test_a_device_is_probed_with_the_kind_and_codes_that_are_to_serve(monkeypatch):
    seen = []
    monkeypatch.setattr(probe, "on_device", lambda index, device: seen.append((type(index), device)) or index)
    probe.check_selectors(FaissKind("ivf", "cpu"), DEFAULT)
    assert seen == []
    probe.check_selectors(FaissKind("ivf", "gpu"), DEFAULT)
    probe.check_selectors(FaissKind("flat", "gpu"), PLAIN)
    assert seen == [(faiss.IndexIVFRaBitQ, "gpu"), (faiss.IndexFlat, "gpu")]


def test_a_library_without_a_gpu_says_what_to_do():
    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this FAISS is built for GPUs")
    with pytest.raises(Unavailable, match="faiss-gpu-cuvs"):
        probe.check_selectors(FaissKind("ivf", "gpu"), DEFAULT)


def test_settings_know_two_devices(tmp_path):
    with pytest.raises(ValueError, match="gpu"):
        RetrieverSettings(home=tmp_path, retriever_faiss_device="tpu")
    assert np.isclose(np.linalg.norm(probe._points(), axis=1), 1).all()
