"""The child: yt-dlp behind `egress`. One request as JSON on stdin, answers as JSON lines on stdout.

yt-dlp reads playlists, pages and manifests that strangers wrote, so everything it could do besides dialling public web
servers is closed before it sees any: other programs, local sockets, native libraries, its own configuration, plugins,
cache, cookies and passwords, and files that grow beyond the limit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks import children, disk, egress
from tasks.links.about import about, clean, file_title, plain, seconds
from tasks.links.faults import Fault, code_of, for_log, written_errors

FILE = "media"
"""Name of what is fetched, in the folder that this process was started in."""
MEMORY_BYTES = 768 * 1024**2
"""Of this process, and of deno, which does not start below 640 MiB. A usual link takes 60; two downloads and two looks
may run beside the engine."""
TIMEOUT_SECONDS = 20
"""How long a server may be silent."""
TOLD_SECONDS = 0.5
MOST_TOLD = 20
PROTOCOLS = ("http", "https", "m3u8", "m3u8_native", "http_dash_segments")
MOST_MANIFEST = 16 * 1024**2
_LISTS = ("Tab", "Playlist", "Channel", "User", "Album", "Show", "Season", "Series")


def main() -> None:
    children.die_with_parent()
    task: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    rules = egress.Rules(egress.read_allowed(task["allow"]))
    runtime = Path(sysconfig.get_path("scripts")) / "deno"
    deno = str(runtime) if os.access(runtime, os.X_OK) else None
    import yt_dlp  # before the door closes: it loads native libraries

    if sys.platform == "linux":  # a page can be endless
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (task["max_bytes"] + 65_536,) * 2)
    egress.arm(rules, deno, Refused().tell)
    try:
        with yt_dlp.YoutubeDL(_options(task, deno)) as ydl:
            child = Child(ydl, task, rules)
            _say(**(child.fetch() if task["do"] == "fetch" else child.look()))
    except Fault as fault:
        _say(fault=[fault.code, fault.sentence])
    except MemoryError:
        _say(fault=["unsupported_link", ""])
    except Exception as error:
        found = _fault(error)
        _say(fault=[found.code, found.sentence], detail=for_log(str(error)))


def _options(task: dict[str, Any], deno: str | None) -> dict[str, Any]:
    return {
        "quiet": True, "noprogress": True, "logger": _Silent(), "color": {"stdout": "never", "stderr": "never"},
        # The best sound alone; where there is none, the whole of a picture that is not too large.
        "format": "ba/b[height<=?720]/w",
        "outtmpl": {"default": FILE}, "overwrites": True, "continuedl": False, "updatetime": False,
        "noplaylist": True, "extract_flat": "in_playlist", "playlist_items": f"1:{task['most']}",
        "socket_timeout": TIMEOUT_SECONDS, "retries": 3, "fragment_retries": 3, "extractor_retries": 1,
        "skip_unavailable_fragments": False, "hls_prefer_native": True, "fixup": "never",
        "ffmpeg_location": "/nonexistent", "postprocessors": [],
        "allowed_extractors": ["default"] if task["generic"] else ["default", "-generic"],
        "js_runtimes": {"deno": {"path": deno}} if deno else {}, "remote_components": set(),
        # Nothing of this machine: no proxy, no cache, no cookies, no passwords, no files, no plugins.
        "proxy": "", "cachedir": False, "usenetrc": False, "cookiefile": None, "cookiesfrombrowser": None,
        "enable_file_urls": False, "external_downloader": {}, "allow_unplayable_formats": False,
    }  # fmt: skip


class Child:
    """One request."""

    def __init__(self, ydl: Any, task: dict[str, Any], rules: egress.Rules) -> None:
        self._ydl, self._task, self._rules = ydl, task, rules
        self._told = 0.0
        self._files: dict[str, str] = {}
        urlopen = ydl.urlopen

        def noting(request: Any) -> Any:
            answer = urlopen(request)
            self._files[answer.url] = str(answer.headers.get("Content-Disposition") or "")
            return answer

        ydl.urlopen = noting

    def fetch(self) -> dict[str, Any]:
        """The sound of the one recording at this link, in FILE."""
        info = self._single(self._extract(self._task["url"]))
        self._check(info)
        self._ydl.add_progress_hook(self._progress)
        if not self._ydl.dl(FILE, info)[0] or not os.path.getsize(FILE):  # noqa: PTH202
            raise Fault("unreachable")
        return {"fetched": about(info)}

    def look(self) -> dict[str, Any]:
        """What is at this link: one recording, or a list of them."""
        info = self._extract(self._task["url"])
        entries = self._entries(info)
        most = self._task["most"] - 1
        items = [item for entry in entries[:most] if (item := self._item(entry))]
        if not items:
            raise Fault("unsupported_link")
        whole = {"title": clean(info.get("title")), "several": info.get("_type") == "playlist" and len(items) > 1}
        return {"found": whole | {"items": items, "more": len(entries) > most}}

    def _extract(self, url: str, **options: Any) -> dict[str, Any]:
        self._check_host(url)
        info: dict[str, Any] | None = self._ydl.extract_info(url, download=False, **options)
        if not info:
            raise Fault("unsupported_link")
        if info.get("extractor_key") == "HTML5MediaEmbed":  # a page's only player, which yt-dlp numbers all the same
            info["title"] = str(info.get("title") or "").removesuffix(" (1)")
        if info.get("direct") and (title := file_title(self._files.get(str(info.get("url")), ""))):
            info["title"] = title  # else it is called after the address, which often ends in "download"
        if webpage := info.get("webpage_url"):
            self._check_host(webpage)  # where redirects and embeds have led
        return info

    def _check_host(self, url: str) -> None:
        hosts = self._task["hosts"]
        if hosts and not egress.is_listed(urlsplit(url).hostname or "", hosts):
            raise Fault("host_not_allowed")

    def _entries(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        """The recordings at a link, lists in a list (as a channel's tabs are) opened once."""
        if info.get("_type") != "playlist":
            return [info]
        found: list[dict[str, Any]] = []
        for entry in info.get("entries") or []:
            if len(found) >= self._task["most"]:
                break
            if entry and entry.get("_type") == "url" and str(entry.get("ie_key") or "").endswith(_LISTS):
                with contextlib.suppress(self._ydl_error()):
                    found += [one for one in self._extract(entry["url"]).get("entries") or [] if one]
            elif entry:
                found.append(entry)
        return found[: self._task["most"]]

    def _ydl_error(self) -> type[Exception]:
        import yt_dlp

        error: type[Exception] = yt_dlp.utils.YoutubeDLError
        return error

    def _single(self, info: dict[str, Any]) -> dict[str, Any]:
        entries = self._entries(info)
        if len(entries) > 1:
            raise Fault("several_recordings")
        if not entries:
            raise Fault("unsupported_link")
        only = entries[0]
        if only.get("_type") in ("url", "url_transparent"):
            return self._single(self._extract(only["url"]))
        return only

    def _item(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        # An entry that is whole already has no page of its own: its media's address is its link.
        whole = entry.get("_type", "video") == "video"
        url = entry.get("url") if not whole else entry.get("original_url") or entry.get("webpage_url")
        if whole and entry.get("playlist"):
            url = entry.get("manifest_url") or entry.get("url")
        if not isinstance(url, str) or egress.fault(url, self._rules):
            return None
        return {
            "url": plain(url),
            "title": clean(entry.get("title") or entry.get("id") or url),
            "seconds": seconds(entry.get("duration")),
            "live": entry.get("live_status") in ("is_live", "is_upcoming") or bool(entry.get("is_live")),
        }

    def _check(self, info: dict[str, Any]) -> None:
        """What can be known before a byte of it has come."""
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise Fault("live_stream")
        if info.get("has_drm") or not info.get("url") or info.get("protocol") not in PROTOCOLS:
            raise Fault("unsupported_link")
        length = seconds(info.get("duration"))
        if str(info["protocol"]).startswith("m3u8"):
            length = self._manifest_seconds(info)
        if length and length > self._task["max_seconds"]:
            raise Fault("too_long", self._task["too_long"])
        if (info.get("filesize") or 0) > self._task["max_bytes"]:
            raise Fault("too_large", self._task["too_large"])

    def _manifest_seconds(self, info: dict[str, Any]) -> float:
        """The length that a manifest adds up to. One without an end is live: what it lists now is only a window."""
        import yt_dlp

        request = yt_dlp.networking.Request(info["url"], headers=info.get("http_headers") or {})
        text = self._ydl.urlopen(request).read(MOST_MANIFEST).decode("utf-8", "ignore")
        if "#EXT-X-ENDLIST" not in text and "#EXT-X-PLAYLIST-TYPE:VOD" not in text:
            raise Fault("live_stream")
        total = 0.0
        for line in text.splitlines():
            if line.startswith("#EXTINF:"):
                with contextlib.suppress(ValueError):
                    total += max(0.0, float(line[8:].split(",")[0]))
        return total

    def _progress(self, at: dict[str, Any]) -> None:
        done = int(at.get("downloaded_bytes") or 0)
        if done > self._task["max_bytes"]:
            raise Fault("too_large", self._task["too_large"])
        now = time.monotonic()
        if now - self._told < TOLD_SECONDS:
            return
        self._told = now
        if shutil.disk_usage(".").free < self._task["spare_bytes"]:
            raise Fault("disk_full", "The disk of this box filled up. Free some space and try again.")
        total = int(at.get("total_bytes") or at.get("total_bytes_estimate") or 0)
        _say(progress={"bytes": done, "total": total or None, "bytes_per_second": round(at.get("speed") or 0)})


def _fault(error: BaseException) -> Fault:
    """The innermost of our own, or what the outermost says."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, Fault):
            return cause
        inner = getattr(cause, "exc_info", None)  # yt-dlp's DownloadError keeps what it stands for there
        cause = (
            (inner[1] if inner and inner[1] is not cause else None) or getattr(cause, "cause", None) or cause.__cause__
        )
    numbers = {one.errno or 0 for one in seen if isinstance(one, OSError)} | written_errors(str(error))
    if errno.EFBIG in numbers:  # the limit on files
        return Fault("too_large", "")
    for number in numbers & {*disk.FULL, errno.EROFS, errno.EIO}:  # others are the network's, or the guard's
        refusal = disk.refusal(OSError(number, os.strerror(number)))
        if refusal:
            return Fault(refusal.code, refusal.message)
    statuses = [status for one in seen if isinstance(status := getattr(one, "status", None), int)]
    kinds = [type(one).__name__ for one in seen if type(one).__name__ not in ("DownloadError", "ExtractorError")]
    return Fault(code_of(str(error), statuses[0] if statuses else None, kinds[0] if kinds else ""))


class Refused:
    """Tells the parent where something led that it may not: each address once, and not endlessly many."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, where: str) -> None:
        if where not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(where)
            _say(refused=where)


class _Silent:
    """yt-dlp's own words go nowhere: they hold URLs with their queries."""

    def debug(self, message: str) -> None: ...

    info = warning = error = debug


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")  # in one piece: several threads may
    sys.stdout.flush()


if __name__ == "__main__":
    main()
