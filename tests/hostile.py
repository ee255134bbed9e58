"""The hostile corpus: files that name other files and hosts, that lie, that unfold, that are broken at random.

Beside them lies `canary`, a pure tone of 1,000 Hz in several forms, which none of them contains and many of them name:
whatever is decoded, the tone must not come out. They also name 127.0.0.1 at ports where a test may listen.
"""

from __future__ import annotations

import random
import wave
from collections.abc import Iterator
from pathlib import Path

import media_files as media
import numpy as np

CANARY_HERTZ = 1_000
RATE = media.RATE


def tone(seconds: float = 4.0) -> np.ndarray:
    return (0.8 * np.sin(2 * np.pi * CANARY_HERTZ * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def has_canary(samples: np.ndarray) -> bool:
    """Whether the tone stands out anywhere in these samples: most of a second's energy within 20 Hz of it."""
    for start in range(0, len(samples), RATE // 2):
        part = samples[start : start + RATE]
        if len(part) < RATE // 4 or not np.isfinite(part).all():
            continue
        energy = np.abs(np.fft.rfft(part)) ** 2
        hertz = np.fft.rfftfreq(len(part), 1 / RATE)
        if energy[np.abs(hertz - CANARY_HERTZ) < 20].sum() > 0.5 * energy.sum() > 0:
            return True
    return False


def canaries(folder: Path) -> dict[str, Path]:
    """The tone as WAV, MPEG transport stream, MP4 and MP3, and a key file of 16 bytes."""
    files = {kind: media.make(folder / f"canary.{kind}", tone(), kind=kind) for kind in ("wav", "ts", "mp4", "mp3")}
    files["key"] = folder / "canary.key"
    files["key"].write_bytes(bytes(16))
    return files


def naming(folder: Path, tcp: int, udp: int) -> dict[str, bytes]:
    """Texts and containers that name the canary, or listeners on these ports of 127.0.0.1, by name of the file."""
    ts, wav, key, mp4 = (folder / f"canary.{kind}" for kind in ("ts", "wav", "key", "mp4"))
    where = f"http://127.0.0.1:{tcp}"
    head = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n"
    texts = {
        "relative.m3u8": f"{head}#EXTINF:4,\ncanary.ts\n#EXT-X-ENDLIST\n",
        "named.mp3": f"{head}#EXTINF:4,\ncanary.ts\n#EXT-X-ENDLIST\n",
        "absolute.m3u8": f"{head}#EXTINF:4,\nfile://{ts}\n#EXT-X-ENDLIST\n",
        "bare.m3u8": f"{head}#EXTINF:4,\n{ts}\n#EXT-X-ENDLIST\n",
        "http.m3u8": f"{head}#EXTINF:4,\n{where}/canary.ts\n#EXT-X-ENDLIST\n",
        "tcp.m3u8": f"{head}#EXTINF:4,\ntcp://127.0.0.1:{tcp}\n#EXT-X-ENDLIST\n",
        "udp.m3u8": f"{head}#EXTINF:4,\nudp://127.0.0.1:{udp}\n#EXT-X-ENDLIST\n",
        "crypto.m3u8": f'{head}#EXT-X-KEY:METHOD=AES-128,URI="{key}"\n#EXTINF:4,\n{ts}\n#EXT-X-ENDLIST\n',
        "cryptoplus.m3u8": f"{head}#EXTINF:4,\ncrypto+file:{ts}\n#EXT-X-ENDLIST\n",
        "subfile.m3u8": f"{head}#EXTINF:4,\nsubfile,,start,0,end,0,,:{ts}\n#EXT-X-ENDLIST\n",
        "concatproto.m3u8": f"{head}#EXTINF:4,\nconcat:{ts}|{ts}\n#EXT-X-ENDLIST\n",
        "data.m3u8": f"{head}#EXTINF:4,\ndata:audio/mpegts;base64,R0AAEA==\n#EXT-X-ENDLIST\n",
        "fd.m3u8": f"{head}#EXTINF:4,\nfd:\n#EXT-X-ENDLIST\n",
        "pipe.m3u8": f"{head}#EXTINF:4,\npipe:0\n#EXT-X-ENDLIST\n",
        "map.m3u8": f'{head}#EXT-X-MAP:URI="{mp4}"\n#EXTINF:4,\n{mp4}\n#EXT-X-ENDLIST\n',
        "master.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nrelative.m3u8\n"
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{ts}"\n',
        "itself.m3u8": f"{head}" + "#EXTINF:1,\nitself.m3u8\n" * 3,
        "itself.mp3": f"{head}" + "#EXTINF:1,\nitself.mp3\n" * 3,
        "live.m3u8": f"{head}#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:4,\n{where}/live.ts\n",
        "concat.wav": f"ffconcat version 1.0\nfile '{wav.name}'\n",
        "concat-absolute.wav": f"ffconcat version 1.0\nfile 'file:{wav}'\n",
        "concat-itself.txt": "ffconcat version 1.0\nfile 'concat-itself.txt'\n",
        "concat-http.txt": f"ffconcat version 1.0\nfile '{where}/a.wav'\n",
        "session.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {udp} RTP/AVP 0\n",
        "session.mp4": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {udp} RTP/AVP 0\n",
        "rtsp.txt": f"RTSPtextrtsp://127.0.0.1:{tcp}/x\r\n",
        "dash.mpd": _dash(f"file://{mp4}"),
        "dash.mp4": _dash(f"{mp4}"),
        "dash-http.mp4": _dash(f"{where}/a.mp4"),
        "smooth.ismc": f'<SmoothStreamingMedia><StreamIndex Url="{where}/a"/></SmoothStreamingMedia>',
        "smil.wav": f'<smil><body><audio src="{wav}"/></body></smil>',
        "asx.wma": f'<asx version="3.0"><entry><ref href="{where}/a.wma"/></entry></asx>',
        "pls.mp3": f"[playlist]\nFile1={wav}\nNumberOfEntries=1\nVersion=2\n",
        "xspf.mp3": f'<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>file://{wav}'
        "</location></track></trackList></playlist>",
        "cue.wav": f'FILE "{wav}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
        "url.mp3": f"{where}/canary.wav\n",
        "imf.xml": f"<CompositionPlaylist><Path>{mp4}</Path></CompositionPlaylist>",
        "vapoursynth.vpy": f"import vapoursynth\nopen({str(wav)!r})\n",
        "avisynth.avs": f'DirectShowSource("{wav}")\n',
        "lavfi.txt": f"amovie={wav}\n",
        "vobsub.mp3": f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n# {wav}\n",
        "sbagen.mp3": "-SE\n# SBaGen\ntone: 1000/80\nNOW tone\n",
        "ffmetadata.mp3": f";FFMETADATA1\ntitle={wav}\n",
        "after-zeros.mp3": "\0" * 5000 + f"{head}#EXTINF:4,\ncanary.ts\n#EXT-X-ENDLIST\n",
        "after-junk.mp3": f"RIFF----WAVE OggS fLaC ftyp {head}#EXTINF:4,\ncanary.ts\n#EXT-X-ENDLIST\n",
        "name-in-tag.mp3": f"ID3\3\0\0\0\0\0\x0bTIT2\0\0\0\1\0\0x{head}#EXTINF:4,\ncanary.ts\n#EXT-X-ENDLIST\n",
        "text.mp3": "This is a text, not a recording.\n" * 20,
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["reference.mov"] = _reference_movie(mp4)
    files["external.mov"] = _external_data(mp4)
    files["raw.mlv"] = b"MLVI" + (52).to_bytes(4, "little") + b"v2.0\0\0\0\0" + bytes(36)
    files["empty.wav"] = b""
    files["random.bin"] = random.Random(3).randbytes(200_000)
    files["zeros.mp4"] = bytes(100_000)
    files["riff.wav"] = b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\xff\xff\xff\xff" * 1000
    return files


def mutations(folder: Path, count: int, seed: int = 20) -> Iterator[bytes]:
    """Good files in turn, each damaged in its own way: bytes, runs, cuts, repeats and swaps; the same for a seed."""
    speech = media.sound()[: 2 * RATE]
    goods = []
    for kind in media.FORMATS | media.MORE:
        picture = kind in media.WITH_PICTURE
        goods.append(media.make(folder / f"good.{kind}", speech, kind=kind, picture=picture).read_bytes())
    dice = random.Random(seed)
    for number in range(count):
        data = bytearray(goods[number % len(goods)])
        for _ in range(dice.choice((1, 1, 3, 10, 100))):
            _damage(data, dice)
        yield bytes(data)


def _damage(data: bytearray, dice: random.Random) -> None:
    place = dice.randrange(min(len(data), dice.choice((60, 400, 4000, 2**30))) or 1)
    size = dice.choice((1, 2, 4, 8, 64))
    match dice.randrange(7):
        case 0 | 1:
            data[place : place + 1] = bytes([dice.randrange(256)])
        case 2:
            data[place : place + size] = dice.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * size
        case 3:
            data[place : place + size] = dice.randbytes(size)
        case 4:
            del data[place : place + size * dice.choice((1, 1, 100))]
        case 5:
            data[place:place] = data[place : place + size * 10]
        case _:
            other = dice.randrange(len(data) or 1)
            data[place : place + size], data[other : other + size] = (
                data[other : other + size],
                data[place : place + size],
            )
    if len(data) < 8:
        data += bytes(8)


def many_channels(path: Path, channels: int = 8, rate: int = 192_000, seconds: float = 2.0) -> Path:
    """A WAV of so many channels at such a rate, all with the sample."""
    speech = np.interp(np.arange(int(seconds * rate)) / rate, np.arange(len(media.sound())) / RATE, media.sound())
    data = np.repeat((speech * 32_767 / 2).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data.tobytes())
    return path


def _dash(base: str) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{base}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )


def _atom(kind: bytes, data: bytes) -> bytes:
    return (len(data) + 8).to_bytes(4, "big") + kind + data


def _reference_movie(target: Path) -> bytes:
    """QuickTime's own playlist: a movie that is only a reference to another."""
    url = str(target).encode() + b"\0"
    rdrf = _atom(b"rdrf", bytes(4) + b"url " + len(url).to_bytes(4, "big") + url)
    return _atom(b"ftyp", b"qt  \0\0\0\0qt  ") + _atom(b"moov", _atom(b"rmra", _atom(b"rmda", rdrf)))


def _external_data(target: Path) -> bytes:
    """The canary's own MP4 without its sound, with a data reference that says: it is in that file."""
    data = target.read_bytes()
    url = b"file://" + str(target).encode() + b"\0"
    moov_at = data.index(b"moov") - 4
    moov = data[moov_at : moov_at + int.from_bytes(data[moov_at : moov_at + 4], "big")]
    old = data[data.index(b"dref") - 4 :][:28]
    return data[: data.index(b"mdat") - 4] + moov.replace(
        old, _atom(b"dref", bytes(7) + b"\1" + _atom(b"url ", bytes(4) + url))
    )
