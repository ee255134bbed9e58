"""Which engine runs: at most one at a time, shared by all jobs that it serves, replaced when it is free."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tasks import nvidia, proofs
from tasks.config import Config
from tasks.engine.process import Canceled, EngineProcess
from tasks.engine.spec import Spec


class Engines:
    """Hands out the running engine. Jobs that want another one wait their turn until it is free."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._engine: EngineProcess | None = None

    @contextmanager
    def use(self, spec: Spec, stopped: Callable[[], bool]) -> Iterator[EngineProcess]:
        """An engine that fits spec, for as long as the block runs.

        Waits for its turn; `stopped` is asked whenever `wake` was called meanwhile. Raises Canceled once it is true.
        """
        engine = self._take(spec, stopped)
        try:
            yield engine
        finally:
            with self._changed:
                engine.users -= 1
                engine.idle_since = time.monotonic()
                self._changed.notify_all()

    def warm(self, spec: Spec) -> None:
        """Start an engine for a job that will come, unless one is running."""
        with self._changed:
            if self._engine is None or not self._engine.alive:
                self._engine = self._start(spec)

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def leave_if_idle(self) -> None:
        """End the engine when nothing has used it for STENOBOX_ENGINE_IDLE seconds."""
        with self._changed:
            engine = self._engine
            if engine and not engine.users and time.monotonic() - engine.idle_since > self._config.engine_idle:
                self._engine = None
                engine.stop()

    def unload_if_free(self) -> bool:
        """End the engine now unless something uses it. Returns whether there was one to end."""
        with self._changed:
            engine = self._engine
            if engine is None or engine.users or not engine.alive:
                return False
            self._engine = None
            engine.stop()
            return True

    def stop(self) -> None:
        """End the engine, whatever it is doing."""
        with self._changed:
            engine, self._engine = self._engine, None
        if engine:
            engine.kill()

    @property
    def pid(self) -> int | None:
        """The running engine's process id."""
        engine = self._engine
        return engine.pid if engine and engine.alive else None

    def _take(self, spec: Spec, stopped: Callable[[], bool]) -> EngineProcess:
        ticket = object()
        with self._changed:
            self._line.append(ticket)  # first come, first served: a stream of one model must not starve another
            try:
                self._changed.wait_for(lambda: stopped() or (self._line[0] is ticket and self._fits(spec)))
                if stopped():
                    raise Canceled
                engine = self._engine
                if engine is None or not engine.alive or not self._keeps(engine, spec):
                    if engine:
                        engine.stop()  # gone before the next one loads: two models may not fit
                    engine = self._engine = self._start(spec)
                engine.users += 1
                return engine
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _start(self, spec: Spec) -> EngineProcess:
        if spec.device == "cuda":
            held = nvidia.held(os.environ.get("CUDA_VISIBLE_DEVICES"), set())  # ours is gone, or not yet there
            if held is not None:
                proofs.note_others(self._config, held)
        return EngineProcess(self._config, spec)

    def _fits(self, spec: Spec) -> bool:
        engine = self._engine
        return engine is None or not engine.alive or engine.spec.serves(spec) or not engine.users

    def _keeps(self, engine: EngineProcess, spec: Spec) -> bool:
        """Whether this engine is right for it. One that was made for other slots is replaced while nothing uses it:
        a job that waited for that beside a long one would wait for hours."""
        return engine.spec.serves(spec) and (engine.users > 0 or replace(spec, batch=engine.spec.batch) == engine.spec)
