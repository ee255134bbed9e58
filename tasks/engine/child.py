"""The engine process. Started by `process.EngineProcess`; leaves when told to or when its parent is gone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import children, disk, journal, logs, nvidia
from tasks.engine import faults
from tasks.engine.meter import Meter, Metered
from tasks.engine.spec import Spec
from tasks.jobs import Stage
from tasks.slots import MOST_SLOTS

if TYPE_CHECKING:
    from tasks.engine.recognizer import Recognizer

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0


class Canceled(Exception):
    """Raised inside a job's own thread once somebody asked to stop it."""


class Request(Metered):
    """One job inside the engine."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.canceled = threading.Event()
        self.aligner: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()


class Child:
    """Reads requests from the socket, runs each on a thread of its own, answers with events."""

    def __init__(self, connection: socket.socket, spec: Spec) -> None:
        self._connection = connection
        self._spec = spec
        self._sending = threading.Lock()
        self._requests: dict[int, Request] = {}
        # Not spec.slots: the limit may have been raised since, and who counts jobs is the worker.
        self._threads = ThreadPoolExecutor(MOST_SLOTS, thread_name_prefix="job")
        self._recognizer: Future[Recognizer] = Future()
        self._meter = Meter(
            nvidia.watch(os.environ.get("CUDA_VISIBLE_DEVICES")) if spec.device == "cuda" else lambda: 0
        )

    def run(self) -> None:
        """Load the model while requests already come in; return when told to quit."""
        threading.Thread(target=self._load, daemon=True, name="load").start()
        threading.Thread(target=self._beat, daemon=True, name="beat").start()
        for line in self._connection.makefile("rb"):
            message = json.loads(line)
            match message["op"]:
                case "transcribe":
                    request = Request(message["id"])
                    self._requests[request.number] = request
                    self._threads.submit(self._answer, request, message)
                case "cancel" if known := self._requests.get(message["id"]):  # once: it may end meanwhile
                    known.canceled.set()
                    known.aligner.put({"folder": None, "note": None})
                case "aligner" if known := self._requests.get(message["id"]):
                    known.aligner.put(message)
                case "quit":
                    return

    def _load(self) -> None:
        try:
            from tasks.engine.recognizer import Recognizer  # ten seconds and 900 MB

            self._meter.imported()
            recognizer = Recognizer(self._spec, self._meter)
            self._meter.loaded()  # before a job begins, which would be charged for the weights
            self._send(event="ready")
            self._recognizer.set_result(recognizer)
        except Exception as error:
            logger.exception("model %s could not be loaded", self._spec.model)
            code, sentence = self._breakage(error)
            self._send(event="broken", code=code, message=sentence)
            os._exit(1)

    def _breakage(self, error: Exception) -> tuple[str, str]:
        match faults.code(error):
            case "out_of_memory":
                return "out_of_memory", f"{self._memory()} ran out."
            case "device_failed":
                return "device_failed", f"The GPU failed while the model was loaded ({_told(error)})."
        if "compute type" in str(error):
            return "model_missing", (
                f"The model {self._spec.model} can't be computed in {self._spec.compute_type} here ({_told(error)}). "
                "Set STENOBOX_COMPUTE_TYPE=auto, or float32, which every device has."
            )
        return "model_missing", (
            f"The model {self._spec.model} could not be loaded ({_told(error)}). "
            f"If its files are damaged, remove {self._spec.folder} and try again."
        )

    def _memory(self) -> str:
        return "Memory" if self._spec.device == "cpu" else "The GPU's memory"

    def _beat(self) -> None:
        """Say that Python still runs here, and what it holds. Whether the jobs get anywhere, their progress says."""
        with contextlib.suppress(OSError):  # the worker is gone
            while True:
                time.sleep(BEAT_SECONDS)
                self._send(event="beat", held=self._meter.most())

    def _answer(self, request: Request, message: dict[str, Any]) -> None:
        sound, language, kept = Path(message["sound"]), message["language"], message["journal"]

        def on_progress(stage: Stage, progress: float) -> None:
            if request.canceled.is_set():
                raise Canceled
            self._send(event="progress", id=request.number, stage=stage, progress=round(progress, 3))

        def find_aligner(spoken: str) -> tuple[str | None, str | None]:
            self._send(event="aligner", id=request.number, language=spoken)
            with request.waiting():  # for a download, perhaps: that is not work
                answer = request.aligner.get()
            if request.canceled.is_set():
                raise Canceled
            return answer["folder"], answer["note"]

        try:
            recognizer = self._loaded(request)
            with (
                logs.about(sound.parent.name),
                self._meter.metering(request),
                self._journal(kept, sound, language) as found,
            ):
                before = found.seconds
                transcript, note = recognizer.transcribe(
                    sound, language, on_progress, find_aligner, found, message.get("batch") or self._spec.batch
                )
            usage = self._meter.usage(request)
            usage = replace(usage, seconds=round(usage.seconds + before, 3))
            self._send(event="done", id=request.number, transcript=transcript, note=note, usage=asdict(usage))
        except Canceled:
            self._send(event="canceled", id=request.number)
        except Exception as error:
            logger.exception("job %s: the model failed", sound.parent.name)
            code, sentence = self._failure(error)
            self._send(event="failed", id=request.number, code=code, message=sentence)
        finally:
            del self._requests[request.number]

    def _failure(self, error: Exception) -> tuple[str, str]:
        code = faults.code(error)
        if code == "out_of_memory":  # the engine lives on
            return code, f"{self._memory()} ran out."
        if isinstance(error, OSError) and (refusal := disk.refusal(error)):
            return refusal.code, refusal.message
        if code == "device_failed":
            return code, f"The GPU failed ({_told(error)})."
        return "internal", (
            f"The model {self._spec.model} failed on this recording ({_told(error)}). Try again, or try another model."
        )

    def _journal(
        self, path: str | None, sound: Path, language: str | None
    ) -> contextlib.AbstractContextManager[journal.Journal]:
        if path is None:
            return contextlib.nullcontext(journal.Journal())
        spec, weights = self._spec, journal.weights(Path(self._spec.folder))
        key = (spec.model, weights, spec.compute_type, spec.device, language, journal.digest(sound), journal.versions())
        return journal.resume(Path(path), journal.Key(*key))

    def _loaded(self, request: Request) -> Recognizer:
        while not request.canceled.is_set():
            with contextlib.suppress(TimeoutError):
                return self._recognizer.result(timeout=0.2)
        raise Canceled

    def _send(self, **message: Any) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._sending:
            self._connection.sendall(data)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def main() -> None:
    children.die_with_parent()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # WhisperX prints notes to itself there
    logs.begin("engine")
    logging.getLogger().setLevel(logging.WARNING)
    descriptor, spec = json.loads(sys.argv[1])
    Child(socket.socket(fileno=descriptor), Spec(**spec)).run()
    os._exit(0)  # native thread pools can hang an orderly exit


if __name__ == "__main__":
    main()
