"""Peaks for a waveform: the loudest sample of each step, in steps that double as the recording grows."""

from __future__ import annotations

import json
from typing import Any

FIRST_STEP = 160
"""Samples at 16 kHz: 100 peaks a second."""
MOST = 60_000
"""Peaks at most: 10 minutes in the first step. Four hours keep four a second, in 200 kB of JSON."""


class Peaks:
    """Takes samples as they come; its memory stays the same for any length."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._step = FIRST_STEP
        self._values = bytearray()
        self._rest: Any = None

    def add(self, samples: Any) -> None:
        """samples: a flat array of floats, -1 to 1."""
        import numpy as np

        rest = samples if self._rest is None else np.concatenate((self._rest, samples))
        while True:
            whole = len(rest) // self._step
            taken = min(whole, MOST - len(self._values))
            steps = rest[: taken * self._step].reshape(taken, self._step)
            self._values += _as_bytes(np.abs(steps).max(axis=1, initial=0))
            rest = rest[taken * self._step :]
            if len(self._values) == MOST:  # an even number: no pair is split
                self._values = bytearray(np.frombuffer(self._values, np.uint8).reshape(-1, 2).max(axis=1).tobytes())
                self._step *= 2
            elif taken == whole:
                break
        self._rest = rest

    def as_json(self) -> bytes:
        """{"seconds_per_peak", "peaks": [0..255, …]}; the last one may stand for less."""
        import numpy as np

        last = _as_bytes(np.abs(self._rest).max(keepdims=True)) if self._rest is not None and len(self._rest) else b""
        peaks = list(bytes(self._values) + last)
        return json.dumps({"seconds_per_peak": self._step / self._rate, "peaks": peaks}, separators=(",", ":")).encode()


def _as_bytes(peaks: Any) -> bytes:
    import numpy as np

    found: bytes = np.rint(np.nan_to_num(peaks).clip(0, 1) * 255).astype(np.uint8).tobytes()
    return found
