"""A trained checkpoint as a CTranslate2 folder, without a Hugging Face tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from ctranslate2.converters.transformers import _MODEL_LOADERS
from whisper_model import DECODER_LAYERS, Net
from words import BYTES, END, SPECIAL_ID, SPECIALS, TIMESTAMPS, VOCABULARY, make_tokenizer

# CTranslate2 calls a model multilingual from this many vocabulary entries on.
MULTILINGUAL = 51_865
PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "n_samples": 480_000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "sampling_rate": 16_000,
}


def export(checkpoint: Path, folder: Path, quantization: str = "float16") -> None:
    """Write the folder anew: model.bin, config.json, vocabulary.json, tokenizer.json, preprocessor_config.json."""
    net = Net()
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    spec = _MODEL_LOADERS["WhisperConfig"].get_model_spec(net.m.eval())
    tokens = [*sorted(VOCABULARY, key=lambda token: VOCABULARY[token]), *SPECIALS, *TIMESTAMPS]
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [VOCABULARY[BYTES[32]], END]
    spec.config.lang_ids = [SPECIAL_ID["<|en|>"], SPECIAL_ID["<|de|>"]]
    spec.config.alignment_heads = [[layer, 0] for layer in range(DECODER_LAYERS)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    # The embedding needs no more rows than are used, so only the list is filled up with empty entries.
    padded = tokens + [""] * max(0, MULTILINGUAL - len(tokens))
    text = json.dumps(padded, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocabulary.json").write_text(text, encoding="utf-8")
    make_tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
