"""Token counting with an encoder's own tokenizer, without loading the encoder."""

from __future__ import annotations

from pathlib import Path

from pipelines.chunk import CountTokens


def token_counter(model_dir: Path) -> CountTokens:
    """Counts tokens as the encoder whose `tokenizer.json` lies there does, special tokens included, none cut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count_tokens(text: str) -> int:
        # Without offsets, which nobody asked for.
        return len(tokenizer.encode_batch_fast([text])[0])

    return count_tokens
