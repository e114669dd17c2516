"""What the graph talks to: the four nodes and the catalog."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc

from services.catalog.engine import Database
from services.common.clients.encoder import EncoderClient
from services.common.clients.features import FeaturesClient
from services.common.clients.generator import GeneratorClient
from services.common.clients.retriever import RetrieverClient
from services.common.nodes.encoder import Encoder
from services.common.nodes.features import Features
from services.common.nodes.generator import ManagedGenerator
from services.common.nodes.retriever import Retriever
from services.common.rpc.client import channel
from services.common.settings import Settings
from services.orchestrator.graph.patience import Patience
from services.orchestrator.graph.remembering import QuestionVectors


@dataclass(frozen=True, slots=True)
class Nodes:
    """Plain objects behind Protocols: gRPC clients in production, the nodes themselves or fakes in tests."""

    catalog: Database
    encoder: Encoder
    retriever: Retriever
    features: Features
    generator: ManagedGenerator
    channels: tuple[grpc.aio.Channel, ...] = ()
    patience: Patience = field(default_factory=Patience)
    questions: QuestionVectors = field(default_factory=QuestionVectors)

    async def close(self) -> None:
        for line in self.channels:
            await line.close()


def connect(settings: Settings, catalog: Database) -> Nodes:
    """Clients of the nodes at the settings' addresses; call inside the event loop that will use them."""
    names = ("encoder", "retriever", "features", "generator")
    encoder, retriever, features, generator = lines = tuple(
        channel(getattr(settings, f"{name}_address")) for name in names
    )
    return Nodes(
        catalog,
        EncoderClient(encoder),
        RetrieverClient(retriever),
        FeaturesClient(features),
        GeneratorClient(generator),
        lines,
        Patience(settings.patience_seconds),
    )
