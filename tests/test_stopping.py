"""A long job through every way to stop a box: told once, told five times, killed as a whole. It ends as if nothing had
happened, and what was recognized is not recognized again."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from chaos_support import LONG, PATIENCE, ROUNDS, Box, box, dice, ready, speech
from support import SAMPLES, wait_until

pytestmark = pytest.mark.chaos

WAYS = [(signal.SIGTERM, 1, 3.0), (signal.SIGINT, 5, 3.0), (signal.SIGTERM, 5, 30.0), (signal.SIGINT, 1, 30.0)]


class Looker:
    """Asks /readyz all the time, as a load balancer does; what it was told, by time."""

    def __init__(self, of: Box) -> None:
        self.of, self.told = of, list[tuple[float, list[str]]]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Looker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            asked = time.monotonic()
            if (found := ready(self.of.served)) is not None:
                self.told.append((asked, [reason["code"] for reason in found["reasons"]]))

    def first_leaving(self) -> float:
        return next(at for at, codes in self.told if "leaving" in codes)


def stop(of: Box, number: int, times: int, grace: float, job_id: str) -> None:
    """Told so often, it is not ready at once, starts nothing, puts the job back without charge, and leaves in time."""
    waiting = of.served.submit(SAMPLES / "en-u000.flac")["id"]
    with Looker(of) as looker:
        wait_until(lambda: any(codes == [] for _, codes in looker.told), PATIENCE)
        began = time.monotonic()
        for _ in range(times):
            if of.served.process.poll() is None:
                of.served.process.send_signal(number)
                time.sleep(0.02)
        assert of.served.process.wait(grace + 30) == 0, of.said
        took = time.monotonic() - began
    told = looker.first_leaving() - began
    print(
        f"{signal.Signals(number).name} x{times}: not ready after {told:.2f} s, gone after {took:.1f} of {grace:.0f} s"
    )
    assert all("leaving" in codes for at, codes in looker.told if at > looker.first_leaving())
    assert not of.processes()
    for one in (job_id, waiting):
        now = of.row(one)
        assert (now["state"], now["crashes"], now["token"]) == ("queued", 0, None)
    assert of.row(waiting)["attempts"] == 0


@pytest.mark.timeout(900 * ROUNDS)
def test_a_long_job_through_every_way_to_stop(tmp_path: Path) -> None:
    chance = dice()
    source = speech(tmp_path, 2)
    with box(tmp_path, STENOBOX_SLOTS="1", STENOBOX_GRACE="3", STENOBOX_LEASE="2") as of:
        whole = of.served.submit(source)
        assert of.served.finish(whole, PATIENCE)["state"] == "completed"
        truth = of.served.transcript(whole).json()
        for _ in range(ROUNDS):
            job_id = of.served.submit(source)["id"]
            ways: list[tuple[Any, int, float] | None] = [*chance.sample(WAYS, 2 if LONG else 1), None]
            chance.shuffle(ways)
            known: list[dict[str, Any]] = []
            for number, way in enumerate(ways):
                # At its beginning, once speech and language are found, and behind the last window.
                with of.held(job_id, "align" if way is ways[-1] else "transcribe", known=(1, 3, 0)[number]):
                    if way is None:
                        of.kill()
                    else:
                        stop(of, way[0], way[1], float(of.variables["STENOBOX_GRACE"]), job_id)
                kept = of.kept(job_id)
                assert kept[: len(known)] == known, "what was known was found again"
                known = kept
                of.variables["STENOBOX_GRACE"] = f"{chance.choice([3, 30])}"
                of.start()
            # The last one stopped it behind the recognizing: all windows are there, and stay the only ones.
            kinds = [entry["type"] for entry in known]
            windows = len(known[1]["windows"])
            assert kinds == ["key", "speech", "language", *["window"] * windows]
            least = []

            def finished(job_id: str = job_id, least: list[float] = least) -> bool:
                now = of.row(job_id)
                if now["state"] == "running" and now["resumed"]:
                    least.append(now["progress"])
                return bool(now["finished_at"])

            wait_until(finished, PATIENCE, every=0.02)
            assert all(progress >= 0.7 for progress in least)
            done = of.served.get(f"/api/v1/jobs/{job_id}").json()
            assert (done["state"], done["crashes"]) == ("completed", 0)
            assert of.served.transcript(done).json() == truth
            assert done["realtime_factor"] > 0
            of.settle()
        accepted = {job["id"] for job in of.served.get("/api/v1/jobs?limit=200").json()["jobs"]}
        assert of.served.stop(seconds=60) == 0
        of.must_be_whole(accepted)


FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="slow.wav"\r\n\r\n'


@pytest.mark.parametrize("way", ["form", "raw", "tus"])
def test_what_is_being_sent_when_it_stops_is_refused_or_broken_and_never_half_kept(tmp_path: Path, way: str) -> None:
    with box(tmp_path, STENOBOX_GRACE="3") as of:
        sent = threading.Event()

        def slowly() -> Any:
            yield (FORM if way == "form" else b"") + bytes(100_000)
            sent.set()
            for _ in range(600):
                time.sleep(0.05)
                yield b"\0"

        method, path, headers = "POST", "/api/v1/transcriptions", {"Content-Type": "multipart/form-data; boundary=x"}
        if way == "raw":
            method, path, headers = "PUT", "/api/v1/transcriptions/slow.wav", {}
        if way == "tus":
            created = {"Tus-Resumable": "1.0.0", "Upload-Length": "200000"}
            path = httpx.post(of.served.url + "/api/v1/uploads", headers=created).headers["Location"]
            method, headers = "PATCH", {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
            headers["Tus-Resumable"] = "1.0.0"
        answers: list[Any] = []

        def send() -> None:
            try:
                url = httpx.URL(of.served.url).join(path)
                answers.append(httpx.request(method, url, content=slowly(), headers=headers, timeout=60))
            except httpx.TransportError as error:
                answers.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        assert sent.wait(PATIENCE)
        wait_until(lambda: of.count("state = 'receiving'") == 1, PATIENCE)
        assert of.served.stop(seconds=60) == 0
        thread.join(60)
        assert not thread.is_alive()
        (told,) = answers
        print(way, told)
        if not isinstance(told, httpx.TransportError):  # a client that still writes may miss the answer
            assert (told.status_code, told.json()["error"]["code"]) == (503, "draining")
            assert int(told.headers["Retry-After"]) > 0
        of.start()
        wait_until(lambda: (found := ready(of.served)) is not None and not found["reasons"], PATIENCE)
        if way == "tus":  # it goes on from what was written
            url = httpx.URL(of.served.url).join(path)
            there = httpx.head(url, headers={"Tus-Resumable": "1.0.0"}).headers["Upload-Offset"]
            rest = httpx.patch(url, content=bytes(200_000 - int(there)), headers=headers | {"Upload-Offset": there})
            assert (rest.status_code, rest.headers["Upload-Offset"]) == (204, "200000")
        else:
            assert of.count("1") == 0
            assert list((of.data / "media").iterdir()) == []
