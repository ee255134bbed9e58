"""`stenobox bench`: how many recordings this box should transcribe at once, measured on the engine itself."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
import wave
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import devices, machine, models, store, trial
from tasks.config import KEY, Config
from tasks.costs import Cost, Kind, Record, estimate, numbers, prior, windows
from tasks.db import Database, open_database, prepare_data_folder
from tasks.engine import probe
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError
from tasks.jobs import FINISHED
from tasks.planner import Planner
from tasks.scratch import Scratch
from tasks.slots import MOST_SLOTS, Plan
from tasks.synthetic import synthetic
from webapp.client import Client, Refused, Unreachable
from webapp.figures import Row, as_data, best, columns, mib, plot, row_of, table

CHECKED = ("tiny", "base", "small")
CHECKED_SECONDS = (30.0, 120.0)
CHECKED_BATCHES = (1, 4)
LEARNED = 3
"""Jobs of a kind after which its estimate must be good."""
MOST_CLIENTS = 1000
WORST = (
    "Random weights of the model's true size: memory and the work a token are the model's own, but they never say that "
    "they are done, so each window of 30 s takes 448 tokens where speech takes about 100. Times are the worst case; "
    "there is no search for word times."
)


def run(config: Config, options: argparse.Namespace) -> int:
    """What the command does; prints as it goes. Raises StenoboxError."""
    if not 1 <= options.seconds <= config.max_seconds:
        raise StenoboxError("invalid_value", f"--seconds must be from 1 to {config.max_seconds:.0f}.")
    most = MOST_CLIENTS if options.against else MOST_SLOTS
    if options.concurrent is not None and not 1 <= options.concurrent <= most:
        raise StenoboxError("invalid_value", f"--concurrent must be from 1 to {most}.")
    for target in filter(None, (options.json, options.svg)):
        _check_target(target)
    prepare_data_folder(config)
    with Scratch(config, "bench") as folder:
        sound = folder / "sound.f32"
        trial.make_sound(sound, options.seconds)
        if options.against:
            return _against(options, sound)
        if options.check_costs:
            return _check_costs(config, options, folder)
        database = open_database(config)
        try:
            return _measure(config, database, options, sound)
        finally:
            database.close()


def _check_target(path: Path) -> None:
    """Whether a file can be written there: said before an hour of measuring, not after it. Raises StenoboxError."""
    folder, wrong = path.absolute().parent, ""
    if path.is_dir():
        wrong = "it is a folder"
    elif not folder.is_dir():
        wrong = f"there is no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        wrong = "you may not write there"
    if wrong:
        raise StenoboxError("invalid_value", f"{path} can't be written: {wrong}. Nothing was measured.")


# On the engine


def _measure(config: Config, database: Database, options: argparse.Namespace, sound: Path) -> int:
    planner = Planner(config, database)
    name = options.model or planner.limits().model
    plan, cpus = planner.plan(name), machine.cpus(stated=config.cpus).count
    with _model(config, name, options.synthetic) as (folder, aligner, made):
        if made:
            print(WORST)
        probe.ensure(config)
        on = devices.find(config)
        device, compute_type = on.recognition, on.compute_type
        kind = Kind(name, numbers(device, compute_type), windows(plan.batch, options.seconds), aligner is not None)
        cost = estimate(kind, [] if made else store.records(database, name))
        print(on.why)
        where = f"{name} on {device} ({compute_type}), {cpus} CPUs, batch {plan.batch}"
        print(f"{where}, recordings of {options.seconds:.0f} s")
        rows: list[Row] = []
        for slots in _numbers(options, plan):
            threads = max(1, cpus // slots)
            spec = Spec(name, str(folder), device, compute_type, slots, threads, plan.batch, on.alignment)
            with trial.engine_of(config, spec) as engine:
                found = trial.run(engine, sound, aligner)
            rows.append(row_of(found, cost.base + cost.load + slots * cost.job))
            print(f"  {slots} at once: {found.wall:.1f} s", flush=True)
            if best(rows).at_once < slots:
                break  # the CPU says stop
    print(table(rows), end="")
    chosen = best(rows)
    if options.test_all:
        print(f"Best: {chosen.at_once} at once, {chosen.files_an_hour:.1f} files of ten minutes an hour.")
        print(f"Memory holds {plan.maximum}; the arithmetic recommends {plan.recommended}.")
    _write(options, {"model": name, "synthetic": made, "best": chosen.at_once, "rows": as_data(rows)})
    if options.svg:
        options.svg.write_text(plot(rows, f"{name}, recordings of {options.seconds:.0f} s"), encoding="utf-8")
    if options.apply:
        store.change_limits(database, planner.first(), {"slots": chosen.at_once}, "bench")
        print(f"Stored: this box now runs {chosen.at_once} at once.")
    return 0


@contextmanager
def _model(config: Config, name: str, random: bool) -> Iterator[tuple[Path, Path | None, bool]]:
    """Folder of the model, folder of its aligner for English or None, whether the model was made on the spot."""
    found = models.find(config, name)
    folder = models.folder(config, found)
    if folder and not random:
        aligner = models.aligner(config, found, "en")
        yield folder, models.folder(config, aligner) if aligner else None, False
    else:
        with synthetic(config, name) as made:
            yield made, None, True


def _numbers(options: argparse.Namespace, plan: Plan) -> list[int]:
    """How many at once to try: those asked for, or 1, 2, 4, … as far as memory goes."""
    if not options.test_all:
        return [options.concurrent or 1]
    most = max(1, min(plan.maximum, options.concurrent or MOST_SLOTS))
    return [2**power for power in range(int(math.log2(most)) + 1)]


def _write(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    if options.json:
        options.json.write_text(json.dumps({"seconds": options.seconds, **figures}, indent=1) + "\n", encoding="utf-8")


# The cost model against the truth


def _check_costs(config: Config, options: argparse.Namespace, folder: Path) -> int:
    """Predicted against measured: before any job, and after LEARNED of the kind. A job runs alone, as most do."""
    cells: list[dict[str, Any]] = []
    print(WORST)
    for name in (options.model,) if options.model else CHECKED:
        with synthetic(config, name) as model:
            records: list[Record] = []
            for batch in CHECKED_BATCHES:
                spec = Spec(name, str(model), "cpu", "int8", 1, machine.cpus(stated=config.cpus).count, batch)
                with trial.engine_of(config, spec) as engine:
                    for seconds in CHECKED_SECONDS:
                        sound = folder / "checked.f32"
                        trial.make_sound(sound, seconds)
                        kind = Kind(name, "int8", windows(batch, seconds), False)
                        for _ in range(LEARNED):
                            _learn(records, kind, trial.run(engine, sound, None))
                        learned = estimate(kind, records)
                        last = trial.run(engine, sound, None)
                        _learn(records, kind, last)
                        cells.append(_cell(name, batch, seconds, prior(kind), learned, records[0]))
                        print(f"  {name}, batch {batch}, {seconds:.0f} s: {last.wall:.0f} s a job", flush=True)
    heads = ("model", "batch", "seconds", "predicted first", "learned", "measured", "error first", "error", "of engine")
    lines = [
        (
            cell["model"],
            str(cell["batch"]),
            f"{cell['seconds']:.0f}",
            *(mib(cell[name]) for name in ("first", "learned", "measured")),
            *(f"{cell[name]:+.0%}" for name in ("error_first", "error", "error_of_engine")),
        )
        for cell in cells
    ]
    print(columns([heads, *lines]), end="")
    for name, text in (("error_first", "before any job"), ("error", f"after {LEARNED}"), ("error_of_engine", "of all")):
        print(f"median error {text}: {statistics.median(abs(cell[name]) for cell in cells):.1%}")
    _write(options, {"cells": cells})
    return 0


def _learn(records: list[Record], kind: Kind, found: trial.Trial) -> None:
    usage = found.usages[0]
    records.insert(0, Record(kind, usage.base, usage.load, usage.job))


def _cell(model: str, batch: int, seconds: float, first: Cost, learned: Cost, last: Record) -> dict[str, Any]:
    whole = last.base + last.load + last.job
    return {
        "model": model,
        "batch": batch,
        "seconds": seconds,
        "first": first.job,
        "learned": learned.job,
        "measured": last.job,
        "error_first": first.job / last.job - 1,
        "error": learned.job / last.job - 1,
        "error_of_engine": (learned.base + learned.load + learned.job) / whole - 1,
    }


# As a client


def _against(options: argparse.Namespace, sound: Path) -> int:
    """Send so many at once; say what was admitted, what was refused and how long each took."""
    recording = sound.with_name("bench.wav")
    _as_wav(sound, recording)
    number = options.concurrent or 1
    began = time.monotonic()

    def one(_: int) -> dict[str, Any]:
        with Client(options.against, os.environ.get(KEY, "")) as client:
            try:
                job = client.submit(recording, options.model)
            except Refused as refused:
                answered = time.monotonic() - began
                return {"outcome": refused.code, "answered": answered, "wait": refused.wait, "done": None}
            answered = time.monotonic() - began
            while job["state"] not in FINISHED:
                time.sleep(0.5)
                job = client.job(job["id"])
            return {"outcome": job["state"], "answered": answered, "wait": None, "done": time.monotonic() - began}

    try:
        with ThreadPoolExecutor(number) as threads:
            answers = list(threads.map(one, range(number)))
    except Unreachable as silence:
        raise StenoboxError("internal", str(silence)) from None
    print(report(answers, options.seconds), end="")
    _write(options, {"against": options.against, "answers": answers})
    return 0


def report(answers: list[dict[str, Any]], seconds: float) -> str:
    """Lines for people: counts by outcome, times, and the speed of the box."""
    done = sorted(answer["done"] for answer in answers if answer["done"] is not None)
    refused = [answer for answer in answers if answer["done"] is None]
    lines = [f"{len(done)} admitted, {len(refused)} refused of {len(answers)} sent at once."]
    for outcome in sorted({answer["outcome"] for answer in answers}):
        lines.append(f"  {outcome}: {sum(answer['outcome'] == outcome for answer in answers)}")
    if refused:
        waits = [answer["wait"] for answer in refused if answer["wait"] is not None]
        slowest = max(answer["answered"] for answer in refused)
        told = f"Retry-After {min(waits)} to {max(waits)} s" if waits else "without Retry-After"
        lines.append(f"Refused within {slowest:.2f} s, {told}.")
    if done:
        speed = len(done) * seconds / done[-1]
        times = (
            f"First done after {done[0]:.1f} s, half after {statistics.median(done):.1f} s, all after {done[-1]:.1f} s"
        )
        lines.append(f"{times}: {speed:.2f}× real time, {3600 * speed / 600:.1f} files of ten minutes an hour.")
    return "\n".join(lines) + "\n"


def _as_wav(sound: Path, target: Path) -> None:
    samples = array("f", sound.read_bytes())
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(array("h", (round(max(-1.0, min(1.0, value)) * 32767) for value in samples)).tobytes())
