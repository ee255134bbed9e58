"""The worker's side of one engine process."""

from __future__ import annotations

import itertools
import json
import logging
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks import children, metrics
from tasks.children import ChildDied, KillWatch
from tasks.config import Config
from tasks.engine import patience
from tasks.engine.meter import Usage
from tasks.engine.patience import UNLIMITED, Allowed, Verdict, Vigil
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError
from tasks.jobs import Stage
from tasks.models import sentence_splitters
from tasks.scratch import Scratch

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 3.0
"""A request that doesn't stop by itself within this time is stopped with its engine."""
MOST_FAILURES = 2
"""So many requests in a row that fail inside it, and the engine is taken for broken, whatever the errors say."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """What the engine answers. note: a sentence for the person, or None; usage: what it took."""

    transcript: dict[str, Any]
    note: str | None
    usage: Usage


class Canceled(Exception):
    """The request was stopped because its owner asked."""


@dataclass(slots=True)
class _Asked:
    """A request inside the engine. on_memory is told what the engine holds, in bytes."""

    on_memory: Callable[[int], None]
    inbox: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)


class EngineProcess:
    """A spawned engine. Usable at once: requests wait inside it until the model is loaded."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self.users = 0
        self.idle_since = time.monotonic()
        self.loaded = threading.Event()
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, _Asked] = {}
        self._sending = threading.Lock()
        self._deliberate = False
        self._broken: tuple[str, str] | None = None
        self._failures = 0
        self._hung: Verdict | None = None
        self._cause = "engine_crashed"
        self._victims: frozenset[int] = frozenset()
        self._vigil = Vigil(patience.PATIENCE)
        self._kills = KillWatch()
        self._crash = ""
        self._scratch = Scratch(config, "engine")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = children.spawn(
                "tasks.engine.child",
                json.dumps([theirs.fileno(), asdict(spec)]),
                env=_environment(config, spec) | {"TMPDIR": str(self._scratch.path)},
                pass_fds=[theirs.fileno()],
            )
        self._connection = ours
        self._dead = threading.Event()
        threading.Thread(target=self._listen, daemon=True, name=f"engine-{self.pid}").start()
        threading.Thread(target=self._watch, daemon=True, name=f"watch-{self.pid}").start()
        metrics.engine_started()
        logger.info("engine %d started for model %s, %d slots", self.pid, spec.model, spec.slots)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._dead.is_set() and self._process.poll() is None

    def transcribe(
        self,
        sound: Path,
        language: str | None,
        *,
        on_progress: Callable[[Stage, float], None],
        find_aligner: Callable[[str], tuple[str | None, str | None]],
        on_start: Callable[[Callable[[], None]], None],
        on_memory: Callable[[int], None] = lambda _: None,
        allowed: Allowed = UNLIMITED,
        journal: Path | None = None,
        batch: int | None = None,
    ) -> Recognized:
        """Transcribe a file of samples; see `Recognizer.transcribe`. on_start receives a function that cancels;
        on_memory what the engine holds, in bytes, every second; allowed: how long it may take; journal: where what is
        found is kept for another attempt (see `tasks.journal`), None for nowhere; batch: windows recognized together,
        None for as many as its spec says.

        Raises Canceled, StenoboxError, and ChildDied when the engine died, deliberate if we ended it for the sake of
        others.
        """
        with self._inbox(on_memory, allowed) as (number, inbox):
            kept = str(journal) if journal else None
            self._send(op="transcribe", id=number, sound=str(sound), language=language, journal=kept, batch=batch)
            on_start(lambda: self._cancel(number))
            while True:
                message = inbox.get()
                match message["event"]:
                    case "progress":
                        with self._or_abandon(number, inbox):
                            on_progress(Stage(message["stage"]), message["progress"])
                    case "aligner":
                        with self._or_abandon(number, inbox):
                            folder, note = find_aligner(message["language"])
                        self._vigil.progressed(number)
                        self._send(op="aligner", id=number, folder=folder, note=note)
                    case "done":
                        return Recognized(message["transcript"], message["note"], Usage(**message["usage"]))
                    case "failed":
                        raise StenoboxError(message["code"], message["message"])
                    case "canceled":
                        raise Canceled
                    case "died":
                        raise self._obituary(number)

    def stop(self) -> None:
        """Ask it to leave, and see to it. Returns when it is gone."""
        self._deliberate = True
        self._send(op="quit")
        try:
            self._process.wait(children.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            children.kill(self._process)
        self._dead.wait(children.STOP_SECONDS)  # what it left is removed by whoever heard its last words
        logger.info("engine %d stopped", self.pid)

    def kill(self) -> None:
        """End it at once. What it was running is told that this was deliberate."""
        self._deliberate = True
        children.kill(self._process)
        self._dead.wait(children.STOP_SECONDS)  # as above

    def _cancel(self, number: int) -> None:
        self._send(op="cancel", id=number)

        def insist() -> None:
            if number in self._inboxes:
                logger.warning("engine %d did not cancel within %.0f s; killing it", self.pid, CANCEL_SECONDS)
                self.kill()

        timer = threading.Timer(CANCEL_SECONDS, insist)
        timer.daemon = True
        timer.start()

    @contextmanager
    def _or_abandon(self, number: int, inbox: queue.SimpleQueue[dict[str, Any]]) -> Iterator[None]:
        """The caller fails while the engine works for it: wait until that has ended too, or its thread stays taken."""
        try:
            yield
        except BaseException:
            self._cancel(number)
            while inbox.get()["event"] not in ("done", "failed", "canceled", "died"):
                pass
            raise

    @contextmanager
    def _inbox(
        self, on_memory: Callable[[int], None], allowed: Allowed
    ) -> Iterator[tuple[int, queue.SimpleQueue[dict[str, Any]]]]:
        number, asked = next(self._numbers), _Asked(on_memory)
        self._inboxes[number] = asked
        self._vigil.began(number, allowed)
        if self._dead.is_set():  # it died before anyone would tell this inbox
            asked.inbox.put(self._last_words())
        try:
            yield number, asked.inbox
        finally:
            self._vigil.ended(number)
            del self._inboxes[number]

    def _listen(self) -> None:
        try:
            for line in self._connection.makefile("rb"):
                self._hear(json.loads(line))
        except (OSError, ValueError):  # torn line of a killed engine
            logger.debug("engine %d: connection broke", self.pid, exc_info=True)
        self._process.wait()
        self._cause = "out_of_memory" if self._broken else self._kills.cause(self._process.returncode)
        self._victims = frozenset(self._inboxes)
        self._crash = children.last_words(self._process, "engine")
        self._scratch.close()
        self._dead.set()
        for asked in list(self._inboxes.values()):
            asked.inbox.put(self._last_words())
        self._connection.close()

    def _hear(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "ready":
                self._vigil.ready()
                self.loaded.set()
            case "broken":
                self._broken = message["code"], message["message"]
            case "beat":
                self._vigil.beat()
                for asked in list(self._inboxes.values()):
                    asked.on_memory(message["held"])
            case event:
                self._vigil.progressed(message["id"], waiting=event == "aligner")
                if known := self._inboxes.get(message["id"]):
                    known.inbox.put(message)
                self._judge(event, message.get("code"))

    def _judge(self, event: str, code: str | None) -> None:
        """A broken device fails every recording that comes after: what fails so is ended, and the next one is another.
        What runs beside goes back in line without charge, and goes on from its journal."""
        if event == "done":
            self._failures = 0
        if event != "failed" or code not in ("internal", "device_failed"):
            return
        self._failures += 1
        if code == "device_failed" or self._failures >= MOST_FAILURES:
            logger.error(
                "engine %d: %s; ending it", self.pid, "its device failed" if code != "internal" else "it fails"
            )
            self.kill()

    def _watch(self) -> None:
        """See to it that it gets somewhere. What it runs when it doesn't is told so."""
        before = time.monotonic()
        while not self._dead.wait(patience.TICK_SECONDS):
            now = time.monotonic()
            self._kills.look()
            verdict = self._vigil.tick(now - before, patience.look(self.pid))
            before = now
            if verdict:
                logger.error("engine %d %s; killing it", self.pid, verdict.how)
                self._hung = verdict
                children.kill(self._process)
                return

    def _last_words(self) -> dict[str, Any]:
        if self._broken and self._broken[0] != "out_of_memory":
            code, sentence = self._broken
            return {"event": "failed", "code": code, "message": sentence}
        return {"event": "died"}

    def _obituary(self, number: int) -> ChildDied:
        ending, cause, suspects = children.ending(self._process.returncode), self._cause, self._victims
        if self._hung:
            ending, cause, suspects = self._hung.how, "hung", self._hung.guilty
        return ChildDied(
            "engine",
            ending,
            cause,
            deliberate=self._deliberate or number not in suspects,
            beside=len(suspects) - 1,
            loaded=self.loaded.is_set(),
            crash=self._crash,
        )

    def _send(self, **message: Any) -> None:
        try:
            with self._sending:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # it is gone; _listen tells those who wait
            logger.debug("engine %d takes no more messages", self.pid)


def _environment(config: Config, spec: Spec) -> dict[str, str]:
    cache = str(config.models / ".cache")
    gpu = {}
    if spec.device == "cuda":
        gpu["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML counts, which the arithmetic has asked
    if spec.align_device == "mps":
        gpu["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"  # operators that Apple's GPU lacks run on the CPU
    return children.environment(
        **children.tuning(),
        **gpu,
        OMP_NUM_THREADS=str(spec.threads),
        OMP_WAIT_POLICY="PASSIVE",
        # Nothing is fetched at run time: models come by `models.download`, before.
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        NLTK_DATA=str(sentence_splitters(config)),
        PYANNOTE_METRICS_ENABLED="0",
        ORT_DISABLE_TELEMETRY="1",  # else it makes a device id and reports to Microsoft (onnxruntime 1.32)
        TOKENIZERS_PARALLELISM="false",
        PYTHONWARNINGS="ignore",
        # Whatever a library writes lands in the data folder.
        HF_HOME=cache,
        TORCH_HOME=cache,
        XDG_CACHE_HOME=cache,
        MPLCONFIGDIR=cache,
    )
