"""What every encoder backend promises, in process and over gRPC."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from services.common.clients.encoder import EncoderClient
from services.common.errors import DeadlineExceeded, Internal, InvalidRequest, ModelNotFound, TooLarge
from services.common.models import PACKAGED, Model, ModelCache, load_manifest
from services.common.nodes.encoder import Encoder, TextKind, Vectors
from services.common.rpc.client import channel
from services.common.rpc.deadlines import deadline
from services.common.rpc.server import start
from services.common.settings import Settings
from services.encoder.backends.memory import HashedWords, MemoryBackend
from services.encoder.encoder import MAX_TEXTS, ModelEncoder, build
from services.encoder.server import EncoderServicer
from services.encoder.settings import EncoderSettings
from services.protos import encoder_pb2 as pb
from services.protos.encoder_pb2_grpc import add_EncoderServicer_to_server
from tests.fakes.encoder import FakeEncoder, encoder_model

NAME = "all-MiniLM-L6-v2"
MODELS = {"memory": NAME, "onnx": NAME, "sentence-transformers": "all-MiniLM-L6-v2-float32"}
"""Every backend, and the model it is tested with."""
QUERY, PASSAGE = TextKind.QUERY, TextKind.PASSAGE
TEXTS = [
    "The river flooded the old town in spring.",
    "In spring, the old town was flooded by the river.",
    "A tenor sings.",
    "Quarterly revenue of the semiconductor maker rose by nine per cent, mostly on memory chips. " * 4,
]


def _pulled(name: str = NAME) -> bool:
    try:
        ModelCache(Path(str(Settings().models_dir))).path(load_manifest()[name])
    except ModelNotFound:
        return False
    return True


def _skip_unless_here(backend: str) -> None:
    """Skips without the backend's libraries or its model; `make test-torch` makes an environment with both."""
    if backend == "sentence-transformers" and find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed: `make test-torch`")
    if backend != "memory" and not _pulled(MODELS[backend]):
        pytest.skip(f"the model is not pulled: `almanac models pull {MODELS[backend]}`")


@pytest.fixture(params=MODELS, scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    _skip_unless_here(request.param)
    return str(request.param)


@pytest.fixture
def name(backend: str) -> str:
    """The model under test."""
    return MODELS[backend]


@pytest.fixture(scope="module")
def node(backend: str) -> Iterator[ModelEncoder]:
    encoder = build(EncoderSettings(encoder_backend=backend, encoder_model=MODELS[backend], encoder_batch_size=3))
    yield encoder
    encoder.close()


@pytest.fixture(params=["in process", "over gRPC"])
async def encoder(request: pytest.FixtureRequest, node: ModelEncoder) -> AsyncIterator[Encoder]:
    if request.param == "in process":
        yield node
        return
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{directory}/encoder.sock"
        register = lambda server: add_EncoderServicer_to_server(EncoderServicer(node), server)  # noqa: E731
        server = await start(address, "almanac.encoder.v1.Encoder", register)
        async with channel(address) as line:
            yield EncoderClient(line)
        await server.stop(None)


async def test_a_row_per_text_of_unit_length_and_the_stated_dimensions(encoder: Encoder, name: str) -> None:
    (model,) = [model for model in await encoder.models() if model.name == name]
    vectors = await encoder.encode(name, PASSAGE, TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), model.dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_give_no_rows(encoder: Encoder, name: str) -> None:
    assert (await encoder.encode(name, QUERY, [])).shape == (0, 384)


async def test_rows_are_in_the_order_asked_and_do_not_depend_on_the_texts_beside_them(
    encoder: Encoder, name: str
) -> None:
    together = await encoder.encode(name, PASSAGE, TEXTS)
    alone = np.concatenate([await encoder.encode(name, PASSAGE, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-4)


async def test_like_texts_are_closer_than_unlike_ones(encoder: Encoder, name: str) -> None:
    vectors = await encoder.encode(name, PASSAGE, TEXTS)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


async def test_a_text_beyond_the_window_is_cut_there(encoder: Encoder, name: str) -> None:
    window = " ".join(["river"] * 254)
    cut, whole = await encoder.encode(name, PASSAGE, [window, f"{window} tenor sings revenue"])
    np.testing.assert_allclose(cut, whole, atol=1e-5)
    shorter, longer = await encoder.encode(name, PASSAGE, ["river", "river tenor sings revenue"])
    assert np.abs(shorter - longer).max() > 0.01


async def test_an_empty_text_and_odd_characters_have_vectors(encoder: Encoder, name: str) -> None:
    vectors = await encoder.encode(name, PASSAGE, ["", " \n", "\x00\u200b", "日本語 🙂"])
    assert np.isfinite(vectors).all()


async def test_a_model_not_served_is_not_found(encoder: Encoder, name: str) -> None:
    with pytest.raises(ModelNotFound, match="does not serve 'other'"):
        await encoder.encode("other", QUERY, ["a"])


async def test_too_many_texts_in_one_call_are_refused(encoder: Encoder, name: str) -> None:
    with pytest.raises(TooLarge, match=str(MAX_TEXTS)):
        await encoder.encode(name, PASSAGE, [""] * (MAX_TEXTS + 1))


async def test_nothing_more_is_encoded_once_the_deadline_has_passed(encoder: Encoder, name: str) -> None:
    await encoder.encode(name, PASSAGE, ["loaded"])
    with pytest.raises(DeadlineExceeded), deadline(0.05):
        await encoder.encode(name, PASSAGE, [f"{number} " * 60 for number in range(2000)])


class Stuck(MemoryBackend):
    """Passages wait until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def load(self, model: Model) -> HashedWords:
        return StuckWords(self.go, model)


class StuckWords(HashedWords):
    def __init__(self, go: threading.Event, model: Model) -> None:
        super().__init__(model.dimensions, model.max_tokens)
        self._go = go

    def embed(self, batch: Sequence[list[str]]) -> Vectors:
        if ["passage"] in batch:
            self._go.wait(10)
        return super().embed(batch)


async def test_a_query_does_not_wait_for_the_passages_before_it() -> None:
    backend = Stuck()
    encoder = ModelEncoder(backend, {NAME: encoder_model()})
    passages = asyncio.create_task(encoder.encode(NAME, PASSAGE, ["passage"]))
    async with asyncio.timeout(5):
        await encoder.encode(NAME, QUERY, ["a question"])
    assert not passages.done()
    backend.go.set()
    assert (await passages).shape == (1, 64)


async def test_a_model_that_gives_other_dimensions_than_its_manifest_is_not_served() -> None:
    class Lying(MemoryBackend):
        def load(self, model: Model) -> HashedWords:
            return HashedWords(model.dimensions + 1, model.max_tokens)

    with pytest.raises(Internal, match="65 dimensions"):
        await ModelEncoder(Lying(), {NAME: encoder_model()}).encode(NAME, QUERY, ["a"])


async def test_a_model_is_loaded_once_however_many_ask() -> None:
    loads: list[str] = []

    class Counting(MemoryBackend):
        def load(self, model: Model) -> HashedWords:
            loads.append(model.name)
            return super().load(model)

    encoder = ModelEncoder(Counting(), {NAME: encoder_model()})
    await asyncio.gather(*(encoder.encode(NAME, QUERY, ["a"]) for _ in range(8)))
    assert loads == [NAME]


async def test_the_fake_serves_models_of_any_name() -> None:
    fake = FakeEncoder("a", "b", dimensions=8)
    assert [(model.name, model.dimensions) for model in await fake.models()] == [("a", 8), ("b", 8)]
    assert (await fake.encode("b", QUERY, ["x"])).shape == (1, 8)


async def test_a_request_without_a_kind_is_refused() -> None:
    servicer = EncoderServicer(build(EncoderSettings(encoder_backend="memory")))
    with pytest.raises(InvalidRequest, match="kind"):
        await servicer.Encode(pb.EncodeRequest(model=NAME, texts=["a"]), None)


async def test_prompts_stand_before_queries_and_passages(tmp_path: Path) -> None:
    encoder = build(EncoderSettings(encoder_backend="memory", models_manifest=_manifest(tmp_path)))
    (query,) = await encoder.encode("prompted", QUERY, ["river"])
    (passage,) = await encoder.encode("prompted", PASSAGE, ["river"])
    plain = await encoder.encode(NAME, QUERY, ["search river", "title river"])
    np.testing.assert_allclose([query, passage], plain, atol=1e-6)


async def test_a_model_that_failed_to_load_is_tried_again(tmp_path: Path) -> None:
    source = ModelCache(Path(str(Settings().models_dir)))
    if not _pulled():
        pytest.skip("the default encoder is not pulled: `almanac models pull`")
    encoder = build(EncoderSettings(models_dir=tmp_path))
    with pytest.raises(ModelNotFound, match="almanac models pull"):
        await encoder.encode(NAME, QUERY, ["a"])
    place = source.path(load_manifest()[NAME])
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / place.name).symlink_to(place)
    assert (await encoder.encode(NAME, QUERY, ["a"])).shape == (1, 384)


async def test_float32_and_int8_of_one_model_agree() -> None:
    _skip_unless_here("sentence-transformers")
    _skip_unless_here("onnx")
    found = []
    for backend in ("onnx", "sentence-transformers"):
        encoder = build(EncoderSettings(encoder_backend=backend, encoder_model=MODELS[backend]))
        found.append(await encoder.encode(MODELS[backend], PASSAGE, [*TEXTS, "What did the tenor sing in 1912?"]))
        encoder.close()
    assert (found[0] * found[1]).sum(axis=1).min() >= 0.999


@pytest.mark.parametrize(("trained", "dimensions"), [("true", 128), ("false", None)])
async def test_leading_dimensions_are_used_alone_only_where_the_manifest_says_so(
    trained: str, dimensions: int | None, tmp_path: Path
) -> None:
    _skip_unless_here("sentence-transformers")
    whole = MODELS["sentence-transformers"]
    packaged = PACKAGED.read_text()
    start = packaged.index(f'name = "{whole}"')
    entry = packaged[start : packaged.index("[[model]]", start)]
    cut = entry.replace("dimensions = 384", "dimensions = 128").replace("matryoshka = false", f"matryoshka = {trained}")
    manifest = tmp_path / "models.toml"
    manifest.write_text("[[model]]\n" + cut)
    settings = EncoderSettings(encoder_backend="sentence-transformers", encoder_model=whole, models_manifest=manifest)
    encoder = build(settings)
    if dimensions is None:
        with pytest.raises(Internal, match="384 dimensions"):
            await encoder.load(whole)
        return
    vectors = await encoder.encode(whole, QUERY, TEXTS)
    assert vectors.shape == (len(TEXTS), dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_backend_whose_libraries_are_missing_says_what_to_install() -> None:
    if find_spec("sentence_transformers") is not None:
        pytest.skip("sentence-transformers is installed")
    with pytest.raises(InvalidRequest, match=r"almanac\[torch\]"):
        build(EncoderSettings(encoder_backend="sentence-transformers"))


def test_a_gpu_that_is_not_there_is_refused() -> None:
    _skip_unless_here("sentence-transformers")
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InvalidRequest, match="finds no GPU"):
        build(EncoderSettings(encoder_backend="sentence-transformers", encoder_device="cuda"))


def test_only_models_the_backend_can_read_are_served() -> None:
    with pytest.raises(InvalidRequest, match="cannot read all-MiniLM-L6-v2-float32"):
        build(EncoderSettings(encoder_models=("all-MiniLM-L6-v2-float32",)))


def test_models_served_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_ENCODER_MODELS", f"{NAME}, all-MiniLM-L6-v2-float32")
    assert EncoderSettings().encoder_models == (NAME, "all-MiniLM-L6-v2-float32")


def _manifest(directory: Path) -> Path:
    """Two entries of the same figures, one with prompts."""
    entry = """
[[model]]
name = "{name}"
kind = "encoder"
licence = "none"
dimensions = 384
max_tokens = 256
query_prompt = "{query}"
passage_prompt = "{passage}"
[[model.files]]
name = "none"
path = "none"
wheel = "none==0"
sha256 = "{zeros}"
"""
    zeros = "0" * 64
    path = directory / "models.toml"
    path.write_text(
        entry.format(name=NAME, query="", passage="", zeros=zeros)
        + entry.format(name="prompted", query="search ", passage="title ", zeros=zeros)
    )
    return path
