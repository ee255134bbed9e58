"""How loud a recording is, and what is faint made louder: whoever looks for speech in it has a floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.decode.samples import SAMPLE_RATE

FAINT, USUAL = 0.03, 0.3
"""Robust peak below which a recording is made louder, and what it gets then. The words of one 30 dB below the usual are
all found; 40 dB below the first are missed."""
MOST_GAIN = 1_000.0
NOTHING = 1e-4
"""A peak below it is the rounding of 16 bits, or silence."""
LIVELY = 2.5
"""Speech has moments so many times as loud as its quiet ones; what is as loud all the time is noise."""
STEP = SAMPLE_RATE // 10
FEWEST, MOST = 3, 20
"""Steps that may be louder than the robust peak: clicks, a door, a microphone that is put down."""

_BINS = 400
_PIECE = 2**20


class Level:
    """Counts how loud each tenth of a second is; its memory stays the same for any length."""

    def __init__(self) -> None:
        import numpy as np

        self._counts = np.zeros(_BINS, np.int64)
        self._rest: Any = np.zeros(0, "<f4")

    def add(self, samples: Any) -> None:
        """samples: a flat array of numbers."""
        import numpy as np

        rest = np.concatenate((self._rest, samples))
        whole = len(rest) // STEP * STEP
        loud = np.abs(rest[:whole]).reshape(-1, STEP).max(axis=1)
        places = np.clip(np.log10(loud + 1e-12) * 40 + 360, 0, _BINS - 1).astype(int)  # half a decibel each, from 1e-9
        np.add.at(self._counts, places, 1)
        self._rest = rest[whole:]

    @property
    def gain(self) -> float:
        """What to multiply the recording by."""
        steps = int(self._counts.sum())
        beyond = min(MOST, max(FEWEST, steps // 200), steps // 4)
        robust = self._with_above(beyond)
        quiet = self._with_above(steps - 1 - steps // 10)
        if robust >= FAINT or robust < NOTHING or robust < LIVELY * quiet:
            return 1.0
        return min(MOST_GAIN, USUAL / robust)

    def _with_above(self, steps: int) -> float:
        """The loudness that so many steps exceed."""
        above = 0
        for place in range(_BINS - 1, 0, -1):
            above += int(self._counts[place])
            if above > steps:
                return float(10 ** ((place + 0.5 - 360) / 40))
        return 0.0


def lift(sound: Path, gain: float) -> None:
    """Multiply a file of samples, in pieces; what would be too loud is cut."""
    import numpy as np

    with open(sound, "r+b") as file:
        while piece := file.read(4 * _PIECE):
            louder = np.clip(np.frombuffer(piece, "<f4") * gain, -1, 1).astype("<f4")
            file.seek(-len(piece), 1)
            file.write(louder.tobytes())
