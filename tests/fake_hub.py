"""Enough of the Hugging Face Hub, on loopback, for the real client: point HF_ENDPOINT at `hub.url`.

Small files are answered from `resolve/…` itself, the weights (as on the real Hub, where they lie in LFS) with a
redirect to another address, which does ranges. Every request is written down.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

COMMIT = "d90ca5fe260221311c53c58e660288d3deb8d356"
MAIN = "c0ffee" + COMMIT[6:]
"""What `main` is at."""

_PIECE = 256 * 1024


@dataclass
class FakeHub:
    """repos: files by repository. delay: seconds between two pieces of 256 KiB. asked: (method, path, Range)."""

    repos: dict[str, dict[str, bytes]]
    delay: float = 0.0
    status: int | None = None
    """Answer everything with this instead."""
    refuse: str = ""
    """Answer 500 for this file."""
    stalls: int = 0
    """So many answers with weights end in silence after a megabyte and a half; -1: all, and without a byte."""
    corrupt: bool = False
    """Serve the weights with one byte wrong, once."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/models/{owner}/{name}/revision/{revision}", self._info),
                Route("/{owner}/{name}/resolve/{revision}/{file}", self._resolve),
                Route("/lfs/{owner}/{name}/{file}", self._content),
            ]
        )

    def paths(self, method: str = "GET") -> list[str]:
        return [path for asked_method, path, _ in self.asked if asked_method == method]

    def sent_from(self, file: str) -> list[str | None]:
        """The Range of each request for the content of that file."""
        return [asked for method, path, asked in self.asked if method == "GET" and path.endswith(f"/{file}")]

    def _start(self, request: Request) -> Response | None:
        assert "authorization" not in request.headers, "a token was sent that nobody asked for"
        self.asked.append((request.method, request.url.path, request.headers.get("range")))
        return Response(status_code=self.status) if self.status else None

    def _files(self, request: Request) -> dict[str, bytes] | None:
        return self.repos.get(f"{request.path_params['owner']}/{request.path_params['name']}")

    async def _info(self, request: Request) -> Response:
        if refused := self._start(request):
            return refused
        files = self._files(request)
        if files is None:
            return Response(status_code=404, headers={"X-Error-Code": "RepoNotFound"})
        revision = request.path_params["revision"]
        siblings: list[dict[str, Any]] = []
        for name, data in files.items():
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _hash(data)[:40]}
            if _is_lfs(name):
                sibling["lfs"] = {"sha256": _hash(data), "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        repo = f"{request.path_params['owner']}/{request.path_params['name']}"
        sha = MAIN if revision == "main" else revision
        return JSONResponse({"id": repo, "modelId": repo, "sha": sha, "private": False, "siblings": siblings})

    async def _resolve(self, request: Request) -> Response:
        if refused := self._start(request):
            return refused
        files, name = self._files(request) or {}, request.path_params["file"]
        if name == self.refuse:
            return Response(status_code=500)
        if name not in files:
            return Response(status_code=404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": request.path_params["revision"], "ETag": f'"{_hash(files[name])[:40]}"'}
        if not _is_lfs(name):
            return _body(request, files[name], headers, 0)
        headers["X-Linked-Etag"] = f'"{_hash(files[name])}"'
        headers["X-Linked-Size"] = str(len(files[name]))
        headers["Location"] = f"{self.url}/lfs/{request.path_params['owner']}/{request.path_params['name']}/{name}"
        return Response(status_code=302, headers=headers)

    async def _content(self, request: Request) -> Response:
        if refused := self._start(request):
            return refused
        data = (self._files(request) or {})[request.path_params["file"]]
        if self.corrupt:
            self.corrupt = False
            data = bytes([data[0] ^ 1]) + data[1:]
        silent_from = None
        if self.stalls and request.method == "GET":
            silent_from = 0 if self.stalls < 0 else 6
            self.stalls = max(self.stalls - 1, -1)
        return _body(request, data, {}, self.delay, silent_from)


def _body(
    request: Request, data: bytes, headers: dict[str, str], delay: float, silent_from: int | None = None
) -> Response:
    """silent_from: after so many pieces nothing more is sent, and the connection stays."""
    start, status, whole = 0, 200, len(data)
    if asked := request.headers.get("range"):
        start, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
        headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
    headers["Content-Length"] = str(whole - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)

    async def pieces() -> AsyncIterator[bytes]:
        for number, at in enumerate(range(start, whole, _PIECE)):
            if number == silent_from:
                await anyio.sleep_forever()
            yield data[at : at + _PIECE]
            await anyio.sleep(delay)

    return StreamingResponse(pieces(), status, headers)


def _is_lfs(name: str) -> bool:
    return name.endswith((".bin", ".safetensors"))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_of(folder: Path, padding: int = 0) -> dict[str, bytes]:
    """The folder's files. padding: bytes more in model.bin, for tests that need a download that takes a while."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if padding:
        files["model.bin"] += bytes(i * 7919 >> 8 & 0xFF for i in range(4096)) * (padding // 4096)
    return files


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve it from a thread until the block ends."""
    server = uvicorn.Server(uvicorn.Config(hub.app(), port=0, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    hub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
