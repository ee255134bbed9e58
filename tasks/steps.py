"""What jobs do that need no model: sound in another form, and media as it came."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tasks import children, media
from tasks.config import Config
from tasks.decode import Sound, extract
from tasks.errors import StenoboxError
from tasks.jobs import JobKind, Stage
from tasks.running import Running


@dataclass(frozen=True, slots=True)
class Made:
    """What came out. result: name of the file in the job's folder; seconds: length of the recording, None if it was not
    read; notes: sentences about what was; work: seconds it took."""

    result: str
    seconds: float | None
    notes: list[str]
    work: float


def make(config: Config, running: Running, max_seconds: float, on_sound: Callable[[Sound], None]) -> Made:
    """Do a light job's work. on_sound: told of what was found in the recording.

    Raises StenoboxError, ChildDied and Stopped as `decode` and `Running.at` do.
    """
    job = running.job
    source = media.source(config, job.id)
    if not source.is_file():
        raise StenoboxError("media_missing", "The recording is no longer on this box. Send it again.")
    if job.kind == JobKind.DOWNLOAD:
        return Made(source.name, job.source.seconds, [], 0.0)
    assert job.params.format is not None
    result = f"{running.token}.{job.params.format}"
    began = time.monotonic()
    with media.work(config, job.id, running.token) as work:
        sound = extract(
            source,
            work / result,
            job.params.format,
            job.params.bitrate,
            max_seconds,
            track=job.params.track,
            language=job.params.language,
            on_progress=lambda progress: running.at(Stage.DECODE, 0.99 * progress),
            on_start=lambda process: running.on_stop(lambda: children.kill(process)),
        )
        on_sound(sound)
        running.at(Stage.SAVE, 0.99)
        media.settle(work / result, media.result(config, job.id, result))
    return Made(result, sound.seconds, sound.notes, time.monotonic() - began)
