"""What is on this box: packaged, downloaded, or put there by the operator.

    <data>/models/<name>/            a Whisper model in CTranslate2 form: model.bin, config.json, tokenizer.json, …
    <data>/models/aligners/<lang>/   a wav2vec2 model in Hugging Face form: config.json, vocab.json, weights, …

A folder is either complete or has another name (`….partial`), so presence means ready.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models.catalogue import ALIGNERS, CATALOGUE, DEMO, LANGUAGES, Aligner, Model

DEMO_FOLDER = Path(__file__).parent.parent / "demo"
NLTK_DATA = DEMO_FOLDER / "nltk_data"
"""For the environment of the process that aligns: WhisperX asks nltk for a sentence splitter at run time."""
SAMPLE = DEMO_FOLDER / "sample.flac"
"""Four seconds of English that the demo model knows: "five light play please next next water open"."""

BY_SIZE = ("demo", "tiny", "base", "small", "turbo", "medium", "large-v3")
"""Models that advice names, the smallest first."""

PARTIAL = ".partial"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def find(config: Config, name: str) -> Model:
    """The model of that name: from the catalogue, or the operator's own folder.

    Raises StenoboxError unknown_model with the names there are.
    """
    model = CATALOGUE.get(name) or _own(config, name)
    if model is None:
        names = ", ".join(model.name for model in available(config))
        raise StenoboxError("unknown_model", f"There is no such model. There are: {names}.", param="model")
    return model


def available(config: Config) -> list[Model]:
    """Every model a job can name, whether on this box already or to be downloaded; the operator's own come last."""
    try:
        names = sorted(entry.name for entry in config.models.iterdir() if entry.name not in CATALOGUE)
    except OSError:
        names = []
    own = (_own(config, name) for name in names)
    return [*CATALOGUE.values(), *(model for model in own if model)]


def aligner(config: Config, model: Model, language: str) -> Aligner | None:
    """What finds the word times of this model's text, or None where nothing can: then only segments have times."""
    if model is DEMO:
        return Aligner(language, None, None, 0, packaged=True) if language in DEMO.languages else None
    if language in ALIGNERS:
        return ALIGNERS[language]
    own = Aligner(language, None, None, 0)
    return own if language in LANGUAGES and ready(config, own) else None


def folder(config: Config, what: Model | Aligner) -> Path | None:
    """Where its files are, or None when it isn't on this box."""
    path = place(config, what)
    weights = ("model.bin",) if isinstance(what, Model) else _WEIGHTS
    complete = any(_is_readable(path / name) for name in weights)
    return path if complete and _is_readable(path / "config.json") else None


def _is_readable(path: Path) -> bool:
    """Whether it is a file of which something can be had: what this user may not read is as good as not there."""
    return os.access(path, os.R_OK) and path.is_file()


def closed(config: Config) -> list[Path]:
    """What lies in the folder of models and can't be read by this user: a model that root has put there."""
    found = []
    for folder in (config.models, config.models / "aligners"):
        try:
            entries = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            found.append(folder)
            continue
        models = (entry for entry in entries if entry.name != "aligners" and not entry.name.startswith("."))
        found += [entry for entry in models if _is_closed(entry)]
    return found


def _is_closed(entry: Path) -> bool:
    try:
        return entry.is_dir() and not all(os.access(path, os.R_OK) for path in (entry, *entry.iterdir()))
    except PermissionError:
        return True


def aligner_bytes(config: Config) -> int:
    """Weights of the largest aligner on this box: of those that jobs here have needed. 0 where there is none."""
    sizes = [0]
    for path in (config.models / "aligners").glob("*/*"):
        if path.name in _WEIGHTS:
            with contextlib.suppress(OSError):
                sizes.append(path.stat().st_size)
    return max(sizes)


def ready(config: Config, what: Model | Aligner) -> bool:
    """Whether it can be used without a network."""
    return folder(config, what) is not None


def place(config: Config, what: Model | Aligner) -> Path:
    """Where its files belong, whether or not they are there."""
    if isinstance(what, Model):
        return DEMO_FOLDER / "whisper" if what is DEMO else config.models / what.name
    return DEMO_FOLDER / "aligner" if what.packaged else config.models / "aligners" / what.language


def sentence_splitters(config: Config) -> Path:
    """Where WhisperX's aligner finds nltk's data: a private copy in the data folder.

    nltk refuses data that other users could change, as the package's files are in a checkout made with umask 002.
    """
    target = config.models / ".cache" / "nltk_data"
    for source in NLTK_DATA.rglob("*"):
        copy = target / source.relative_to(NLTK_DATA)
        if source.is_file() and not copy.is_file():
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o600)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o700)
    return target


def _own(config: Config, name: str) -> Model | None:
    """The operator's own model of that name, if the name is a plain one and its folder holds one."""
    if not _NAME.fullmatch(name) or name.endswith(PARTIAL):
        return None
    title = f"{name} (your own)"
    model = Model(name, None, None, 0, LANGUAGES, title, "A model that you put into the models folder yourself.")
    return model if ready(config, model) else None
