"""Jobs that take nothing in: documents are erased, readers rebuilt, generations built and verified."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pipelines.erase import LOG, Eraser
from pipelines.rebuild import Rebuilder
from pipelines.reindex import Builder
from pipelines.verify import Verifier
from services.catalog.erasing import ERASE, REBUILD
from services.catalog.generations import REINDEX, VERIFY
from services.orchestrator.graph.stream import forget
from services.orchestrator.ingesting import Work
from services.orchestrator.runtime import Runtime


def workers(runtime: Runtime) -> Mapping[str, Work]:
    """What works on each kind of job."""
    catalog, readers = runtime.catalog, runtime.readers
    retriever, features = runtime.nodes.retriever, runtime.nodes.features
    eraser = Eraser(
        catalog,
        runtime.pipeline.files,
        readers,
        retriever,
        features,
        partial(forget, runtime.redis),
        runtime.settings.home / LOG,
    )
    return {
        ERASE: eraser.run,
        REBUILD: Rebuilder(catalog, readers, retriever, features).run,
        REINDEX: Builder(catalog, runtime.pipeline.files, runtime.beside, retriever).run,
        VERIFY: Verifier(catalog, runtime.nodes.encoder, retriever, runtime.follower, runtime.beside.share).run,
    }
