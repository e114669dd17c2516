"""The default generator as vLLM reads it, without a model hub: `python -m tests.fakes.checkpoint DIR` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.common.models import ModelCache, ModelKind, find, load_manifest
from services.common.settings import Settings

MODEL = "SmolLM2-135M-Instruct"


def write_checkpoint(directory: Path) -> Path:
    """The GGUF of the model cache, de-quantized to float32. Raises ModelNotFound where it has not been pulled."""
    source = ModelCache(Path(str(Settings().models_dir))).path(find(load_manifest(), MODEL, ModelKind.GENERATOR))
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file="model.gguf", dtype=torch.float32)
    del model.config.quantization_config
    model.config.save_pretrained(directory)
    weights = {name: one.contiguous() for name, one in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    AutoTokenizer.from_pretrained(source, gguf_file="model.gguf").save_pretrained(directory)
    return directory


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
