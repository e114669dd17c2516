"""Models of other families than BERT's, made here with random weights, as sentence-transformers saves them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed: `make test-torch`")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
)

from services.common.models import Model, ModelCache
from services.common.nodes.encoder import TextKind
from services.encoder.backends.sentence_transformers import SentenceTransformersBackend
from services.encoder.encoder import ModelEncoder

TASK = "find the passage that answers query : "
TEXTS = ["river", "the river town spring flood", "tenor sings opera the the the the the the the"]
WORDS = " ".join([TASK, *TEXTS]).split()


def tokenizer() -> PreTrainedTokenizerFast:
    """Words, padded on the left and ended by a token of their own, as Qwen's embedding models do."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[END]", "[UNK]", *dict.fromkeys(WORDS)])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="$A [END]", special_tokens=[("[END]", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", eos_token="[END]", unk_token="[UNK]", padding_side="left"
    )


@pytest.fixture(scope="module", params=["bert", "roberta"])
def reader_of_words(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose tokens all see each other, and whose mean is the vector, 48 dimensions."""
    torch.manual_seed(7)
    base, place = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp(request.param)
    sizes = {"vocab_size": 64, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
    made = {
        "bert": lambda: BertModel(BertConfig(**sizes, num_attention_heads=4, pad_token_id=0)),
        "roberta": lambda: RobertaModel(RobertaConfig(**sizes, num_attention_heads=4, pad_token_id=0)),
    }[request.param]()
    made.save_pretrained(base)
    tokenizer().save_pretrained(base)
    modules = [Transformer(str(base)), Pooling(48, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(place))
    return place


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose last token is the vector, 48 dimensions."""
    torch.manual_seed(7)
    base, place = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("decoder")
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
    )
    Qwen3Model(config).save_pretrained(base)
    tokenizer().save_pretrained(base)
    transformer = Transformer(str(base))
    SentenceTransformer(modules=[transformer, Pooling(48, "lasttoken"), Normalize()], device="cpu").save(str(place))
    return place


def encoder(place: Path, cache: Path, **entry: object) -> ModelEncoder:
    """Serves the model as `qwen`, pulled from its directory into the cache."""
    names = [str(path.relative_to(place)) for path in sorted(place.rglob("*")) if path.is_file()]
    files = [
        {
            "name": name,
            "path": name,
            "directory": place,
            "sha256": hashlib.sha256((place / name).read_bytes()).hexdigest(),
        }
        for name in names
    ]
    given = {"name": "qwen", "kind": "encoder", "licence": "none", "dimensions": 48, "max_tokens": 16, "files": files}
    model = Model.model_validate({**given, **entry})
    ModelCache(cache).pull(model)
    backend = SentenceTransformersBackend(ModelCache(cache), "cpu", 0)
    assert backend.reads(model)
    return ModelEncoder(backend, {"qwen": model})


async def test_a_decoder_padded_on_the_left_gives_each_text_the_vector_it_has_alone(
    decoder: Path, tmp_path: Path
) -> None:
    node = encoder(decoder, tmp_path)
    together = await node.encode("qwen", TextKind.PASSAGE, TEXTS)
    plain = SentenceTransformer(str(decoder), device="cpu", local_files_only=True)
    np.testing.assert_allclose(together, [plain.encode(text) for text in TEXTS], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01


async def test_texts_packed_into_common_rows_have_the_vectors_they_have_alone(
    reader_of_words: Path, tmp_path: Path
) -> None:
    node = encoder(reader_of_words, tmp_path, max_tokens=128)
    assert (await node.load("qwen")).packs
    texts = [" ".join((WORDS * 20)[start : start + size]) for start, size in enumerate([1, 90, 4, 127, 30, 30, 2, 60])]
    together = await node.encode("qwen", TextKind.QUERY, texts)
    plain = SentenceTransformer(str(reader_of_words), device="cpu", local_files_only=True)
    np.testing.assert_allclose(together, [plain.encode(text) for text in texts], atol=1e-5)
    assert np.abs(together[0] - together[2]).max() > 0.01


async def test_a_model_whose_tokens_see_only_those_before_them_is_not_packed(decoder: Path, tmp_path: Path) -> None:
    assert not (await encoder(decoder, tmp_path).load("qwen")).packs


async def test_an_instruction_stands_before_queries_alone(decoder: Path, tmp_path: Path) -> None:
    node = encoder(decoder, tmp_path, query_prompt=TASK)
    (query,) = await node.encode("qwen", TextKind.QUERY, ["river"])
    passages = await node.encode("qwen", TextKind.PASSAGE, [TASK + "river", "river"])
    np.testing.assert_allclose(query, passages[0], atol=1e-5)
    assert np.abs(query - passages[1]).max() > 0.01


async def test_the_window_counts_the_tokens_the_model_adds(decoder: Path, tmp_path: Path) -> None:
    node = encoder(decoder, tmp_path, max_tokens=4)
    cut, whole = await node.encode("qwen", TextKind.PASSAGE, ["river town spring", "river town spring flood opera"])
    np.testing.assert_allclose(cut, whole, atol=1e-5)


async def test_a_matryoshka_models_leading_dimensions_are_of_unit_length(decoder: Path, tmp_path: Path) -> None:
    whole = await encoder(decoder, tmp_path).encode("qwen", TextKind.PASSAGE, TEXTS)
    cut = await encoder(decoder, tmp_path, matryoshka=True, dimensions=16).encode("qwen", TextKind.PASSAGE, TEXTS)
    leading = whole[:, :16]
    np.testing.assert_allclose(cut, leading / np.linalg.norm(leading, axis=1, keepdims=True), atol=1e-5)


async def test_texts_are_read_once_where_the_tokenizer_gives_what_the_models_own_reading_gives(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = encoder(decoder, tmp_path)
    await node.load("qwen")
    monkeypatch.setattr(SentenceTransformer, "preprocess", None)
    assert (await node.encode("qwen", TextKind.PASSAGE, TEXTS)).shape == (3, 48)


async def test_a_model_that_reads_texts_in_its_own_way_goes_on_doing_so(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = SentenceTransformer.preprocess

    def reversed_words(self: SentenceTransformer, texts: list[str], **given: object) -> object:
        return own(self, [" ".join(reversed(text.split())) for text in texts], **given)

    backwards = await encoder(decoder, tmp_path).encode("qwen", TextKind.PASSAGE, ["the river town"])
    monkeypatch.setattr(SentenceTransformer, "preprocess", reversed_words)
    vectors = await encoder(decoder, tmp_path).encode("qwen", TextKind.PASSAGE, ["town river the"])
    np.testing.assert_allclose(vectors, backwards, atol=1e-5)
