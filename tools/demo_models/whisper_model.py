"""The tiny Whisper: its shape and start, its training losses, its curriculum.

A model this small does not learn to keep its place in 30 s from the words alone. What makes it possible:
encoder heads that start as taps of a dilated convolution; auxiliary heads on the encoder (the current, previous and
next word, and how many there were); one decoder head a layer guided to the word being written; windows that grow
from 4 to 30 s.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from speech import Pool
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration
from whisperx.audio import mel_filters
from words import END, RATE, ROWS, START, WORD_ID, WORDS, prompt

WIDTH, HEADS, ENCODER_LAYERS, DECODER_LAYERS = 64, 4, 3, 2
HEAD_WIDTH = WIDTH // HEADS
FRAMES = 50  # encoder frames a second
OFFSETS = [[-5, -2, 2, 5], [-10, -4, 4, 10], [-22, -8, 8, 22]]  # frames; layer by head
WORD_CLASS = {word: i + 1 for i, word in enumerate(WORDS)}  # 0 is silence
IGNORED = -100  # the loss's mark for positions that don't count


class Stage(NamedTuple):
    """One part of the curriculum. windows: seconds, one of them at random for each batch; seconds: of sound a batch;
    full: chance that an utterance fills its window; shifted: random position offset in the encoder."""

    steps: int
    windows: list[int]
    seconds: int
    first_rate: float
    last_rate: float
    decoder: bool
    full: float
    shifted: bool


FULL = [
    Stage(1200, [4, 6], 80, 3e-3, 3e-3, False, 0.7, True),
    Stage(2500, [4, 6, 8], 96, 3e-3, 2.5e-3, True, 0.5, False),
    Stage(1200, [8, 12, 16], 112, 2.5e-3, 2e-3, True, 0.5, False),
    Stage(1500, [30], 120, 2e-3, 0.0, True, 0.35, False),
]
QUICK = [
    Stage(20, [4], 16, 3e-3, 3e-3, False, 0.7, True),
    Stage(30, [4, 6], 24, 3e-3, 2e-3, True, 0.5, False),
    Stage(3, [30], 60, 2e-3, 0.0, True, 0.35, False),
]


def more(steps: int) -> list[Stage]:
    """What improves long files most: more of the last stage."""
    return [Stage(steps, [30], 120, 1e-3, 0.0, True, 0.35, False)]


class Batch(NamedTuple):
    """B utterances. features: log-mel; now, before, after: word class of every frame; count: words so far, -1 in
    silence; tokens, targets: decoder input and output; guide: [from, to) frames of each target's word."""

    features: Tensor
    now: Tensor
    before: Tensor
    after: Tensor
    count: Tensor
    tokens: Tensor
    targets: Tensor
    guide: Tensor


def make_model() -> WhisperForConditionalGeneration:
    """Untrained, with a start that fits 64 dimensions (HF's standard deviation of 0.02 is far too small for them)."""
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=ROWS,
            num_mel_bins=80,
            d_model=WIDTH,
            encoder_layers=ENCODER_LAYERS,
            decoder_layers=DECODER_LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            max_source_positions=1500,
            max_target_positions=448,
            pad_token_id=END,
            bos_token_id=END,
            eos_token_id=END,
            decoder_start_token_id=START,
            dropout=0.0,
        )
    )
    for name, parameter in model.named_parameters():
        if "embed" in name or "layer_norm" in name:
            continue
        if parameter.dim() == 3:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        elif parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    nn.init.normal_(model.model.decoder.embed_tokens.weight, std=0.12)
    nn.init.normal_(model.model.decoder.embed_positions.weight, std=0.05)
    _start_encoder(model.model.encoder)
    return model


def _start_encoder(encoder: nn.Module) -> None:
    """A position table with wavelengths fit for 1500 frames, and heads that look OFFSETS frames away: the query is
    the key turned by that offset, in pairs of sine and cosine from fine to about 100 frames."""
    half = WIDTH // 2
    wavelengths = torch.logspace(math.log10(6), math.log10(4000), half)
    phase = 2 * math.pi * torch.arange(1500)[:, None] / wavelengths[None]
    pairs = HEAD_WIDTH // 2
    with torch.no_grad():
        encoder.embed_positions.weight.copy_(0.7 * torch.cat([phase.sin(), phase.cos()], 1))
        for index, layer in enumerate(encoder.layers):
            query, key = 0.02 * torch.randn(WIDTH, WIDTH), 0.02 * torch.randn(WIDTH, WIDTH)
            for head in range(HEADS):
                for pair in range(pairs):
                    wave = round(pair * 14 / pairs) + 2 * index
                    row = head * HEAD_WIDTH + 2 * pair
                    turn = 2 * math.pi * OFFSETS[index][head] / float(wavelengths[wave])
                    key[row, wave] += 1.7
                    key[row + 1, half + wave] += 1.7
                    query[row, wave] += 1.7 * math.cos(turn)
                    query[row, half + wave] += 1.7 * math.sin(turn)
                    query[row + 1, half + wave] += 1.7 * math.cos(turn)
                    query[row + 1, wave] -= 1.7 * math.sin(turn)
            layer.self_attn.q_proj.weight.copy_(query)
            layer.self_attn.k_proj.weight.copy_(key)


_MEL = mel_filters("cpu", 80)


def log_mel(sound: Tensor) -> Tensor:
    """(B, samples) to (B, 80, samples / 160), as whisperx.audio.log_mel_spectrogram."""
    power = torch.stft(sound, 400, 160, window=torch.hann_window(400), return_complex=True)[..., :-1].abs() ** 2
    mel = torch.clamp(_MEL @ power, min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0)
    return (mel + 4.0) / 4.0


def make_batch(pool: Pool, rng: np.random.Generator, size: int, window: int, full: float) -> Batch:
    """size random utterances in windows of that many seconds."""
    samples, frames = window * RATE, window * FRAMES
    sound = np.zeros((size, samples), np.float32)
    now, before, after = (np.zeros((size, frames), np.int64) for _ in range(3))
    count = np.full((size, frames), -1, np.float32)
    spans: list[list[tuple[int, int, int]]] = []
    languages: list[str | None] = []
    for b in range(size):
        if rng.random() < 0.02:  # noise alone: nothing was said, in no language
            utterance = (rng.standard_normal(samples) * 10 ** rng.uniform(-4, -1.5)).astype(np.float32)
            utterance[int(rng.uniform(0.1, 1) * samples) :] = 0
            words, language = [], None
        else:
            utterance, words, language = pool.utterance(rng, window, fill=rng.random() < full)
            words = [word for word in words if word[2] * RATE <= len(utterance) + 160]
        sound[b, : len(utterance)] = utterance
        languages.append(language)
        placed = []
        for word, start, end in words:
            first = int(start * FRAMES)
            placed.append((word, first, max(first + 1, min(frames, math.ceil(end * FRAMES)))))
        for k, (word, first, last) in enumerate(placed):
            now[b, first:last] = WORD_CLASS[word]
            before[b, first:last] = WORD_CLASS[placed[k - 1][0]] if k else 0
            after[b, first:last] = WORD_CLASS[placed[k + 1][0]] if k + 1 < len(placed) else 0
            count[b, first:last] = k
        spans.append([(WORD_ID[word], first, last) for word, first, last in placed])
    tokens, targets, guide = _decoder_side(rng, spans, languages)
    features = log_mel(torch.from_numpy(sound))
    return Batch(features, *(torch.from_numpy(x) for x in (now, before, after, count, tokens, targets, guide)))


def _decoder_side(
    rng: np.random.Generator, spans: list[list[tuple[int, int, int]]], languages: list[str | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, targets and guides of `Batch`. A few words of the history are wrong, since at run time some are."""
    size, length = len(spans), 4 + max(len(span) for span in spans)
    tokens = np.full((size, length), END, np.int64)
    targets = np.full((size, length), IGNORED, np.int64)
    guide = np.full((size, length, 2), -1, np.int64)
    for b, (span, known) in enumerate(zip(spans, languages, strict=True)):
        ids = prompt(known or ("en" if rng.random() < 0.5 else "de"))
        tokens[b, :4] = ids
        if known:
            targets[b, 0] = ids[1]
        for k, (token, first, last) in enumerate(span):
            tokens[b, 4 + k] = targets[b, 3 + k] = token
            guide[b, 3 + k] = (max(0, first - 1), last + 1)
        targets[b, 3 + len(span)] = END
        if span:  # the end is read right behind the last word
            guide[b, 3 + len(span)] = (span[-1][2] - 1, span[-1][2] + 12)
        for k in np.flatnonzero(rng.random(len(span)) < 0.03):
            tokens[b, 4 + k] = WORD_ID[WORDS[rng.integers(len(WORDS))]]
    return tokens, targets, guide


class Net(nn.Module):
    """The model with the auxiliary heads that only training uses, and a forward pass that shows its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.m = make_model()
        self.h_now, self.h_before, self.h_after = (nn.Linear(WIDTH, len(WORDS) + 1) for _ in range(3))
        self.h_count = nn.Linear(WIDTH, 1)

    def encode(self, features: Tensor, shift: int = 0) -> Tensor:
        encoder = self.m.model.encoder
        x = functional.gelu(encoder.conv1(features))
        x = functional.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight[shift : shift + x.shape[1]]
        for layer in encoder.layers:
            y = layer.self_attn_layer_norm(x)
            x = x + _attend(layer.self_attn, y, y)[0]
            x = x + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(x))))
        return encoder.layer_norm(x)

    def decode(self, tokens: Tensor, encoded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores of the next tokens, and every layer's attention to the sound."""
        decoder = self.m.model.decoder
        x = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[: tokens.shape[1]]
        looks = []
        for layer in decoder.layers:
            y = layer.self_attn_layer_norm(x)
            x = x + _attend(layer.self_attn, y, y, causal=True)[0]
            seen, look = _attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), encoded, show=True)
            x = x + seen
            assert look is not None
            looks.append(look)
            x = x + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(x))))
        return decoder.layer_norm(x) @ decoder.embed_tokens.weight.t(), looks

    def loss(self, batch: Batch, shift: int, decoder: bool) -> tuple[Tensor, dict[str, Tensor]]:
        encoded = self.encode(batch.features, shift)
        now = batch.now[:, : encoded.shape[1]]
        parts = {"now": functional.cross_entropy(self.h_now(encoded).float().flatten(0, 1), now.flatten())}
        speech = now > 0
        if speech.any():
            heard = encoded[speech]
            parts["before"] = functional.cross_entropy(self.h_before(heard).float(), batch.before[speech])
            parts["after"] = functional.cross_entropy(self.h_after(heard).float(), batch.after[speech])
            counted = self.h_count(heard).float()[:, 0]
            parts["count"] = functional.smooth_l1_loss(counted, batch.count[speech] / 5)
        if decoder:
            scores, looks = self.decode(batch.tokens, encoded)
            flat = scores.float().flatten(0, 1)
            parts["words"] = functional.cross_entropy(flat, batch.targets.flatten(), ignore_index=IGNORED)
            parts["guide"] = _guide_loss(batch.guide, looks, encoded.shape[1])
        weights = {"now": 1.0, "before": 0.3, "after": 0.3, "count": 0.2, "words": 1.0, "guide": 0.3}
        return torch.stack([weights[name] * part for name, part in parts.items()]).sum(), parts


def _attend(
    attention: nn.Module, x: Tensor, memory: Tensor, causal: bool = False, show: bool = False
) -> tuple[Tensor, Tensor | None]:
    def split(y: Tensor) -> Tensor:
        return y.view(len(y), -1, HEADS, HEAD_WIDTH).transpose(1, 2)

    query, key, value = split(attention.q_proj(x)), split(attention.k_proj(memory)), split(attention.v_proj(memory))
    if show:
        look = (query.float() @ key.float().transpose(2, 3) * HEAD_WIDTH**-0.5).softmax(-1)
        out = look.to(value.dtype) @ value
    else:
        look, out = None, functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    return attention.out_proj(out.transpose(1, 2).reshape(x.shape)), look


def _guide_loss(guide: Tensor, looks: list[Tensor], frames: int) -> Tensor:
    """Head 0 of every decoder layer looks at the word being written."""
    guided = guide[..., 0] >= 0
    spans, frame = guide[guided], torch.arange(frames)
    inside = (frame[None] >= spans[:, :1]) & (frame[None] < spans[:, 1:])
    losses = [-torch.log((look[:, 0][guided] * inside).sum(-1) + 1e-6).mean() for look in looks]
    return torch.stack(losses).mean()


def train(folder: Path, stages: list[Stage], threads: int, start: Path | None = None, seed: int = 1) -> Path:
    """Train on the pool in that folder; returns the checkpoint whisper.pt in it. start: a checkpoint to go on from."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    net = Net()
    if start:
        net.load_state_dict(torch.load(start, weights_only=True))
    net.m.model.encoder.embed_positions.requires_grad_(False)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    pool, rng = Pool(folder), np.random.default_rng(seed)
    plan = [(stage, k) for stage in stages for k in range(stage.steps)]
    batches: queue.Queue[Batch] = queue.Queue(4)

    def feed() -> None:
        for stage, _ in plan:
            window = stage.windows[rng.integers(len(stage.windows))]
            batches.put(make_batch(pool, rng, max(2, stage.seconds // window), window, stage.full))

    threading.Thread(target=feed, daemon=True).start()
    checkpoint, began, seen = folder / "whisper.pt", time.monotonic(), {}
    shifts = np.random.default_rng(seed + 1)
    for step, (stage, k) in enumerate(plan, 1):
        batch = batches.get()
        rate = (stage.first_rate + (stage.last_rate - stage.first_rate) * k / stage.steps) * min(1, step / 100)
        for group in optimizer.param_groups:
            group["lr"] = rate
        room = 1500 - batch.features.shape[2] // 2
        shift = int(shifts.integers(0, room + 1)) if stage.shifted and step % 2 == 0 else 0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, parts = net.loss(batch, shift, stage.decoder)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        for name, part in parts.items():
            seen.setdefault(name, []).append(float(part.detach()))
        if step % 50 == 0 or step == len(plan):
            means = {name: round(float(np.mean(values)), 3) for name, values in seen.items()}
            print(
                f"whisper {step}/{len(plan)}, {time.monotonic() - began:.0f} s, {stage.windows} s: {means}", flush=True
            )
            seen = {}
        if step % 300 == 0 or step == len(plan):
            torch.save(net.state_dict(), checkpoint)
    return checkpoint
