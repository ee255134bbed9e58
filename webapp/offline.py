"""What the command line does without a server: transcribe one file, list and download models."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks import causes, choosing, models
from tasks.children import ChildDied
from tasks.config import Config
from tasks.db import open_database, prepare_data_folder
from tasks.decode import decode
from tasks.engine.engines import Engines
from tasks.errors import StenoboxError
from tasks.jobs import Stage
from tasks.models import Aligner, Model
from tasks.pipeline import engine_spec
from tasks.planner import Planner
from tasks.scratch import Scratch
from tasks.transcripts import find_format
from tasks.wishes import check_transcription


def transcribe_file(config: Config, file: Path, model: str | None, language: str | None, form: str) -> str:
    """The transcript of a file in a format of `transcripts.FORMATS`. Progress goes to stderr. Raises StenoboxError."""
    form_of = find_format(form)
    params = check_transcription(config, model, language)
    if not file.is_file():
        raise StenoboxError("missing_file", f"There is no file {file}.")
    prepare_data_folder(config)
    found = models.find(config, params.model)
    models.fetch(config, found, on_progress=lambda done, total: _progress(f"downloading {found.name}", done, total))
    engines, stage = Engines(config), Stage.DECODE
    database = open_database(config)
    spec = engine_spec(config, Planner(config, database), found.name, slots=1)
    database.close()
    try:
        engines.warm(spec)
        with Scratch(config, "transcribe") as folder, engines.use(spec, lambda: False) as engine:
            sound = folder / "sound.f32"
            notes = decode(file.absolute(), sound, config.max_seconds).notes

            def find_aligner(code: str) -> tuple[str | None, str | None]:
                aligner = models.aligner(config, found, code)
                return (None, None) if aligner is None else (str(models.fetch(config, aligner)), None)

            def on_progress(now: Stage, progress: float) -> None:
                nonlocal stage
                stage = now
                _progress(_VERBS.get(stage, stage), progress, 1.0)

            answer = engine.transcribe(
                sound,
                params.language,
                on_progress=on_progress,
                find_aligner=find_aligner,
                on_start=lambda cancel: None,
            )
    except ChildDied as death:
        cause = causes.of_death(death, stage)
        raise StenoboxError(cause.code, causes.verdict([cause.code], cause)) from None
    finally:
        engines.stop()
        _progress("", 0, 0)
    by_demo = choosing.DEMO_NOTE if found.name == choosing.DEMO and not model else None
    for sentence in filter(None, (by_demo, answer.note, *notes)):
        print(f"stenobox: {sentence}", file=sys.stderr)
    return form_of.write(answer.transcript)


_VERBS = {Stage.TRANSCRIBE: "transcribing", Stage.ALIGN: "finding word times"}


def list_models(config: Config) -> str:
    """A line a model: name, whether it is here, what it is good for."""
    lines = []
    for model in models.available(config):
        state = "ready" if models.ready(config, model) else f"{model.megabytes} MB to download"
        mark = "*" if model.name == config.model else " "
        lines.append(f"{mark} {model.name:18} {state:22} {model.summary}\n")
    return "".join(lines)


def download_model(config: Config, name: str, languages: str) -> list[Path]:
    """Download a model, and what finds the times of its words in these languages (codes with commas), unless they are
    here. Returns their folders. Raises StenoboxError."""
    model = models.find(config, name)
    wanted: list[Model | Aligner] = [model]
    for code in filter(None, (code.strip() for code in languages.split(","))):
        language = check_transcription(config, name, code).language or ""
        if (aligner := models.aligner(config, model, language)) is None:
            raise StenoboxError("unknown_language", f"Nothing finds the times of single words in {code!r}.")
        wanted.append(aligner)
    prepare_data_folder(config)
    folders = []
    for what in wanted:
        told = f"downloading {what.key}"
        folders.append(models.fetch(config, what, lambda done, total, told=told: _progress(told, done, total)))  # type: ignore[misc]
    _progress("", 0, 0)
    return folders


def _progress(what: str, done: float, total: float) -> None:
    """One line that is written over, for people only."""
    if sys.stderr.isatty():
        text = f"{what} {100 * done / total:.0f} %" if total else ""
        print(f"\r{text:40}\r" if not text else f"\r{text:40}", end="", file=sys.stderr, flush=True)
