"""A web site on loopback with every kind of link, and servers that nobody may reach."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import media_files

SECONDS = len(media_files.sound()) / media_files.RATE


@cache
def media(kind: str) -> bytes:
    with TemporaryDirectory() as folder:
        return media_files.make(Path(folder) / f"a.{kind}", media_files.sound()).read_bytes()


class Site:
    """pages: path → (content type, body); what is not there is 404. hits: every path that was asked for."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        site = self
        self.hits: list[str] = []
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        """Content-Disposition, by path."""

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                site.hits.append(self.path)
                if path in site.redirects:
                    self.send_response(302)
                    self.send_header("Location", site.redirects[path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif path in site.statuses:
                    self.send_error(site.statuses[path])
                elif path == "/drip.mp3":
                    self._drip()
                elif path == "/endless.mp3":
                    self._endless()
                else:
                    self._answer(*site.pages.get(path, ("", b"")))

            def _answer(self, kind: str, body: bytes) -> None:
                if not kind:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if disposition := site.headers.get(self.path.partition("?")[0]):
                    self.send_header("Content-Disposition", disposition)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def _drip(self) -> None:
                """Never silent, and never more than a few bytes at once."""
                self.send_response(200)
                self.send_header("Content-Type", "audio/mpeg")
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                try:
                    while not site.closing.wait(0.05):
                        self.wfile.write(bytes(100))
                except OSError:
                    pass

            def _endless(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "audio/mpeg")
                self.end_headers()
                try:
                    while not site.closing.wait(site.pause):
                        self.wfile.write(bytes(65_536))
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            daemon_threads = True

        self.pause = 0.001
        self.closing = threading.Event()
        self.server = Server((host, port), Handler)
        self.host, self.port = host, int(self.server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def allowed(self) -> str:
        """For STENOBOX_EGRESS_ALLOW."""
        return self.url.removeprefix("http://")

    def page(self, path: str, html: str) -> str:
        """Put a page there; its URL."""
        return self.put(path, f"<!doctype html><html><head></head><body>{html}</body></html>".encode(), "text/html")

    def put(self, path: str, body: bytes, kind: str) -> str:
        self.pages[path] = (kind, body)
        return self.url + path

    def hls(self, path: str, segments: list[str], *, ended: bool = True, extra: str = "") -> str:
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:10", extra]
        for segment in segments:
            lines += ["#EXTINF:2.0,", segment]
        lines += ["#EXT-X-ENDLIST"] if ended else []
        return self.put(path, "\n".join(filter(None, lines)).encode(), "application/vnd.apple.mpegurl")


@contextmanager
def site(host: str = "127.0.0.1", port: int = 0) -> Iterator[Site]:
    made = Site(host, port)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.closing.set()
        made.server.shutdown()
        made.server.server_close()


def furnish(made: Site) -> None:
    """The usual pages: a file, a page with a player, one with several, a feed, a playlist in segments."""
    made.put("/talk.mp3", media("mp3"), "audio/mpeg")
    made.put("/other.mp3", media("mp3"), "audio/mpeg")
    made.page("/page.html", '<h1>A talk</h1><title>A talk, with slides</title><video src="/talk.mp3"></video>')
    made.page("/two.html", '<title>Two talks</title><audio src="/talk.mp3"></audio><audio src="/other.mp3"></audio>')
    made.page("/none.html", "<p>Nothing to hear.</p>")
    made.put(
        "/feed.xml",
        f"""<?xml version="1.0"?><rss version="2.0"><channel><title>A podcast</title>
        <item><title>First &lt;b&gt;episode&lt;/b&gt;</title>
        <enclosure url="{made.url}/talk.mp3" type="audio/mpeg"/></item>
        <item><title>Second</title><enclosure url="{made.url}/other.mp3" type="audio/mpeg"/></item>
        </channel></rss>""".encode(),
        "application/rss+xml",
    )
    whole = media("ts")
    cut = len(whole) // 2 // 188 * 188
    made.put("/hls/0.ts", whole[:cut], "video/mp2t")
    made.put("/hls/1.ts", whole[cut:], "video/mp2t")
    made.hls("/hls/index.m3u8", ["0.ts", "1.ts"])
    made.hls("/hls/live.m3u8", ["0.ts"], ended=False)


def settle(condition: Any, seconds: float = 10) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
