"""The model of capacity: by hand, and as the command tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.admin.__main__ import app
from services.admin.capacity import Model, PerPassage, PerQuestion, cores, slots, storage
from services.common.errors import InvalidRequest

MIB = 1 << 20


def test_a_key_value_cache_is_two_numbers_for_each_layer_head_and_token() -> None:
    llama = Model(layers=32, kv_heads=8, head_dim=128)
    assert llama.cache_bytes(1) == 128 * 1024
    assert llama.cache_bytes(8192) == 1 << 30
    assert Model(30, 3, 64).cache_bytes(2048) == 2 * 30 * 3 * 64 * 2 * 2048
    assert Model(32, 8, 128, number_bytes=1).cache_bytes(1) == 64 * 1024


@pytest.mark.parametrize("given", [{"num_key_value_heads": 3}, {"head_dim": 64, "num_key_value_heads": 3}])
def test_a_models_shape_is_read_from_its_config(tmp_path: Path, given: dict[str, int]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"num_hidden_layers": 30, "num_attention_heads": 9, "hidden_size": 576, **given}))
    assert Model.read(config) == Model(30, 3, 64)
    config.write_text("{}")
    with pytest.raises(InvalidRequest, match="decoder's shape"):
        Model.read(config)


def test_disk_and_memory_grow_with_the_passages() -> None:
    each = PerPassage(catalog=MIB, vectors=2 * MIB, index=3 * MIB, memory=MIB // 2)
    assert storage(10, each) == {"catalog": 10, "vectors": 20, "index": 30, "memory": 5}


def test_cores_are_the_processor_time_of_a_second_kept_below_full() -> None:
    assert cores(7, 0.7, PerQuestion(0.1, 0.2, 0.3, 0.4, 0.5)) == {
        "gateway": 1.0,
        "worker": 2.0,
        "encoder": 3.0,
        "retriever": 4.0,
        "features": 5.0,
    }


def test_slots_follow_littles_law() -> None:
    assert [slots(rate, seconds, 0.5) for rate, seconds in ((2, 4), (0.001, 1), (1, 0.6))] == [16, 1, 2]


def test_the_command_tells_all_of_it(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128})
    )
    arguments = ["capacity", "--passages", "1000000", "--questions", "1", "--seconds", "5.6", "--config", str(config)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    told = json.loads(done.stdout)
    assert told["storage_mib"] == storage(1_000_000) and told["cores"] == cores(1)
    assert told["generator"] == {"slots": 8, "tokens": 2048, "cache_mib": 8 * 256}
    assert "encoder" in CliRunner().invoke(app, arguments).stdout
