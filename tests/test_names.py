"""Uploaders' names for recordings, as data."""

from __future__ import annotations

import pytest

from tasks.names import NAME_CHARACTERS, clean_name


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("talk.wav", "talk.wav"),
        ("  talk.wav ", "talk.wav"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\talk.wav", "talk.wav"),
        ("..\\..\\talk.wav", "talk.wav"),
        ("a/b\\c.mp3", "c.mp3"),
        ("", "recording"),
        ("   ", "recording"),
        ("folder/", "recording"),
        ("\x00\x01\x1b", "recording"),
        ("ta\x00lk\r\n\t\x1b[31m.wav", "talk[31m.wav"),
        ("line\u2028one\u2029.wav", "lineone.wav"),
        ("ta\u202elk\u2066.wav", "talk.wav"),
        ("\ufefftalk.wav", "talk.wav"),
        ("talk\ud800.wav", "talk.wav"),
        ("\u200f\u05e9\u05dc\u05d5\u05dd\u200e.mp3", "\u200f\u05e9\u05dc\u05d5\u05dd\u200e.mp3"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp3",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp3",
        ),
        ("9.41.00\u202fAM\u00a0new\u3000.mov", "9.41.00 AM new .mov"),
        ("Grüße, 世界 \U0001f600.ogg", "Grüße, 世界 \U0001f600.ogg"),
        ("<img src=x onerror=alert(1)>.mp3", "<img src=x onerror=alert(1)>.mp3"),
        ("x" * 255, "x" * 255),
        ("x" * 300, "x" * 254 + "…"),
        ("x" * 300 + ".mp3", "x" * 250 + "….mp3"),
        ("x" * 251 + ".mp3", "x" * 251 + ".mp3"),
        ("x" * 300 + ".notasuffix", "x" * 254 + "…"),
        ("x." + "y" * 300, "x." + "y" * 252 + "…"),
        ("." + "x" * 300, "." + "x" * 253 + "…"),
        ("/" * 300 + "a.wav", "a.wav"),
    ],
)
def test_a_name_is_its_last_part_printable_and_not_endless(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned
    assert len(cleaned) <= NAME_CHARACTERS
    assert clean_name(cleaned) == cleaned
