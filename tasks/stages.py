"""Where one attempt is on its way through the stages of its job, in time: how much is left, and how long its bar is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tasks.jobs import Stage
from tasks.journal import SPEECH_SHARE
from tasks.store import Line, StageCosts, StageTimes

ALIGN_PRIOR = 1.5
"""Word times against recognition before any were found here: they took a quarter of it to three times as long."""
UNSEEN = 3.0
"""A language's word times against those of the languages seen here: the large aligners take 2.5 times the small one."""
LEAST_SECONDS = 1.0
"""Nothing is over sooner: the transcript is written, too."""
_TRUSTED = 0.1
"""Of a stage, after which its own pace tells the rest of it."""
_LEAST_PACE = 0.5
"""A recording that is recognized faster than others of its length is aligned faster, too, but who knows how much."""
_SAVING = 0.99
_ENDS = {Stage.DECODE: 0.1, Stage.TRANSCRIBE: 0.8}
"""Of the bar, before any stage was timed here."""
_LEAST_SHARE = 0.02


class Course:
    """Written by the thread that runs the attempt, read by the heartbeat.

    costs: what the stages of other jobs took; first: recognition by length before any job with the model was seen;
    language: a Whisper code, None when it is to be detected; length: of the recording in seconds, None if unknown.
    """

    def __init__(
        self,
        costs: StageCosts,
        first: Line,
        language: str | None,
        length: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._costs, self._first, self._language, self._length, self._clock = costs, first, language, length, clock
        self._stage, self._progress = Stage.DECODE, 0.0
        self._began = self._clock()
        self._mark: tuple[float, float] | None = None  # when it had got how far: from there its own pace counts
        self._recognized: float | None = None  # what all of recognition takes, by its own pace
        self._aligns = True
        self._aligning: float | None = None
        self._starts = {Stage.DECODE: 0.0, Stage.TRANSCRIBE: _ENDS[Stage.DECODE], Stage.ALIGN: _ENDS[Stage.TRANSCRIBE]}
        self._bar = 0.0
        self._decoding = 0.0
        if costs.recognize is not None:
            usual = costs.recognize.longest if length is None else length
            self._divide(usual, 0.0)

    def bar(self, stage: Stage, progress: float) -> float:
        """How long the job's bar is at this point of a stage; it never gets shorter."""
        if stage == Stage.SAVE:
            return _SAVING
        start = self._starts[stage]
        following = {Stage.DECODE: Stage.TRANSCRIBE, Stage.TRANSCRIBE: Stage.ALIGN}.get(stage)
        end = _SAVING if following is None else self._starts[following]
        self._bar = max(self._bar, start + (end - start) * progress)
        return self._bar

    def reach(self, stage: Stage, progress: float) -> float:
        """It works, and has got so far; its bar."""
        if stage != self._stage:
            self._stage, self._began, self._mark = stage, self._clock(), None
        self._progress = progress
        # Finding speech, the first part of recognition, has a pace of its own.
        if self._mark is None and (stage != Stage.TRANSCRIBE or progress >= SPEECH_SHARE):
            self._mark = (self._clock(), progress)
        if stage == Stage.TRANSCRIBE and (own := self._own()) is not None:
            self._recognized = own
        return self.bar(stage, progress)

    def decoded(self, length: float) -> None:
        """The recording is so long."""
        self._decoding = self._clock() - self._began
        self._length = length
        if self._costs.recognize is not None:
            self._divide(length, self._starts[Stage.TRANSCRIBE])

    def aligning(self, language: str, aligns: bool) -> None:
        """The language is known, and whether there is an aligner for it. What came before was no work: a download."""
        self._language, self._aligns = language, aligns
        self._stage, self._progress = Stage.ALIGN, 0.0
        self._aligning = self._began = self._clock()
        self._mark = (self._began, 0.0)

    def times(self, engine_seconds: float, language: str) -> StageTimes:
        """What the stages took, once the engine has answered. engine_seconds: of work, as the engine says."""
        found = self._clock() - self._aligning if self._aligning is not None and self._aligns else None
        recognition = engine_seconds - (found or 0.0)
        return StageTimes(language, self._decoding, recognition if recognition > 0 else None, found)

    @property
    def left(self) -> float | None:
        """Estimated seconds of work left; None as long as nobody knows how long the recording is."""
        length, stage, progress = self._length, self._stage, self._progress
        if length is None:
            return None
        if stage == Stage.ALIGN:
            return max(LEAST_SECONDS, self._rest(self._align(length), progress))
        rest = self._recognize(length)
        if stage == Stage.TRANSCRIBE:
            rest = self._rest(rest, max(0.0, progress - SPEECH_SHARE) / (1 - SPEECH_SHARE))
        elif self._costs.decode is not None:
            rest += self._costs.decode.cost(length) * (1 - progress)
        return max(LEAST_SECONDS, rest + self._align(length))

    def _rest(self, usual: float, done: float) -> float:
        """What is left of a stage that usually takes so long. done: how much of it is, 0..1."""
        usual *= 1 - done
        mark, progress = self._mark, self._progress  # the other thread may move them meanwhile
        if mark is None:
            if self._stage == Stage.TRANSCRIBE and self._costs.recognize is None and progress > 0:
                return max(usual, (self._clock() - self._began) * (1 / progress - 1))
            return usual
        since, start = mark
        own = progress - start
        if own <= 0:
            return usual
        rest = (self._clock() - since) / own * (1 - progress)
        return rest if own >= _TRUSTED * (1 - start) else max(rest, usual)

    def _own(self) -> float | None:
        """All of recognition by its own pace, once that can be told."""
        if self._mark is None:
            return None
        since, start = self._mark
        own = self._progress - start
        if own <= 0 or own < _TRUSTED * (1 - start):
            return None
        return (self._clock() - since) / own * (1 - SPEECH_SHARE) + since - self._began

    def _recognize(self, length: float) -> float:
        return (self._costs.recognize or self._first).cost(length)

    def _align(self, length: float) -> float:
        """All of the word times, by those of other jobs and by how fast this one was recognized."""
        if not self._aligns:
            return 0.0
        usual, own = self._recognize(length), self._recognized
        seen = self._costs.align
        if not seen:
            return ALIGN_PRIOR * (usual if own is None else own)
        if self._language is not None and (line := seen.get(self._language)):
            found = line.cost(length)
        else:
            found = max(line.cost(length) for line in seen.values()) * (1.0 if self._language is None else UNSEEN)
        if own is None or self._costs.recognize is None or usual <= 0:
            return found
        return found * max(_LEAST_PACE, own / usual)

    def _divide(self, length: float, used: float) -> None:
        """Give each stage to come its part of the bar. used: what decoding has had of it, 0 while it is to come."""
        decoding = self._costs.decode.cost(length) if self._costs.decode and not used else 0.0
        recognition, alignment = self._recognize(length), self._align(length)
        whole = decoding + recognition + alignment
        if whole <= 0 or not math.isfinite(whole):
            return
        start = used or min(0.5, max(_LEAST_SHARE, decoding / whole))
        share = min(1 - _LEAST_SHARE, max(_LEAST_SHARE, recognition / (recognition + alignment)))
        self._starts = {
            Stage.DECODE: 0.0,
            Stage.TRANSCRIBE: start,
            Stage.ALIGN: start + (_SAVING - start) * share,
        }
