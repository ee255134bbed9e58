"""No accepted job is lost and none is done twice, whoever is killed, whenever: real processes, kill -9, a seed."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import media_files
import pytest
from chaos_support import LONG, PATIENCE, ROUNDS, Box, Watch, box, dice
from support import SAMPLES, wait_until

from tasks.jobs import MAX_CRASHES

pytestmark = pytest.mark.chaos

SUBMISSIONS, THREADS, SLOTS = 200 if LONG else 80, 8, 2
KILLS = 20 if LONG else 6
"""Victims, each after a random delay, and then the whole tree."""


def submit_all(of: Box, sources: list[Path], over: threading.Event) -> tuple[list[str], Counter[str]]:
    """Post every source, again and again until it is accepted; the ids, and what else was answered."""
    accepted: list[str] = []
    answers: Counter[str] = Counter()

    def one(source: Path) -> None:
        while True:
            try:
                with source.open("rb") as file:
                    answer = of.served.post("/api/v1/transcriptions", files={"file": (source.name, file)})
                if answer.status_code == 202:
                    accepted.append(answer.json()["id"])
                    return
                assert answer.status_code in (429, 503), answer.text
                answers[str(answer.status_code)] += 1
            except httpx.TransportError as error:  # the web is dead: the client can't know whether it was accepted
                answers[type(error).__name__] += 1
            assert not over.wait(0.3)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, sources))
    return accepted, answers


def kill_some(of: Box, chance: random.Random) -> Counter[str]:
    """kill -9 the worker, the engine, a decoder or the web at random moments, each once at least, at last the tree."""
    killed: Counter[str] = Counter()
    kinds = ["tasks.engine.child", "worker", "web", "tasks.decode.child"]
    victims = kinds + chance.choices(kinds, weights=[4, 3, 2, 2], k=KILLS - len(kinds))
    chance.shuffle(victims)
    for victim in victims:
        time.sleep(chance.uniform(0.2, 3))
        end = time.monotonic() + (20 if LONG else 6)
        while not (found := of.find(victim)) and time.monotonic() < end:
            time.sleep(0.02)  # a decoder lives for a quarter of a second; the others are being started again
        for process in found:
            try:
                os.kill(process.pid, signal.SIGKILL)
                killed[victim] += 1
            except ProcessLookupError:
                continue
    of.kill()
    killed["tree"] += 1
    of.start()
    return killed


@pytest.mark.timeout(600 * ROUNDS)
def test_no_accepted_job_is_lost_and_none_is_done_twice(tmp_path: Path) -> None:
    began, chance = time.monotonic(), dice()
    short = media_files.plain_wav(tmp_path / "short.wav", media_files.silence(0.05))
    speech = SAMPLES / "de-u020.flac"
    sources = [speech if number % (4 if LONG else 10) == 0 else short for number in range(SUBMISSIONS)]
    with box(tmp_path, STENOBOX_SLOTS=str(SLOTS)) as of:
        over = threading.Event()
        with Watch(of) as watch, ThreadPoolExecutor(2) as pool:
            try:
                submitting = pool.submit(submit_all, of, sources, over)
                killed = pool.submit(kill_some, of, chance).result()
                accepted, answers = submitting.result(PATIENCE)
                of.settle(600)
            finally:
                over.set()
        assert of.served.stop(seconds=60) == 0
        rows = of.must_be_whole(set(accepted))
        said = Counter(re.findall(r"job ([0-9a-f]{32}): completed", of.said))
    states = Counter(row["state"] for row in rows.values())
    crashes = Counter(row["crashes"] for row in rows.values())
    print(f"{time.monotonic() - began:.0f} s; killed {dict(killed)}; the clients saw {dict(answers)}")
    print(f"{len(accepted)} accepted, {len(rows)} jobs, {dict(states)}; jobs by crashes {dict(crashes)}")
    print(f"{watch.looks} looks: at most {watch.most_running} jobs and {watch.most_engines} engine at once")

    assert len(accepted) == len(set(accepted)) == SUBMISSIONS
    assert sum(killed.values()) >= KILLS * 0.6
    for row in rows.values():
        if row["state"] != "completed":
            assert (row["state"], row["crashes"]) == ("failed", MAX_CRASHES)
    assert states["completed"] >= SUBMISSIONS * 0.9
    assert set(said.values()) <= {1}
    # Killed between the deed and the word, in as many threads as there are slots.
    assert states["completed"] - len(said) <= SLOTS * (killed["worker"] + killed["tree"])

    assert 1 <= watch.most_running <= SLOTS
    assert watch.most_engines <= 1


@pytest.mark.timeout(600)
def test_what_dies_each_time_fails_and_the_others_survive(tmp_path: Path) -> None:
    """A poisoned recording: whatever works on it is killed. Those beside it and behind it pay nothing."""
    with box(tmp_path, STENOBOX_SLOTS=str(SLOTS)) as of, Watch(of) as watch:
        poison = of.served.submit(SAMPLES / "en-long2_en_120.flac")["id"]
        others = [of.served.submit(SAMPLES / "en-u000.flac")["id"] for _ in range(4)]
        over = threading.Event()

        def kill_whoever_runs_it() -> None:
            while not over.wait(0.01):
                row = of.row(poison)
                if row["finished_at"]:
                    return
                if row["state"] == "running" and row["stage"] == "transcribe":
                    for process in of.find("tasks.engine.child"):
                        process.kill()
                    wait_until(lambda token=row["token"]: of.row(poison)["token"] != token, PATIENCE)

        killer = threading.Thread(target=kill_whoever_runs_it)
        killer.start()
        try:
            of.settle()
        finally:
            over.set()
            killer.join()
        row = of.row(poison)
        assert (row["state"], row["crashes"]) == ("failed", MAX_CRASHES)
        assert [of.row(one)["state"] for one in others] == ["completed"] * len(others)
        assert all(of.row(one)["crashes"] <= 1 for one in others)  # beside it at its first death, which convicts nobody
        assert of.served.stop(seconds=60) == 0
        of.must_be_whole({poison, *others})
    assert watch.most_running <= SLOTS
    assert watch.most_engines <= 1
