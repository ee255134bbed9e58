"""Hostile bytes in, 16 kHz mono sound out: one short-lived child a job.

The child opens the file through PyAV with whitelists (without them a text named .mp3 reads other files on the disk
or dials out), under limits on memory, CPU, files and length, and writes little-endian float32 samples as it goes,
so that its own memory stays the same for any length.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import children, logs
from tasks.errors import StenoboxError

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 4

FORMATS = "wav,mp3,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,flac,aac,aiff,asf,avi,flv,mpegts,caf,amr,w64"
"""Containers of real media. Playlists, concat scripts and session descriptions, which name other files, are not."""

_TELLING = ("flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aiff", "caf", "w64")
"""Containers whose header says how long the sound is; for the others libav only estimates."""

MEMORY_BYTES = 3 * 1024**3
UNDECODABLE = (
    "This file can't be read as a recording: it is damaged, incomplete or not audio or video. "
    "Check that it plays, or convert it to MP3, M4A or WAV and send it again."
)


@dataclass(frozen=True, slots=True)
class Sound:
    """What came out. seconds: length in samples / 16,000; damaged: parts of the file could not be read; peak: bytes of
    memory that reading it took."""

    seconds: float
    format: str
    codec: str
    channels: int
    sample_rate: int
    damaged: bool
    peak: int


def decode(
    source: Path,
    target: Path,
    max_seconds: float,
    *,
    on_progress: Callable[[float], None] = lambda _: None,
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
) -> Sound:
    """Decode source into target, which gets 64,000 bytes a second. on_start receives the child, to end it.

    Raises StenoboxError undecodable, no_audio, too_long, timed_out or disk_full, and ChildDied when it was killed.
    """
    deadline = 120 + max_seconds / 10  # decoding runs at 30 to 300 times real time
    kills = children.KillWatch()
    process = children.spawn(
        "tasks.decode",
        json.dumps([str(source), str(target), max_seconds, deadline]),
        env=children.environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        children.kill(process)

    timer = threading.Timer(deadline, give_up)
    timer.daemon = True
    timer.start()
    answer: dict[str, Any] = {}
    try:
        on_start(process)
        for line in process.stdout:
            if not line.endswith(b"\n"):  # torn: it was killed while it spoke
                break
            answer = json.loads(line)
            if "progress" in answer:
                on_progress(answer["progress"])
    finally:
        timer.cancel()
        process.stdout.close()
        children.stop(process)
    if late.is_set() or process.returncode == -signal.SIGXCPU:
        raise StenoboxError("timed_out", f"Reading the file took longer than {deadline:.0f} s and was stopped.")
    if "sound" in answer:
        return Sound(**answer["sound"])
    if "error" in answer:
        raise StenoboxError(*answer["error"])
    ending = children.ending(process.returncode)
    if "crashed" in ending:
        raise StenoboxError("undecodable", f"The decoder {ending} on this file. {UNDECODABLE}")
    raise children.ChildDied("decoder", ending, kills.cause(process.returncode))


# The child


def main() -> None:
    children.die_with_parent()
    logs.begin("decode")
    source, target, max_seconds, deadline = json.loads(sys.argv[1])
    _limit(max_seconds, deadline)
    try:
        sound = _decode(Path(source), Path(target), max_seconds)
    except StenoboxError as error:
        _say(error=[error.code, error.message])
    except MemoryError:
        _say(error=["undecodable", f"Reading this file needs more memory than it may take. {UNDECODABLE}"])
    except OSError as error:  # some of av's own errors are OSErrors too
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = "The disk filled up while this file was read. Free some space and try again."
        _say(error=["disk_full", message] if full else ["undecodable", UNDECODABLE])
    except Exception:  # what libav makes of a broken header: ValueError, IndexError, … A retry would end the same way
        logging.getLogger(__name__).warning("job %s: can't be read", Path(source).parent.name, exc_info=True)
        _say(error=["undecodable", UNDECODABLE])
    else:
        _say(sound=asdict(sound))


def _limit(max_seconds: float, deadline: float) -> None:
    cpu = int(deadline)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = int((max_seconds + 60) * BYTES_PER_SECOND)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if sys.platform == "linux":  # macOS has the constant and no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def _decode(source: Path, target: Path, max_seconds: float) -> Sound:
    import av

    av.logging.set_level(av.logging.PANIC)
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        container = av.open(str(source), options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError):
        raise StenoboxError("undecodable", UNDECODABLE) from None
    with container, open(target, "wb") as file:
        if not container.streams.audio:
            raise StenoboxError(
                "no_audio", "This file has no sound: there is no audio track in it. Send a recording with sound."
            )
        stream = container.streams.best("audio") or container.streams.audio[0]
        duration = (container.duration or 0) / 1e6
        if duration > max_seconds * 2:  # a header can lie a little; a clear excess needs no decoding
            raise _too_long(max_seconds)
        samples, told = 0, 0
        damage: list[str] = []
        for block in _mono_16k(container, stream, damage):
            file.write(block)
            samples += len(block) // 4
            if samples > max_seconds * SAMPLE_RATE:
                raise _too_long(max_seconds)
            percent = int(100 * min(1.0, samples / SAMPLE_RATE / duration)) if duration else 0
            if percent > told:
                told = percent
                _say(progress=percent / 100)
        if not samples:
            raise StenoboxError("undecodable", UNDECODABLE)
        context = stream.codec_context
        return Sound(
            seconds=samples / SAMPLE_RATE,
            format=container.format.name,
            codec=context.name,
            channels=context.channels,
            sample_rate=context.sample_rate,
            peak=_peak(),
            damaged=bool(damage) or _cut_short(container, stream, source, samples / SAMPLE_RATE),
        )


def _peak() -> int:
    """The most memory this process has held, in bytes."""
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Not on Linux, where this begins with what the parent held when it started us.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _too_long(max_seconds: float) -> StenoboxError:
    most = f"{max_seconds / 60:.0f} minutes" if max_seconds >= 120 else f"{max_seconds:.0f} seconds"
    return StenoboxError(
        "too_long",
        f"The recording is longer than {most}, the most this box takes. "
        "Cut it into parts, or ask the operator to raise the limit on the Limits page.",
    )


def _cut_short(container: Any, stream: Any, source: Path, seconds: float) -> bool:
    """Whether clearly less sound came out than the file's own header promises, as after an interrupted transfer."""
    name = container.format.name
    if name == "wav":  # libav believes the file's size instead; recorders that stream claim 0, 2 or 4 GB
        with open(source, "rb") as file:
            claimed = int.from_bytes(file.read(8)[4:], "little") + 8
        return source.stat().st_size + 1024 < claimed < 2**31 - 2**16
    if name not in _TELLING and not (name == "mp3" and container.start_time):  # an MP3 with LAME's header
        return False
    if stream.duration:
        promised = float(stream.duration * stream.time_base)
    else:  # the whole file's length; a picture may go on after the sound
        promised = (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0
    return promised - seconds > max(0.5, promised / 100)


def _mono_16k(container: Any, stream: Any, damage: list[str]) -> Iterator[bytes]:
    """Blocks of float32 samples. What can't be read is left out and noted in damage, as players do."""
    import av

    resampler, shape = None, None
    for frame in _frames(container, stream, damage):
        seen = (frame.format.name, frame.layout.name, frame.sample_rate)
        if seen != shape:  # a stream may change its shape; a resampler may not
            if resampler is not None:
                yield from _blocks(resampler, None)
            else:
                yield from _lead_in(container, frame)
            resampler, shape = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE), seen
        frame.pts = None  # timestamps of broken files upset the resampler; the samples are counted instead
        yield from _blocks(resampler, frame)
    if resampler is not None:
        yield from _blocks(resampler, None)


def _frames(container: Any, stream: Any, damage: list[str]) -> Iterator[Any]:
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:  # the container itself is broken from here on
            damage.append(str(error))
            return
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            damage.append(str(error))


def _blocks(resampler: Any, frame: Any) -> Iterator[bytes]:
    for out in resampler.resample(frame):
        yield out.to_ndarray().astype("<f4", copy=False).tobytes()


def _lead_in(container: Any, frame: Any) -> Iterator[bytes]:
    """Silence for sound that starts later than the picture, so that word times fit what a player shows."""
    start = (container.start_time or 0) / 1e6
    with contextlib.suppress(TypeError):
        seconds = frame.time - start
        if 0.02 < seconds < 60:
            yield bytes(4 * round(seconds * SAMPLE_RATE))


if __name__ == "__main__":
    main()
