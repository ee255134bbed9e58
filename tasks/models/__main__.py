"""`python -m tasks.models NAME`: download one model and say how it goes, one JSON line at a time."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from tasks import children, logs
from tasks import config as configuration
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models.catalogue import CATALOGUE, Aligner, Model
from tasks.models.downloads import Stalled, download, hub_environment
from tasks.models.library import aligner, find


def main(arguments: list[str]) -> int:
    """Fetch the model (or `aligner:LANGUAGE`) named in arguments, with the configuration of the environment.

    Prints {"done": bytes, "total": bytes} as it goes, then {"ready": folder} or {"error": {code, message,
    stalled}}, stalled where another try may go on.
    """
    children.die_with_parent()
    logs.begin("download")
    parser = argparse.ArgumentParser(prog="python -m tasks.models", description=main.__doc__)
    parser.add_argument("name", help="a model, or aligner:LANGUAGE")
    options = parser.parse_args(arguments)
    config = configuration.from_env()
    os.environ.update(hub_environment(config))
    try:
        what = _parse(config, options.name)
        path = download(config, what, lambda done, total: _say(done=done, total=total), _give_up)
    except StenoboxError as error:
        _say_error(error)
        return 1
    _say(ready=str(path))
    return 0


def _give_up(stalled: Stalled) -> None:
    _say_error(stalled)
    os._exit(1)  # another thread waits for bytes that don't come


def _say_error(error: StenoboxError) -> None:
    _say(error={"code": error.code, "message": error.message, "stalled": isinstance(error, Stalled)})


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def _parse(config: Config, key: str) -> Model | Aligner:
    kind, _, language = key.rpartition(":")
    if kind != "aligner":
        return find(config, key)
    found = aligner(config, CATALOGUE["tiny"], language)
    if found is None:
        raise StenoboxError("unknown_model", f"There is no aligner for the language {language!r}.", param="model")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
