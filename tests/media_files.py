"""Makes every kind of recording a test needs out of a sample, with PyAV alone: no ffmpeg program, nothing downloaded.

All makers return the path they wrote. `SOUND` is what a good file must give back.
"""

from __future__ import annotations

import random
import wave
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from support import SAMPLES

RATE = 16_000
SAMPLE = "en-u008.flac"

# extension: (container, codec, the rate and layout that go with it)
FORMATS: dict[str, tuple[str, str, int, str]] = {
    "wav": ("wav", "pcm_s16le", 44_100, "stereo"),
    "mp3": ("mp3", "libmp3lame", 44_100, "stereo"),
    "m4a": ("ipod", "aac", 48_000, "mono"),
    "ogg": ("ogg", "libopus", 48_000, "stereo"),
    "flac": ("flac", "flac", 16_000, "mono"),
    "mp4": ("mp4", "aac", 48_000, "stereo"),
    "mkv": ("matroska", "aac", 48_000, "5.1"),
    "webm": ("webm", "libopus", 48_000, "mono"),
    "mov": ("mov", "aac", 44_100, "stereo"),
    "aiff": ("aiff", "pcm_s16be", 44_100, "mono"),
    "avi": ("avi", "libmp3lame", 44_100, "mono"),
    "ts": ("mpegts", "aac", 48_000, "stereo"),
}
MORE: dict[str, tuple[str, str, int, str]] = {
    "opus": ("ogg", "libopus", 48_000, "mono"),
    "amr": ("amr", "libopencore_amrnb", 8_000, "mono"),
    "3gp": ("3gp", "libopencore_amrnb", 8_000, "mono"),
    "caf": ("caf", "alac", 44_100, "stereo"),
    "wma": ("asf", "wmav2", 44_100, "stereo"),
    "flv": ("flv", "libmp3lame", 44_100, "mono"),
    "w64": ("w64", "pcm_s16le", 16_000, "mono"),
}
"""Rarer ones, which phones and older programs write."""
WITH_PICTURE = ("mp4", "mkv", "webm", "mov", "avi", "ts")


@cache
def sound(name: str = SAMPLE) -> np.ndarray:
    """A sample as float32 at 16 kHz, read without any of our code."""
    with av.open(str(SAMPLES / name)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
        assert container.streams.audio[0].rate == RATE
    samples = np.concatenate(blocks, axis=1)[0]
    return samples.astype(np.float32) / 32_768 if samples.dtype == np.int16 else samples


def make(
    path: Path,
    samples: np.ndarray,
    *,
    kind: str | None = None,
    rate: int | None = None,
    layout: str | None = None,
    picture: bool = False,
    late: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write samples (16 kHz, -1..1) to path.

    kind: key of FORMATS or MORE, else the extension. picture: add a video track. late: the sound starts so many seconds
    after the picture.
    """
    container_name, codec, usual_rate, usual_layout = (FORMATS | MORE)[kind or path.suffix[1:]]
    rate, layout = rate or usual_rate, layout or usual_layout
    with av.open(str(path), "w", format=container_name, options=options or {}) as container:
        video = _video(container, container_name) if picture else None
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        if codec == "wmav2":  # has no bit rate of its own accord
            stream.bit_rate = 128_000
        if video is not None:
            for number in range(round((late + len(samples) / RATE) * 10)):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 256, np.uint8), format="rgb24")
                frame.pts = number
                container.mux(video.encode(frame.reformat(format="yuv420p")))
            container.mux(video.encode(None))
        delay = round(late * rate)
        for frame in _frames(samples, stream.codec_context.format.name, layout, rate):
            frame.pts += delay
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def video_only(path: Path) -> Path:
    """A second of picture without sound."""
    with av.open(str(path), "w") as container:
        video = _video(container, container.format.name)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame.reformat(format="yuv420p")))
        container.mux(video.encode(None))
    return path


def tracked(path: Path, tracks: list[dict[str, Any]], tags: dict[str, str] | None = None) -> Path:
    """A Matroska file with several audio tracks: each with samples, and perhaps layout, language, title, default."""
    from av.stream import Disposition

    with av.open(str(path), "w", format="matroska") as container:
        container.metadata.update(tags or {})
        streams = []
        for track in tracks:
            stream: Any = container.add_stream("flac", rate=RATE, layout=track.get("layout", "mono"))
            stream.metadata.update({key: track[key] for key in ("language", "title") if key in track})
            stream.disposition = Disposition[track.get("disposition", "default" if track.get("default") else "dub")]
            streams.append(stream)
        for stream, track in zip(streams, tracks, strict=True):
            for frame in _frames(track["samples"], stream.codec_context.format.name, track.get("layout", "mono"), RATE):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def picture(width: int, height: int, codec: str = "png") -> bytes:
    """A grey picture: PNG or JPEG."""
    encoder: Any = av.CodecContext.create(codec, "w")
    form = "gray" if codec == "png" else "yuvj420p"
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, form, 1
    frame = av.VideoFrame(width, height, form)
    for plane in frame.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    return b"".join(bytes(part) for part in [*encoder.encode(frame), *encoder.encode(None)])


def with_picture(path: Path, samples: np.ndarray, image: bytes, mime: bytes = b"image/png") -> Path:
    """A FLAC file with a picture in its header, by hand: libav's own writer would look into the image."""
    whole = make(path, samples).read_bytes()
    block = (3).to_bytes(4, "big") + len(mime).to_bytes(4, "big") + mime + bytes(20) + len(image).to_bytes(4, "big")
    block += image
    head = bytearray(whole[:42])  # "fLaC" and STREAMINFO
    last, head[4] = head[4] & 0x80, head[4] & 0x7F
    path.write_bytes(bytes(head) + bytes([6 | last]) + len(block).to_bytes(3, "big") + block + whole[42:])
    return path


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def long_silent_flac(path: Path, seconds: int) -> Path:
    """Hours of digital silence in a file of a few hundred kilobytes."""
    with av.open(str(path), "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, RATE * 10), np.int16), format="s16", layout="mono")
        frame.rate = RATE
        for number in range(seconds // 10):
            frame.pts = number * RATE * 10
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plain_wav(path: Path, samples: np.ndarray, *, claimed_bytes: int | None = None) -> Path:
    """A WAV by hand. claimed_bytes: what the header says about the data, when it should lie."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    if claimed_bytes is not None:
        data = bytearray(path.read_bytes())
        data[40:44] = claimed_bytes.to_bytes(4, "little")
        data[4:8] = min(claimed_bytes + 36, 2**32 - 1).to_bytes(4, "little")
        path.write_bytes(data)
    return path


def truncated(source: Path, target: Path, share: float) -> Path:
    """The first part of a file, as an interrupted transfer leaves it."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def holed(source: Path, target: Path) -> Path:
    """A file with a tenth of it, in the middle, overwritten with noise."""
    data = bytearray(source.read_bytes())
    start, end = int(len(data) * 0.45), int(len(data) * 0.55)
    data[start:end] = random.Random(7).randbytes(end - start)
    target.write_bytes(data)
    return target


def changing(path: Path, first: np.ndarray, second: np.ndarray) -> Path:
    """An MPEG transport stream whose sound goes from 48 kHz stereo to 44.1 kHz mono halfway."""
    parts = []
    for number, (samples, rate, layout) in enumerate(((first, 48_000, "stereo"), (second, 44_100, "mono"))):
        part = path.with_name(f"{path.name}.{number}.ts")
        make(part, samples, rate=rate, layout=layout)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def hostile(folder: Path) -> dict[str, Path]:
    """Texts that name other files or hosts, called like recordings; beside them `secret.wav`, which they name."""
    secret = plain_wav(folder / "secret.wav", sound())
    segment = "secret.ts"
    make(folder / segment, sound())
    texts = {
        "playlist.mp3": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{segment}\n#EXT-X-ENDLIST\n",
        "absolute.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\nfile://{folder / segment}\n#EXT-X-ENDLIST\n",
        "wav.mp3": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{secret.name}\n#EXT-X-ENDLIST\n",
        "concat.wav": f"ffconcat version 1.0\nfile '{secret.name}'\n",
        "concat-absolute.wav": f"ffconcat version 1.0\nfile 'file:{secret}'\n",
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "itself.mp3": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + "#EXTINF:1,\nitself.mp3\n" * 3,
        "dash.mp4": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
            f'bandwidth="1"><BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>'
        ),
        "smil.wav": f'<smil><body><audio src="{secret}"/></body></smil>',
        "pls.mp3": f"[playlist]\nFile1={secret}\nNumberOfEntries=1\nVersion=2\n",
        "url.mp3": "http://127.0.0.1:9/secret.wav\n",
        "text.mp3": "This is a text, not a recording.\n" * 20,
    }
    files = {}
    for name, text in texts.items():
        files[name] = folder / name
        files[name].write_text(text)
    files["empty.wav"] = folder / "empty.wav"
    files["empty.wav"].write_bytes(b"")
    files["random.bin"] = folder / "random.bin"
    files["random.bin"].write_bytes(random.Random(3).randbytes(200_000))
    return files


def _video(container: Any, container_name: str) -> Any:
    video = container.add_stream("libvpx" if container_name == "webm" else "mpeg4", rate=10)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"
    return video


def _frames(samples: np.ndarray, form: str, layout: str, rate: int) -> Any:
    """The samples as frames of 1,024 in the form an encoder wants."""
    resampler = av.AudioResampler(format=form, layout=layout, rate=rate, frame_size=1024)
    whole = av.AudioFrame.from_ndarray(samples[np.newaxis, :].astype(np.float32), format="fltp", layout="mono")
    whole.rate, whole.pts = RATE, 0
    at = 0
    for frame in [*resampler.resample(whole), *resampler.resample(None)]:
        frame.pts, at = at, at + frame.samples
        yield frame


def remuxed(
    source: Path,
    target: Path,
    container: str,
    *,
    keep: Callable[[float], bool] = lambda _: True,
    spoil: Callable[[float], bool] = lambda _: False,
    later: Callable[[float], float] = lambda _: 0.0,
) -> Path:
    """The packets of the first audio track in a container, at their time. keep, spoil, later: by a packet's seconds,
    whether it is there, whether its bytes are ruined, and how much its timestamp is moved."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
        stream = old.streams.audio[0]
        written: Any = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is None:
                continue
            seconds = float(packet.pts * packet.time_base)
            if not keep(seconds):
                continue
            moved = round(later(seconds) / packet.time_base)
            copy = av.Packet(bytes([7] * packet.size) if spoil(seconds) else bytes(packet))
            copy.pts, copy.dts, copy.duration = packet.pts + moved, packet.dts + moved, packet.duration
            copy.time_base, copy.stream = packet.time_base, written
            new.mux(copy)
    return target
