"""Which files are recordings, and in words what the others are: by their first bytes, never by their name."""

from __future__ import annotations

import os
import re

FORMATS = (
    "wav,mp3,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,flac,aac,aiff,asf,avi,flv,mpegts,caf,amr,w64,"
    "mpeg,au,ac3,eac3,dts,dtshd,truehd,mlp,gsm,wv,tta,ape,mpc,mpc8,tak,shn,oma,dsf,iff,voc,sox,ircam,nistsphere,pvf,"
    "avr,paf,wve,qcp,amrnb,amrwb,dss,act,rm,xwma,spdif,loas,mxf,gxf,nut,nuv,nsv,wtv,dv,dhav,kux,pva,ty,qoa,bonk,osq,rka,"
    "lc3,hcom,vqf"
)
"""Containers of real media, each of which is all in one file. Left out are those that name others (playlists, concat
scripts, manifests, session descriptions, indexes such as VobSub's and MLV's), devices, what makes sound out of a text
(sbg, lavfi), pictures, subtitles, raw samples that nothing tells from other bytes, and the containers of games."""

ADVICE = "Convert it to MP3, M4A or WAV and send it again."
UNKNOWN = (
    "This file can't be read as a recording: it is of no kind of recording that this box knows. "
    f"If it plays elsewhere, it is not supported: {ADVICE[0].lower()}{ADVICE[1:]}"
)
EMPTY = "This file can't be read as a recording: it is empty. Send it again."
ENCRYPTED = (
    "This file can't be read as a recording: its sound is encrypted, so that only certain players and accounts open "
    "it. Send a copy without protection."
)
NO_INDEX = (
    "This file can't be read as a recording: it is incomplete. An MP4, M4A or MOV has its index at the end, and that "
    "is missing, as after a recording or a transfer that was interrupted. Send it again, or have it repaired."
)
TOO_MUCH = (
    "This file can't be read as a recording: its header holds so many entries that reading them takes too long. "
    f"{ADVICE}"
)

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb"\s*#EXTM3U|\s*ffconcat|\s*\[playlist\]|\s*<asx|\s*<smil|\s*<\?xml[^>]*>\s*<(playlist|MPD|SmoothStreamingMedia)|<MPD",
     "a playlist, which only names recordings. Send those"),
    (rb"v=0\r?\n", "a session description, which only says where sound is. Send the recording"),
    (rb"\s*(<!doctype html|<html|<head)", "a web page. Send the recording, or its link"),
    (rb"%PDF", "a PDF document. Send a recording"),
    (rb"PK\x03\x04", "a ZIP archive or an Office document. Unpack it and send the recordings in it"),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
     "an archive. Unpack it and send the recordings in it"),
    (rb"\xd0\xcf\x11\xe0", "an Office document. Send a recording"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\x00\x00\x00\x00|II\*\x00|MM\x00\*|RIFF.{4}WEBP|.{4}ftyp(heic|mif1|avif)",
     "a picture. Send a recording"),
    (rb"MThd|RIFF.{4}RMID", "MIDI: notes, and no sound"),
    (rb"[FCZ]WS[\x01-\x2f]", "a Flash program (SWF), which is not supported. " + ADVICE),
    (rb"BIK[a-k]|KB2[a-k]", "a Bink video, which is not supported. " + ADVICE),
    (rb"MLVI", "a Magic Lantern video (MLV), which is not supported. " + ADVICE),
    (rb"\x7fELF|MZ", "a program. Send a recording"),
    (rb"SQLite format 3", "a database. Send a recording"),
    (rb"# VobSub index file|WEBVTT|\s*1\r?\n\d\d:\d\d:\d\d,\d{3} -->", "subtitles. Send the recording"),
)  # fmt: skip
"""What a file begins with that is no recording, and the end of the sentence that says so."""

_KNOWN: tuple[tuple[bytes, str], ...] = (
    (rb"RIFF.{4}AVI ", "an AVI"),
    (rb"(RIFF|RF64).{4}WAVE", "a WAV"),
    (rb".{4}ftyp", "an MP4, M4A or MOV"),
    (rb"OggS", "an Ogg or Opus recording"),
    (rb"fLaC", "a FLAC"),
    (rb"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (rb"FORM.{4}AIF", "an AIFF"),
    (rb"0&\xb2u\x8ef\xcf\x11", "a WMA or WMV"),
    (rb"FLV\x01", "a Flash video (FLV)"),
    (rb"caff", "a CAF"),
    (rb"\.snd", "an AU recording"),
    (rb"#!AMR", "an AMR recording"),
    (rb"wvpk", "a WavPack file"),
    (rb"TTA1", "a TTA file"),
    (rb"MAC ", "a Monkey's Audio file (APE)"),
    (rb"\.RMF", "a RealMedia file"),
    (rb"\x00\x00\x01\xba", "an MPEG program stream (MPG, VOB)"),
    (rb"\x0b\x77", "an AC-3 recording"),
    (rb"ID3|\xff[\xe2-\xff]", "an MP3 or AAC"),
)

_ASF_PROTECTED = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)


def refusal(descriptor: int) -> str:
    """What a person is told of a file that libav doesn't open."""
    head = os.pread(descriptor, 4096, 0)
    if not head:
        return EMPTY
    for magic, what in _OTHERS:
        if re.match(magic, head, re.DOTALL | re.IGNORECASE):
            return f"This file can't be read as a recording: it is {what}."[: -1 if what.endswith(".") else None]
    if re.match(rb".{4}ftyp", head, re.DOTALL) and not _has_index(descriptor):
        return NO_INDEX
    if looks_encrypted(descriptor):
        return ENCRYPTED
    for magic, what in _KNOWN:
        if re.match(magic, head, re.DOTALL):
            return damaged(what)
    if b"\0" not in head and _is_text(head):
        return "This file can't be read as a recording: it is a text. Send the recording."
    return UNKNOWN


def damaged(what: str = "") -> str:
    """Of a file whose kind is known, and whose sound isn't found."""
    looks = f"it looks like {what}, but " if what else "it "
    return (
        f"This file can't be read as a recording: {looks}is damaged or incomplete. "
        f"Check that it plays, or c{ADVICE[1:]}"
    )


def no_decoder(codec: str) -> str:
    """Of a track whose codec libav knows by name only."""
    return f"This file can't be read as a recording: sound of its kind ({codec}) is not supported. {ADVICE}"


def looks_encrypted(descriptor: int) -> bool:
    """By what protected files of known kinds say of themselves."""
    head = os.pread(descriptor, 2**20, 0)
    if head[4:8] == b"ftyp":
        size = os.fstat(descriptor).st_size
        parts = head + os.pread(descriptor, 2**20, max(0, size - 2**20))
        return bool(re.search(rb"stsd.{8}.{4}(enca|drms|aavd)", parts, re.DOTALL)) or head[8:12] == b"aax "
    if head[:4] == b"0&\xb2u":
        return any(mark in head[: 2**16] for mark in _ASF_PROTECTED)
    if head[:1] == b"G" and head[188:189] == b"G":
        packets = [head[at + 3] for at in range(0, len(head) - 188, 188) if head[at] == 0x47]
        return sum(1 for byte in packets if byte & 0x80) > len(packets) // 4
    return False


def _has_index(descriptor: int) -> bool:
    """Whether an MP4 has its table of contents among its outermost boxes."""
    size, at = os.fstat(descriptor).st_size, 0
    for _ in range(10_000):
        head = os.pread(descriptor, 16, at)
        if len(head) < 8:
            return False
        if head[4:8] in (b"moov", b"moof"):
            return True
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8 or at + length > size:
            return False
        at += length
    return False


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < 4096 else "ignore")
    except UnicodeDecodeError:
        return False
    return sum(c.isprintable() or c in "\r\n\t" for c in text) > 0.95 * len(text)
