"""Several tracks as one: added up, each at its own time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def added(tracks: list[Iterator[Any]]) -> Iterator[Any]:
    """Arrays whose last axis is time, as long as the longest track. tracks: such arrays, all of one shape otherwise."""
    import numpy as np

    if len(tracks) == 1:
        yield from tracks[0]
        return
    sources, ready = list(tracks), [None for _ in tracks]
    while sources:
        for place in range(len(sources) - 1, -1, -1):
            block: Any = ready[place]
            while block is None or not block.shape[-1]:
                block = next(sources[place], False)
                if block is False:
                    break
            ready[place] = block
            if block is False:
                del sources[place], ready[place]
        if sources:
            blocks: list[Any] = ready
            size = min(block.shape[-1] for block in blocks)
            yield np.sum([block[..., :size] for block in blocks], axis=0, dtype="<f4")
            ready = [block[..., size:] for block in blocks]
