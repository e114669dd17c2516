"""LoRA adapters of random weights for SmolLM2-135M, strong enough to change any text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

RANK = 8
SPREAD = 0.1
"""Of the weights. With 0.05 some texts stay as they are."""
LAYERS, HIDDEN, KEY_VALUE = 30, 576, 192
"""9 heads and 3 key-value heads of 64."""

Weights = npt.NDArray[np.float32]


def _layers(seed: int) -> Iterator[tuple[int, str, Weights, Weights]]:
    """Layer, q or v, A (rank, hidden) and B (out, rank)."""
    random = np.random.default_rng(seed)
    for layer in range(LAYERS):
        for name, out in (("q", HIDDEN), ("v", KEY_VALUE)):
            a, b = (random.normal(0, SPREAD, shape).astype(np.float32) for shape in ((RANK, HIDDEN), (out, RANK)))
            yield layer, name, a, b


def write_peft(directory: Path, seed: int) -> str:
    """As PEFT saves it, which vLLM reads."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True)
    weights = {}
    for layer, name, a, b in _layers(seed):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj"
        weights |= {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    save_file(weights, directory / "adapter_model.safetensors")
    modules = ["q_proj", "v_proj"]
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": modules}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return str(directory)


def write_gguf(file: Path, seed: int) -> str:
    """As llama.cpp reads it."""
    from gguf import GGUFWriter

    writer = GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * RANK)
    for layer, name, a, b in _layers(seed):
        writer.add_tensor(f"blk.{layer}.attn_{name}.weight.lora_a", a)
        writer.add_tensor(f"blk.{layer}.attn_{name}.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)
