"""One channel out of several, so that none of them is lost: mixed, but not where they cancel each other, and without
those that only make noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.decode.samples import SAMPLE_RATE

HOP = SAMPLE_RATE // 2
"""Samples that are judged together, and a frame more."""
FADE = SAMPLE_RATE // 50
"""Samples in which one way of mixing goes over into another."""
MEMORY = 0.1
"""How much of what was heard before counts, half a second later: in a pause it does, beside speech it doesn't."""
CANCELS, ADDS = 0.4, 0.6
"""Energy of the mix against what the same channels give when they have nothing in common. Two voices that have: 1. The
higher one ends what the lower one began."""
STEADY, LIVELY, UNSTEADY = 4.0, 9.0, 8.0
"""Decibels between quiet and loud moments: at most in noise and hum; at least in speech; and what is noise no more."""
MOMENT, MOMENTS = SAMPLE_RATE // 20, 200
"""Samples a moment, and moments that are remembered."""

_SIDE = 2**-0.5
_WEIGHTS = {"FC": 1.0, "FL": _SIDE, "FR": _SIDE, "LFE": 0.0, "LFE2": 0.0}
_OTHERS = 0.5
"""As libav mixes to mono: what stood in the middle of a stereo recording is as loud as it was."""
_FLOOR = 1e-9


def mono(blocks: Iterator[tuple[Any, Any]]) -> Iterator[Any]:
    """Flat arrays of half a second or more out of (layout, array with a row a channel) at SAMPLE_RATE."""
    for mixer, block in _gathered(blocks):
        yield block[0] if mixer is None else mixer.mix(block)


def _gathered(blocks: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Mixer | None, Any]]:
    """In pieces of one layout that are worth the work: a frame may be a hundredth of a second. None for one channel."""
    import numpy as np

    mixer: Mixer | None = None
    seen: Any = None
    waiting: list[Any] = []
    samples = 0
    for layout, block in blocks:
        if layout.name != seen:
            if waiting:
                yield mixer, np.nan_to_num(np.concatenate(waiting, axis=1))
            waiting, samples, seen = [], 0, layout.name
            mixer = Mixer([channel.name for channel in layout.channels]) if len(block) > 1 else None
        waiting.append(block)
        samples += block.shape[1]
        if samples >= HOP:
            yield mixer, np.nan_to_num(np.concatenate(waiting, axis=1))
            waiting, samples = [], 0
    if waiting:
        yield mixer, np.nan_to_num(np.concatenate(waiting, axis=1))


class Mixer:
    """Judges each piece by itself and by what came before; the louder a moment the more it counts."""

    def __init__(self, names: list[str]) -> None:
        import numpy as np

        self._usual = np.array([_WEIGHTS.get(name, _OTHERS) for name in names])
        if not self._usual.any() or names.count("NONE") == len(names):
            self._usual = np.full(len(names), 2 * _SIDE / len(names))
        self._products: Any = np.zeros((len(names), len(names)))
        self._moments: Any = np.zeros((len(names), 0))
        self._noisy: Any = np.zeros(len(names), bool)
        self._alone: int | None = None
        self._weights: Any = None

    def mix(self, block: Any) -> Any:
        import numpy as np

        wide = block.astype(np.float64)
        self._products = MEMORY * self._products + wide @ wide.T
        self._listen_for_noise(wide)
        weights = self._choose()
        before = weights if self._weights is None else self._weights
        mixed = weights @ wide
        if before is not weights and (before != weights).any():
            fade = min(FADE, wide.shape[1])
            share = np.linspace(0, 1, fade, endpoint=False)
            mixed[:fade] = share * mixed[:fade] + (1 - share) * (before @ wide[:, :fade])
        self._weights = weights
        return mixed.astype("<f4")

    def _choose(self) -> Any:
        import numpy as np

        weights = np.where(self._noisy, 0, self._usual)
        if not weights.any():
            weights = self._usual
        energies = self._products.diagonal()
        apart = float(weights**2 @ energies)
        together = float(weights @ self._products @ weights)
        if together >= (CANCELS if self._alone is None else ADDS) * apart:
            self._alone = None
            return weights
        heard = np.where(weights > 0, energies, 0)
        loudest = int(np.argmax(heard))
        if self._alone is None or heard[loudest] > 4 * heard[self._alone]:
            self._alone = loudest
        return np.eye(len(weights))[self._alone]

    def _listen_for_noise(self, block: Any) -> None:
        """A channel that is as loud all the time, beside one that isn't, only covers what that one says."""
        import numpy as np

        whole = block.shape[1] // MOMENT * MOMENT
        if not whole:
            return
        energies = (block[:, :whole].reshape(len(block), -1, MOMENT) ** 2).mean(axis=2)
        self._moments = np.concatenate((self._moments, 10 * np.log10(energies + _FLOOR)), axis=1)[:, -MOMENTS:]
        if self._moments.shape[1] < HOP // MOMENT:
            return
        ordered = np.sort(self._moments, axis=1)
        count = ordered.shape[1]
        quiet, loud = ordered[:, count // 10], ordered[:, count - 1 - count // 20]
        span = loud - quiet
        said = float(loud[span > LIVELY].max(initial=-np.inf))
        steady = (span < STEADY) & (loud > said - 20) & np.isfinite(said)
        self._noisy = steady | (self._noisy & (span < UNSTEADY))
