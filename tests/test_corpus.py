"""The hostile corpus through the real child: no other file's sound, no packet, no dead worker, bounded memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import hostile
import media_files as media
import numpy as np
import pytest

from tasks.decode import SAMPLE_RATE, Sound, decode, extract
from tasks.errors import StenoboxError

pytestmark = pytest.mark.long

MUTATIONS = int(os.environ.get("STENOBOX_MUTATIONS", "120"))
"""Random ones; `make hostile` tries 500."""
MEMORY = 600 * 2**20
"""What any of these may take: libraries and buffers, not what a header claims."""
CODES = {"undecodable", "no_audio", "too_long", "timed_out", "unknown_track"}


class Canary:
    """Listeners on loopback that nothing should reach."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        for sock in (self.tcp, self.udp):
            sock.setblocking(False)

    def ports(self) -> tuple[int, int]:
        return self.tcp.getsockname()[1], self.udp.getsockname()[1]

    def was_reached(self) -> bool:
        for call in (self.tcp.accept, lambda: self.udp.recv(1)):
            try:
                call()
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.tcp.close()
    canary.udp.close()


def outcome(source: Path, max_seconds: float = 600) -> Sound | str:
    """What came of it: the sound, checked for the canary, or a code of ours. Anything else is a failure."""
    target = source.with_name("out.f32")
    target.unlink(missing_ok=True)
    code, sound = "", None
    try:
        sound = decode(source, target, max_seconds, extras=source.parent)
    except StenoboxError as refusal:
        sound, code = None, refusal.code
    samples = np.fromfile(target, "<f4") if target.exists() else np.zeros(0, "<f4")
    assert not hostile.has_canary(samples), source.name
    if sound is None:
        assert code in CODES, (source.name, code)
        return code
    assert sound.peak < MEMORY, source.name
    return sound


def test_the_canary_would_be_heard(tmp_path: Path) -> None:
    """So that the tests below prove something."""
    for path in hostile.canaries(tmp_path).values():
        if path.suffix != ".key":
            decode(path, tmp_path / "a.f32", 60)
            assert hostile.has_canary(np.fromfile(tmp_path / "a.f32", "<f4"))
    assert not hostile.has_canary(media.sound())


def test_what_names_others_gives_none_of_them_and_calls_nobody(tmp_path: Path, canary: Canary) -> None:
    hostile.canaries(tmp_path)
    heard = {}
    for name, data in hostile.naming(tmp_path, *canary.ports()).items():
        source = tmp_path / name
        source.write_bytes(data)
        heard[name] = outcome(source)
    assert not canary.was_reached()
    assert {name: found for name, found in heard.items() if not isinstance(found, str)} == {}


def test_an_extraction_is_no_other_way_in(tmp_path: Path, canary: Canary) -> None:
    hostile.canaries(tmp_path)
    for name in ("relative.m3u8", "concat.wav", "external.mov"):
        (tmp_path / name).write_bytes(hostile.naming(tmp_path, *canary.ports())[name])
        with pytest.raises(StenoboxError, match="can't be read"):
            extract(tmp_path / name, tmp_path / "out.wav", "wav", None, 600)


def test_random_mutations_end_in_a_sound_or_a_sentence(tmp_path: Path, canary: Canary) -> None:
    """Many in one child, as starting one takes longer than reading such a file; one that kills it is tried alone in the
    real one, which must survive it as a sentence."""
    hostile.canaries(tmp_path)
    code = textwrap.dedent("""
        import json, pathlib, sys
        import numpy as np
        import hostile
        from tasks.decode import child, sandbox
        folder, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])
        child.say = lambda **answer: answers.append(answer)
        for number in range(first, int(sys.argv[3])):
            answers = []
            source, out = folder / f"{number}.bin", folder / "out.f32"
            print("trying", number, flush=True)
            out.unlink(missing_ok=True)
            task = dict(source=str(source), target=str(out), max_seconds=600, deadline=100, track=None, language=None,
                        extras=str(folder), form=None, bitrate=None, spare_bytes=0)
            sys.argv[1:2] = [json.dumps(task)]
            if number == first:
                child.main()
                sandbox.enter = lambda *_: True
            else:
                child.main()
            samples = np.fromfile(out, "<f4") if out.exists() else np.zeros(0, "<f4")
            print(json.dumps(answers[-1] | {"canary": hostile.has_canary(samples)}), flush=True)
    """)
    total = 0
    for total, data in enumerate(hostile.mutations(tmp_path, MUTATIONS), 1):
        (tmp_path / f"{total - 1}.bin").write_bytes(data)
    found, crashed, first = [], [], 0
    while first < total:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(first), str(total)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "MALLOC_ARENA_MAX": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        found += [json.loads(line) for line in lines if line.startswith("{")]
        if done.returncode == 0:
            break
        last = max(int(line.split()[1]) for line in lines if line.startswith("trying"))
        crashed.append(last)
        first = last + 1
    for number in crashed:
        outcome(tmp_path / f"{number}.bin")
    assert len(found) + len(crashed) == total
    assert not any(answer["canary"] for answer in found)
    assert not canary.was_reached()
    codes = [answer["error"][0] if "error" in answer else "sound" for answer in found]
    assert set(codes) <= CODES | {"sound"}
    assert codes.count("sound") > total / 5
    print(f"{total} mutations: {codes.count('sound')} sounds, {len(crashed)} crashes, rest refused")


def test_truncations(tmp_path: Path) -> None:
    for kind in ("mp3", "mp4", "ogg"):
        whole = media.make(tmp_path / f"whole.{kind}", media.sound())
        for share in (0.01, 0.5, 0.99):
            outcome(media.truncated(whole, tmp_path / f"cut.{kind}", share))


def test_a_day_of_silence_is_refused_or_read_within_bounds(tmp_path: Path) -> None:
    source = media.long_silent_flac(tmp_path / "day.flac", 86_400)
    assert source.stat().st_size < 20_000_000
    assert outcome(source, 4 * 3600) == "too_long"
    data = bytearray(source.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # its header says nothing: counted until the limit
    source.write_bytes(data)
    assert outcome(source, 600) == "too_long"
    assert (tmp_path / "out.f32").stat().st_size < 602 * SAMPLE_RATE * 4


def test_eight_channels_at_192_kilohertz(tmp_path: Path) -> None:
    sound = outcome(hostile.many_channels(tmp_path / "wide.wav"))
    assert isinstance(sound, Sound)
    assert (sound.facts.channels, sound.facts.sample_rate) == (8, 192_000)
    assert sound.peak < 250 * 2**20


@pytest.mark.parametrize("kind", [*media.FORMATS, *media.MORE])
def test_the_good_are_kept_whole(kind: str, tmp_path: Path) -> None:
    sound = outcome(media.make(tmp_path / f"good.{kind}", media.sound(), kind=kind, picture=kind in media.WITH_PICTURE))
    assert isinstance(sound, Sound)
    assert sound.seconds == pytest.approx(len(media.sound()) / SAMPLE_RATE, abs=0.15)
    assert not sound.damaged
