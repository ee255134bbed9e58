"""Templates: the environment, and how times, sizes and names are written for people."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import Response

from tasks import languages
from tasks.decode.forms import FORMS
from webapp import paths

if TYPE_CHECKING:
    from starlette.templating import Jinja2Templates


def clock(seconds: float) -> str:
    """A duration like a player shows it: 2:05, 1:02:05."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def stamp(seconds: float) -> str:
    """A point in a recording, as clock() but rounded down: jumping there never misses the first word."""
    return clock(int(seconds))


def duration(seconds: float) -> str:
    """A span of time in words, in its two largest units: 0.4 s, 45 s, 2 min 5 s, 1 h 2 min."""
    if seconds < 1:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    units = [(hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count)


def filesize(size: int) -> str:
    """A number of bytes in decimal units, as file managers and networks count: 1.4 MB."""
    if size < 1000:
        return f"{size} B"
    value = size / 1000
    for unit in ("kB", "MB", "GB", "TB"):
        # 999.6 kB would be written as 1000 kB: it is 1 MB.
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    digits = 1 if value < 9.95 else 0
    return f"{value:.{digits}f}".removesuffix(".0") + f" {unit}"


def memory(size: float) -> str:
    """Bytes of memory in binary units, as limits on it are set: 920 MiB, 3.9 GiB."""
    return f"{size / 2**20:,.0f} MiB" if abs(size) < 2**30 else f"{size / 2**30:,.1f} GiB"


def milliseconds(seconds: float) -> str:
    """A short time: 12 ms, 1,200 ms."""
    return f"{seconds * 1000:,.0f} ms"


def capitalize_first(text: str) -> str:
    """The text with a capital, the rest as it is."""
    return text[:1].upper() + text[1:]


def percent(fraction: float) -> str:
    """A share in whole percent, rounded down: nothing says 100% before it is over."""
    # The tiny addition keeps 0.29 * 100 = 28.999… from being written as 28%.
    return f"{int(min(1.0, max(0.0, fraction)) * 100 + 1e-9)}%"


def speed(realtime_factor: float) -> str:
    """A real-time factor (processing time / audio time) as its inverse, which grows with speed: 18× real time."""
    times = 1 / realtime_factor
    return f"{times:.1f}× real time" if times < 10 else f"{times:.0f}× real time"


def iso(epoch: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(epoch: float) -> str:
    """Seconds since 1970 for a reader whose time zone we don't know: 23 Nov 2026, 02:14 UTC."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def host(url: str) -> str:
    """Where a URL leads, for people: example.org."""
    return (urlsplit(url).hostname or url).removeprefix("www.")


def sound(facts: dict[str, Any]) -> str:
    """What a recording is made of, in a few words: MP4, AAC, stereo, 44.1 kHz."""
    channels = facts["channels"]
    spoken = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    parts = [
        _CONTAINERS.get(facts["container"], facts["container"].upper()),
        _CODECS.get(facts["codec"], facts["codec"].partition("_")[0].upper()),
    ]
    parts = list(dict.fromkeys(parts))  # FLAC in FLAC
    return ", ".join([*parts, spoken, f"{facts['sample_rate'] / 1000:g} kHz"])


_CONTAINERS = {"matroska": "Matroska", "ogg": "Ogg", "mpegts": "MPEG-TS", "asf": "Windows Media"}
_CODECS = {"mp3float": "MP3", "amrnb": "AMR", "amrwb": "AMR", "libopencore_amrnb": "AMR", "libopencore_amrwb": "AMR",
           "vorbis": "Vorbis", "opus": "Opus", "libopus": "Opus"}  # fmt: skip


def form(name: str) -> str:
    """A form of extracted sound as people write it: MP3, Opus."""
    return FORMS[name].title


_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\S)")
_OF_THE_SERVER = re.compile(r"(?<![\w/])/[\w.-]+/|https?://|[A-Z]:\\\\")


def for_everybody(message: str) -> str:
    """A message without the sentences that name a path or an address: those are for who runs the box."""
    return " ".join(one for one in _SENTENCE.split(message) if not _OF_THE_SERVER.search(one))


def first_sentence(message: str) -> str:
    """What a row has room for: the first sentence of those for everybody; "" when there is none."""
    return _SENTENCE.split(for_everybody(message))[0]


def language_name(code: str) -> str:
    """A language code's English name, or the code itself if it has none here."""
    return languages.NAMES.get(code, code)


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrom", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
            ("Linux", "Linux"))  # fmt: skip


def browser(agent: str) -> str:
    """A User-Agent as people call it: Firefox on Linux; the start of it when it is none of the usual."""
    name = next((name for part, name in _BROWSERS if part in agent), "")
    system = next((name for part, name in _SYSTEMS if part in agent), "")
    return " on ".join(filter(None, (name, system))) if name else agent[:40] or "Unknown browser"


def static(path: str) -> str:
    """The address of a static file, with its content's hash: it can be cached forever and is never stale."""
    return f"/static/{path}?v={_digest(path, (paths.STATIC / path).stat().st_mtime_ns)}"


@lru_cache(maxsize=64)
def _digest(path: str, _mtime: int) -> str:
    # The time is in the key so that an edited file gets a new address without a restart.
    return hashlib.sha256((paths.STATIC / path).read_bytes()).hexdigest()[:12]


@cache
def _made() -> Jinja2Templates:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from starlette.templating import Jinja2Templates

    env = Environment(
        loader=FileSystemLoader(paths.TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        clock,
        stamp,
        duration,
        filesize,
        memory,
        milliseconds,
        capitalize_first,
        percent,
        speed,
        iso,
        when,
        language_name,
        for_everybody,
        first_sentence,
        host,
        sound,
        form,
        browser,
    ):
        env.filters[function.__name__] = function
    env.globals["static"] = static
    return Jinja2Templates(env=env)


class _Templates:
    """Starlette's Jinja2Templates, made for the first page: a box that only programs use is 2 MB lighter without."""

    TemplateResponse: Callable[..., Response]

    def __getattr__(self, name: str) -> Any:
        return getattr(_made(), name)


templates = _Templates()
