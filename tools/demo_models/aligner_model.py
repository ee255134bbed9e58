"""The tiny wav2vec2 that finds word times: spikes on a word's first and last frames, learnt from espeak's own times."""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import torch
from espeak import Words
from speech import Pool
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)
from words import CHARACTER_ID, CHARACTERS, RATE

FRAMES = 50  # a second
WINDOWS = (3, 5, 8)  # seconds
LAST_WINDOW = 20  # for the last 15 % of the steps
FULL, QUICK = 3000, 40  # steps


def make_model() -> Wav2Vec2ForCTC:
    return Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(CHARACTERS),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=160,
            conv_dim=[24, 32, 48, 64, 64, 64, 64],
            conv_kernel=[10, 3, 3, 3, 3, 2, 2],
            conv_stride=[5, 2, 2, 2, 2, 2, 2],
            feat_extract_norm="group",
            conv_bias=False,
            num_conv_pos_embeddings=32,
            num_conv_pos_embedding_groups=4,
            do_stable_layer_norm=True,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            final_dropout=0.0,
            layerdrop=0.0,
            apply_spec_augment=False,
            mask_time_prob=0.0,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            ctc_loss_reduction="mean",
            ctc_zero_infinity=True,
        )
    )


def labels(words: Words, frames: int) -> tuple[np.ndarray, list[int]]:
    """Class of every frame, and the characters in order. One spike a character: the first on the word's first frame,
    the last one and then "|" on its last frames."""
    classes = np.zeros(frames, np.int64)
    sequence: list[int] = []
    last = -1
    for word, start, end in words:
        first, behind = round(start * FRAMES), round(end * FRAMES)
        spread = np.round(np.linspace(first, max(first + len(word), behind - 2), len(word))).astype(int)
        places = [*spread, max(spread[-1] + 1, behind - 1)]
        for character, place in zip(word + "|", places, strict=True):
            last = max(place, last + 1)
            if last < frames:
                classes[last] = CHARACTER_ID[character]
            sequence.append(CHARACTER_ID[character])
    return classes, sequence[:-1]


def make_batch(pool: Pool, rng: np.random.Generator, size: int, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sound, class of every frame, characters, and how many of these."""
    samples = window * RATE
    frames = (samples - 400) // 320 + 1
    sound, classes = np.zeros((size, samples), np.float32), np.zeros((size, frames), np.int64)
    sequences = []
    for b in range(size):
        utterance, words, _ = pool.utterance(rng, window, fill=rng.random() < 0.7, english=0.6)
        sound[b, : len(utterance)] = utterance
        classes[b], sequence = labels(words, frames)
        sequences.append(sequence)
    lengths = [len(sequence) for sequence in sequences]
    padded = np.zeros((size, max(lengths)), np.int64)
    for b, sequence in enumerate(sequences):
        padded[b, : len(sequence)] = sequence
    return torch.from_numpy(sound), torch.from_numpy(classes), torch.from_numpy(padded), torch.tensor(lengths)


def train(pool_folder: Path, folder: Path, steps: int, threads: int) -> None:
    """Train on the pool and write the model and its processor into folder, in Hugging Face form."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = make_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    pool, rng = Pool(pool_folder), np.random.default_rng(5)
    batches: queue.Queue[tuple[Tensor, Tensor, Tensor, Tensor]] = queue.Queue(4)

    def feed() -> None:
        for step in range(steps):
            window = WINDOWS[rng.integers(len(WINDOWS))] if step < 0.85 * steps else LAST_WINDOW
            batches.put(make_batch(pool, rng, max(2, 40 // window), window))

    threading.Thread(target=feed, daemon=True).start()
    weights = torch.ones(len(CHARACTERS))
    weights[1:] = 2.0
    began, seen = time.monotonic(), []
    for step in range(steps):
        sound, classes, characters, lengths = batches.get()
        rate = 2e-3 * min(1, (step + 1) / 200) * (1 if step < 0.6 * steps else (1 - step / steps) / 0.4)
        for group in optimizer.param_groups:
            group["lr"] = rate
        scores = functional.log_softmax(model(sound).logits, -1)
        loss = functional.nll_loss(scores.flatten(0, 1), classes.flatten(), weight=weights)
        if step > 0.3 * steps:
            frames = torch.full((len(sound),), scores.shape[1])
            ctc = functional.ctc_loss(scores.transpose(0, 1), characters, frames, lengths, zero_infinity=True)
            loss = loss + 0.1 * ctc
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        spikes = classes > 0
        seen.append(float((scores.argmax(-1)[spikes] == classes[spikes]).float().mean()))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(
                f"aligner {step + 1}/{steps}, {time.monotonic() - began:.0f} s, spikes {np.mean(seen):.3f}", flush=True
            )
            seen = []
    save(model.eval(), folder)


def save(model: Wav2Vec2ForCTC, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps(CHARACTER_ID, ensure_ascii=False), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(
        str(vocabulary),
        unk_token="<unk>",
        pad_token="<pad>",
        word_delimiter_token="|",
        bos_token="<s>",
        eos_token="</s>",
    )
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE, padding_value=0.0, do_normalize=False, return_attention_mask=False
    )
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)
