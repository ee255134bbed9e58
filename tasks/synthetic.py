"""Whisper models of true dimensions with random weights, made on the spot: what a model costs without its download.

`python -m tasks.synthetic NAME FOLDER` writes a CTranslate2 folder. Time and memory are those of the real model but
for one thing: random weights never say that they are done, so every window of 30 s gets as many tokens as there can
be (448), where speech gets about a hundred. That is the worst case for time, and for memory.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import children
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models import DEMO_FOLDER

ROWS = 51_865
"""Of the multilingual Whisper's table of tokens."""
END = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Size:
    """Layers of the encoder and of the decoder, width, heads."""

    layers: int
    width: int
    heads: int


SIZES = {"tiny": Size(4, 384, 6), "base": Size(6, 512, 8), "small": Size(12, 768, 12), "medium": Size(24, 1024, 16)}


def size_of(name: str) -> Size:
    """Raises StenoboxError for a model whose dimensions are not known here."""
    size = SIZES.get(name.removesuffix(".en"))
    if size is None:
        sentence = f"There are no dimensions of {name} to make it from; there are those of {', '.join(SIZES)}."
        raise StenoboxError("unknown_model", sentence)
    return size


@contextmanager
def synthetic(config: Config, name: str) -> Iterator[Path]:
    """A folder with such a model under the data folder, gone after the block. Raises StenoboxError."""
    size_of(name)
    folder = config.data / "bench" / f"{name}-{time.time_ns()}"
    folder.mkdir(parents=True)
    try:
        child = children.spawn("tasks.synthetic", name, str(folder), env=children.environment(OMP_NUM_THREADS="1"))
        try:
            child.wait()
        finally:
            children.kill(child)
        if child.returncode:
            raise StenoboxError(
                "internal", f"The model could not be made: the child {children.ending(child.returncode)}."
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# The child


def make(size: Size, folder: Path, quantization: str = "int8") -> None:
    """Write model.bin, config.json, vocabulary.json, tokenizer.json and preprocessor_config.json into folder."""
    import torch
    import transformers
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        vocab_size=ROWS,
        num_mel_bins=80,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        d_model=size.width,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        max_source_positions=1500,
        max_target_positions=448,
    )
    tokens: list[str] = json.loads((DEMO_FOLDER / "whisper" / "vocabulary.json").read_bytes())
    # The table wants names that differ; the demo's own are few.
    tokens = [token or f"<|none{number}|>" for number, token in enumerate(tokens)][:ROWS]
    end = tokens.index(END)
    with torch.no_grad():
        net = transformers.WhisperForConditionalGeneration(config).eval()
        spec: Any = _MODEL_LOADERS["WhisperConfig"].get_model_spec(net)
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = [end]  # never the end: the same work whatever the seed
    spec.config.suppress_ids_begin = [end]
    spec.config.lang_ids = [tokens.index("<|en|>"), tokens.index("<|de|>")]
    spec.config.alignment_heads = [[layer, 0] for layer in range(size.layers // 2, size.layers)]
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    for name in ("tokenizer.json", "preprocessor_config.json"):
        shutil.copy(DEMO_FOLDER / "whisper" / name, folder / name)


def main() -> None:
    children.die_with_parent()
    make(size_of(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
