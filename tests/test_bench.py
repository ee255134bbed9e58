"""The bench: its table, its choice, its plot, and one real run on the engine."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import Served

from tasks import store, synthetic, trial
from tasks.config import Config
from tasks.costs import MIB
from tasks.db import open_database
from tasks.engine.meter import Usage
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError
from tasks.slots import Plan
from tasks.synthetic import SIZES, size_of
from tasks.trial import Trial, make_sound
from webapp import bench
from webapp.cli import _parser, main
from webapp.figures import Row, best, columns, plot, row_of, table

pytestmark = pytest.mark.long

WEIGHTS = ("1,000", "MiB", "0", "MiB", "1,100", "MiB", "+10%")


def row(at_once: int, files: float) -> Row:
    return Row(at_once, 100.0, files, files / 6, 0.5, 1000 * MIB, 100 * MIB, 1100 * MIB)


def test_figures_of_a_trial_are_those_of_the_guide() -> None:
    found = Trial(4, 120.0, 60.0, 96.0, 1000 * MIB, (Usage(0, 0, 70, 3, 1.0), Usage(0, 0, 90, 3, 1.0)))
    figures = row_of(found, 1100 * MIB)
    assert figures.ten_minutes == 300.0
    assert figures.speed == 8.0
    assert figures.files_an_hour == 48.0
    assert figures.cpu == 0.4
    assert figures.job == 90
    assert figures.error == pytest.approx(0.1)
    lines = table([figures]).splitlines()
    assert lines[0].split("  ")[0] == "at once"
    assert lines[1].split() == ["4", "300", "s", "48.0", "8.00×", "40%", *WEIGHTS]


@pytest.mark.parametrize(
    ("files", "number"),
    [((10.0,), 1), ((10.0, 20.0, 15.0), 2), ((10.0, 20.0, 20.9), 2), ((10.0, 20.0, 21.1), 4), ((10.0, 10.4, 10.2), 1)],
)
def test_the_best_has_the_most_files_an_hour_or_nearly_with_fewer_at_once(
    files: tuple[float, ...], number: int
) -> None:
    assert best([row(2**power, value) for power, value in enumerate(files)]).at_once == number


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_plot_is_well_formed_and_within_its_frame(count: int) -> None:
    root = ElementTree.fromstring(plot([row(2**power, 10.0 + power) for power in range(count)], "small <&> co"))
    texts = [element.text for element in root.iter() if element.text and element.tag.endswith("text")]
    assert texts[0] == "small <&> co"
    circles = [element for element in root.iter() if element.tag.endswith("circle")]
    assert len(circles) == 3 * count
    assert all(0 < float(c.get("cx", "")) < 720 and 0 < float(c.get("cy", "")) < 330 for c in circles)


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert columns([("a", "bbb"), ("cc", "d")]) == " a  bbb\ncc    d\n"


@pytest.mark.parametrize(
    ("arguments", "maximum", "numbers"),
    [
        ([], 8, [1]),
        (["--concurrent", "3"], 1, [3]),
        (["--test-all"], 9, [1, 2, 4, 8]),
        (["--test-all"], 0, [1]),
        (["--test-all", "--concurrent", "2"], 9, [1, 2]),
    ],
)
def test_all_is_as_far_as_memory_goes(arguments: list[str], maximum: int, numbers: list[int]) -> None:
    options = _parser().parse_args(["bench", *arguments])
    assert bench._numbers(options, Plan("demo", maximum, 1, 4, 1, ())) == numbers


def test_a_real_run_finds_writes_draws_and_stores_the_best(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENOBOX_DATA", str(config.data))
    figures, drawing = tmp_path / "figures.json", tmp_path / "figures.svg"
    files = ["--json", str(figures), "--svg", str(drawing)]
    assert main(["bench", "--test-all", "--concurrent", "2", "--seconds", "6", "--apply", *files]) == 0
    told = capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert [line["at_once"] for line in found["rows"]] == [1, 2]
    assert all(300 * MIB < line["peak"] < 3000 * MIB and line["job"] > 0 for line in found["rows"])
    assert f"Best: {found['best']} at once" in told
    assert "Random weights" not in told
    ElementTree.fromstring(drawing.read_text())
    database = open_database(config)
    (change,) = store.list_changes(database, 10) or [None]
    assert change is None or (change.name, change.new, change.by) == ("slots", found["best"], "bench")
    database.close()
    assert not [path for path in config.data.iterdir() if path.name.startswith("tmp")]


def test_a_synthetic_model_of_true_size_loads_and_is_gone_afterwards(config: Config, tmp_path: Path) -> None:
    sound = tmp_path / "sound.f32"
    make_sound(sound, 3)
    with synthetic.synthetic(config, "tiny") as folder:
        assert 35e6 < (folder / "model.bin").stat().st_size < 50e6
        spec = Spec("tiny", str(folder), "cpu", "int8", 1, 2, 1)
        with trial.engine_of(config, spec) as engine:
            found = trial.run(engine, sound, None)
        assert found.usages[0].load > 20 * MIB
        assert found.cpu > 0
    assert list((config.data / "bench").iterdir()) == []


def test_an_engine_that_can_not_load_is_a_sentence(config: Config, tmp_path: Path) -> None:
    spec = Spec("tiny", str(tmp_path / "nothing"), "cpu", "int8", 1, 1, 1)
    with pytest.raises(StenoboxError, match="The engine ended early with tiny"), trial.engine_of(config, spec):
        pass


def test_sizes_are_known_by_name_and_others_are_refused() -> None:
    assert size_of("small.en") == SIZES["small"]
    with pytest.raises(StenoboxError, match="no dimensions of turbo"):
        size_of("turbo")


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--concurrent", "0"], ["--concurrent", "17"]])
def test_numbers_that_can_not_be_are_refused(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path))
    assert main(["bench", *arguments]) == 1
    assert "must be from 1 to" in capsys.readouterr().err


def test_against_a_real_box_it_sends_them_all_at_once(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "data"))
    figures = tmp_path / "figures.json"
    arguments = ["--against", served.url, "--concurrent", "3", "--seconds", "5", "--json", str(figures)]
    assert main(["bench", *arguments]) == 0
    assert capsys.readouterr().out.startswith("3 admitted, 0 refused of 3 sent at once.\n  completed: 3\n")
    assert len(json.loads(figures.read_text())["answers"]) == 3


def test_the_report_counts_refusals_and_their_waits() -> None:
    refused = {"outcome": "queue_full", "answered": 0.2, "wait": 7, "done": None}
    taken = {"outcome": "completed", "answered": 0.1, "wait": None, "done": 12.0}
    told = bench.report([refused, taken, refused | {"wait": 9}], 60.0)
    assert "1 admitted, 2 refused of 3" in told
    assert "Refused within 0.20 s, Retry-After 7 to 9 s." in told
    assert "5.00× real time, 30.0 files" in told
    assert "without Retry-After" in bench.report([refused | {"wait": None}], 60.0)


def test_the_costs_check_learns_from_three_and_is_judged_by_the_fourth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The arithmetic alone; the engine is played."""
    jobs = iter([100, 110, 120, 110] * 4)

    class Played:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Played:
            return self

        def __exit__(self, *_: object) -> None: ...

    def run(*_: object) -> Trial:
        return Trial(1, 30.0, 1.0, 1.0, 0, (Usage(900 * MIB, 50 * MIB, next(jobs) * MIB, 0, 1.0),))

    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(bench, "synthetic", Played)
    monkeypatch.setattr(trial, "engine_of", Played)
    monkeypatch.setattr(trial, "run", run)
    assert main(["bench", "--check-costs", "--model", "tiny"]) == 0
    assert "median error after 3: 0.0%" in capsys.readouterr().out


def test_a_recording_for_a_box_is_the_same_sound(tmp_path: Path) -> None:
    make_sound(tmp_path / "sound.f32", 5)
    bench._as_wav(tmp_path / "sound.f32", tmp_path / "sound.wav")
    with wave.open(str(tmp_path / "sound.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 80_000)


def test_help_names_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in ("--test-all", "--concurrent", "--against", "--apply", "--svg"))


@pytest.mark.parametrize("option", ["--json", "--svg"])
@pytest.mark.parametrize("where", ["none/x", "", "file/x"])
def test_a_file_that_can_not_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, where: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(bench.trial, "make_sound", lambda *_: pytest.fail("it was begun"))
    assert main(["bench", option, str(tmp_path / where)]) == 1
    assert "can't be written" in capsys.readouterr().err
