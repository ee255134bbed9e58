"""Make the demo models anew: `python tools/demo_models/make.py --quick|--full`. README.md has the what and why."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "tests" / "data" / "samples"
STAGES = ("speech", "whisper", "export", "aligner", "punkt", "evaluate")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="a few minutes: right form, useless models")
    size.add_argument("--full", action="store_true", help="a few hours: models like the packaged ones")
    parser.add_argument("--work", type=Path, help="folder for clips and checkpoints (default: a new one in /tmp)")
    parser.add_argument("--out", type=Path, help="folder for whisper/, aligner/, nltk_data/ (default: WORK/out)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="only these, in this order")
    parser.add_argument("--more", type=int, metavar="STEPS", help="train WORK/whisper.pt on, on windows of 30 s")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="demo-models-"))
    work.mkdir(parents=True, exist_ok=True)
    out = options.out or work / "out"
    print(f"working in {work}, writing to {out}", flush=True)
    stages = _stages(work, out, options)
    for name in options.stages:
        print(f"--- {name}", flush=True)
        stages[name]()
    return 0


def _stages(work: Path, out: Path, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The imports are inside, since torch takes seconds and not every stage needs it."""
    full, threads = options.full, options.threads

    def speech() -> None:
        from speech import make_pool

        phrases, singles = ({"en": 9000, "de": 4000}, {"en": 4000, "de": 2000})
        if not full:
            phrases, singles = ({"en": 120, "de": 60}, {"en": 100, "de": 50})
        make_pool(work, phrases, singles, threads)

    def whisper() -> None:
        import whisper_model

        if options.more:
            whisper_model.train(work, whisper_model.more(options.more), threads, start=work / "whisper.pt", seed=2)
        else:
            whisper_model.train(work, whisper_model.FULL if full else whisper_model.QUICK, threads)

    def export() -> None:
        from export import export

        export(work / "whisper.pt", out / "whisper")

    def aligner() -> None:
        import aligner_model

        aligner_model.train(work, out / "aligner", aligner_model.FULL if full else aligner_model.QUICK, threads)

    def punkt() -> None:
        from punkt import write

        write(out / "nltk_data")

    def evaluate() -> None:
        from evaluate import evaluate

        evaluate(out / "whisper", out / "aligner", out / "nltk_data", SAMPLES, longest=1e9 if full else 10)

    return {
        "speech": speech,
        "whisper": whisper,
        "export": export,
        "aligner": aligner,
        "punkt": punkt,
        "evaluate": evaluate,
    }


if __name__ == "__main__":
    sys.exit(main())
