"""The catalogue, the folders, and downloads with the real Hub client from a Hub on loopback."""

from __future__ import annotations

import ast
import errno
import importlib.util
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import children, models
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models import __main__ as child
from tasks.models import downloads, library, transfer
from tests.fake_hub import COMMIT, MAIN, FakeHub, files_of, serving

TINY = models.CATALOGUE["tiny"]
REPO = "Systran/faster-whisper-tiny"
ROOT = Path(__file__).parent.parent
WHISPER = models.DEMO_FOLDER / "whisper"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Serves the demo model as the Hub's tiny."""
    with serving(FakeHub({REPO: {**files_of(WHISPER), "README.md": b"not wanted"}})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def slow_hub(hub: FakeHub) -> FakeHub:
    """The same with 8 MB more of weights, which take about four seconds."""
    hub.repos[REPO] = files_of(WHISPER, padding=8 * 1024**2)
    hub.delay = 0.1
    return hub


def own_model(config: Config, name: str) -> Path:
    folder = config.models / name
    shutil.copytree(WHISPER, folder)
    return folder


def refusal(*arguments: Any) -> StenoboxError:
    with pytest.raises(StenoboxError) as caught:
        models.download(*arguments)
    return caught.value


class TestCatalogue:
    def test_has_the_models_of_faster_whisper(self) -> None:
        theirs = constant("faster_whisper", "utils.py", "_MODELS")
        ours = {name: model.repo for name, model in models.CATALOGUE.items() if model.repo}
        assert len(ours) == 15
        assert ours == {name: theirs[name] for name in ours}

    def test_every_revision_is_a_whole_commit(self) -> None:
        for model in models.CATALOGUE.values():
            assert model.repo is None or re.fullmatch("[0-9a-f]{40}", model.revision or "")
        assert len({model.revision for model in models.CATALOGUE.values()}) == 16
        pinned = {aligner.revision for aligner in models.ALIGNERS.values() if aligner.revision}
        assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in pinned)
        assert len(pinned) == 4

    def test_languages_are_whispers(self) -> None:
        assert constant("faster_whisper", "tokenizer.py", "_LANGUAGE_CODES") == (*TINY.languages, "yue")
        assert models.CATALOGUE["large-v3"].languages == models.LANGUAGES
        assert set(models.LANGUAGES) - set(TINY.languages) == {"yue"}
        assert models.CATALOGUE["distil-large-v3"].languages == models.CATALOGUE["tiny.en"].languages == ("en",)

    def test_aligners_are_whisperxs_and_on_the_hub(self) -> None:
        from_hub = constant("whisperx", "alignment.py", "DEFAULT_ALIGN_MODELS_HF")
        from_torchaudio = constant("whisperx", "alignment.py", "DEFAULT_ALIGN_MODELS_TORCH")
        assert set(models.ALIGNERS) == set(from_hub) | set(from_torchaudio)
        assert from_hub.items() <= {code: aligner.repo for code, aligner in models.ALIGNERS.items()}.items()

    def test_summaries_are_sentences_and_say_the_size(self) -> None:
        for model in models.CATALOGUE.values():
            assert model.summary[0].isupper()
            assert model.summary.endswith(".")
            assert "B)" in model.summary or model.name == "demo"
        assert "a few dozen English and German words" in models.CATALOGUE["demo"].summary
        assert "nearest" in models.CATALOGUE["demo"].summary

    def test_import_is_light(self) -> None:
        code = "import sys, tasks.models; print({'torch', 'huggingface_hub', 'requests', 'tqdm'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"


def constant(package: str, file: str, name: str) -> Any:
    """The value of a constant in another package, without importing its gigabytes."""
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.submodule_search_locations
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


class TestLibrary:
    def test_demo_is_there_from_the_start(self, config: Config) -> None:
        demo = models.find(config, "demo")
        assert models.ready(config, demo)
        assert models.folder(config, demo) == WHISPER
        assert models.download(config, demo) == models.fetch(config, demo) == WHISPER
        assert models.SAMPLE.read_bytes()[:4] == b"fLaC"

    def test_others_are_not(self, config: Config) -> None:
        assert models.find(config, "tiny") is TINY
        assert not models.ready(config, TINY)
        assert models.folder(config, TINY) is None
        assert models.place(config, TINY) == config.models / "tiny"

    @pytest.mark.parametrize(
        "name",
        ["../x", "x/../tiny", "/etc", ".hidden", "", "tiny.partial", "Systran/faster-whisper-tiny", "a" * 65, "x\n"],
    )
    def test_other_names_are_refused_even_if_a_folder_is_there(self, config: Config, name: str) -> None:
        config.models.mkdir(parents=True)
        if name and len(name) < 65 and not name.startswith("/"):
            own_model(config, name)
        with pytest.raises(StenoboxError) as caught:
            models.find(config, name)
        assert caught.value.code == "unknown_model"
        assert caught.value.param == "model"
        assert "demo, tiny, base" in caught.value.message
        assert models.available(config) == list(models.CATALOGUE.values())

    def test_operators_own_model_is_listed_and_found(self, config: Config) -> None:
        own_model(config, "my-model.v2")
        own_model(config, "Another")
        (config.models / "empty").mkdir()
        assert [model.name for model in models.available(config)][-2:] == ["Another", "my-model.v2"]
        model = models.find(config, "my-model.v2")
        assert model.repo is None
        assert models.folder(config, model) == config.models / "my-model.v2"
        (config.models / "my-model.v2" / "config.json").unlink()
        assert "my-model.v2" not in [model.name for model in models.available(config)]

    def test_operator_may_place_a_model_of_the_catalogue(self, config: Config) -> None:
        folder = own_model(config, "tiny")
        assert models.folder(config, TINY) == folder
        assert len(models.available(config)) == len(models.CATALOGUE)

    def test_own_model_that_went_away(self, config: Config) -> None:
        folder = own_model(config, "mine")
        model = models.find(config, "mine")
        shutil.rmtree(folder)
        assert refusal(config, model).code == "model_missing"


class TestAligners:
    def test_demo_has_its_own(self, config: Config) -> None:
        demo = models.CATALOGUE["demo"]
        for language in ("en", "de"):
            aligner = models.aligner(config, demo, language)
            assert aligner
            assert models.folder(config, aligner) == models.DEMO_FOLDER / "aligner"
        assert models.aligner(config, demo, "fr") is None

    def test_others_use_the_hubs(self, config: Config) -> None:
        aligner = models.aligner(config, TINY, "de")
        assert aligner
        assert aligner.repo == "jonatasgrosman/wav2vec2-large-xlsr-53-german"
        assert aligner.title == "Word times (de)"
        assert models.place(config, aligner) == config.models / "aligners" / "de"
        assert not models.ready(config, aligner)

    @pytest.mark.parametrize("language", ["th", "xx", "../../etc"])
    def test_other_languages_have_none(self, config: Config, language: str) -> None:
        assert models.aligner(config, TINY, language) is None

    def test_unless_the_operator_brings_one(self, config: Config) -> None:
        for language in ("th", "xx"):
            shutil.copytree(models.DEMO_FOLDER / "aligner", config.models / "aligners" / language)
        aligner = models.aligner(config, TINY, "th")
        assert aligner
        assert models.ready(config, aligner)
        assert models.aligner(config, TINY, "xx") is None  # not a language of Whisper
        assert [model.name for model in models.available(config)] == list(models.CATALOGUE)


class TestDownload:
    def test_arrives_whole_and_at_the_pinned_revision(self, config: Config, hub: FakeHub) -> None:
        told: list[tuple[int, int]] = []
        folder = models.download(config, TINY, lambda done, total: told.append((done, total)))
        assert folder == models.folder(config, TINY) == config.models / "tiny"
        assert {path.name for path in folder.iterdir()} == {path.name for path in WHISPER.iterdir()} | {
            downloads.RECORD
        }
        for path in WHISPER.iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()
        total = sum(path.stat().st_size for path in WHISPER.iterdir())
        assert told[-1] == (total, total)
        assert hub.paths()[0] == f"/api/models/{REPO}/revision/{COMMIT}"
        assert all(f"/resolve/{COMMIT}/" in path for path in hub.paths("HEAD"))
        record = json.loads((folder / downloads.RECORD).read_text())
        assert record["revision"] == COMMIT
        assert sum(record["files"].values()) == total
        assert not (config.models / "tiny.partial").exists()

    def test_only_once(self, config: Config, hub: FakeHub) -> None:
        first = models.download(config, TINY)
        count = len(hub.asked)
        assert models.download(config, TINY) == models.fetch(config, TINY) == first
        assert len(hub.asked) == count > 0

    def test_aligner_at_main_records_the_commit(self, config: Config, hub: FakeHub) -> None:
        german = models.ALIGNERS["de"]
        assert german.repo
        files = files_of(models.DEMO_FOLDER / "aligner")
        hub.repos[german.repo] = {**files, "pytorch_model.bin": b"a pickle", "flax_model.msgpack": b"x"}
        folder = models.download(config, german)
        assert folder == config.models / "aligners" / "de"
        assert {path.name for path in folder.iterdir()} == set(files) | {downloads.RECORD}
        assert json.loads((folder / downloads.RECORD).read_text())["revision"] == MAIN
        assert models.ready(config, german)

    def test_aligner_without_safetensors(self, config: Config, hub: FakeHub) -> None:
        korean = models.ALIGNERS["ko"]
        assert korean.repo
        files = files_of(models.DEMO_FOLDER / "aligner")
        files["pytorch_model.bin"] = files.pop("model.safetensors")
        hub.repos[korean.repo] = files
        assert (models.download(config, korean) / "pytorch_model.bin").is_file()
        assert models.ready(config, korean)

    def test_what_an_earlier_try_left_is_used_and_cleaned_up(self, config: Config, hub: FakeHub) -> None:
        partial = config.models / "tiny.partial"
        (partial / "folder").mkdir(parents=True)
        (partial / "vocabulary.txt").write_text("from another revision")
        hub.status = 500
        assert "500" in refusal(config, TINY).message
        hub.status = None
        folder = models.download(config, TINY)
        assert not (folder / "vocabulary.txt").exists()
        assert not (folder / "folder").exists()
        assert not (folder / ".cache").exists()

    def test_damaged_weights_are_noticed_and_fetched_again(self, config: Config, hub: FakeHub) -> None:
        hub.corrupt = True
        assert "model.bin arrived damaged" in refusal(config, TINY).message
        assert not models.ready(config, TINY)
        assert (models.download(config, TINY) / "model.bin").read_bytes() == (WHISPER / "model.bin").read_bytes()

    def test_progress_never_goes_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = iter([5, 3, 7, 12])
        told: list[int] = []
        monkeypatch.setattr(transfer, "_TICK", 0)
        monkeypatch.setattr(transfer, "size", lambda folder: next(sizes, 12))
        with transfer.watched(tmp_path, 10, lambda done, total: told.append(done), lambda: None):
            wait_for(lambda: told[-1:] == [7])
        assert told == [5, 7, 10]

    def test_half_a_model_by_hand_is_left_alone(self, config: Config, hub: FakeHub) -> None:
        folder = own_model(config, "tiny")
        (folder / "config.json").unlink()
        assert "complete it or remove it" in refusal(config, TINY).message
        assert (folder / "model.bin").exists()
        assert hub.asked == []

    def test_an_empty_folder_is_no_hindrance(self, config: Config, hub: FakeHub) -> None:
        (config.models / "tiny").mkdir(parents=True)
        assert models.download(config, TINY) == config.models / "tiny"


class TestRefusals:
    def test_no_network(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        error = refusal(config, TINY)
        assert error.code == "model_missing"
        assert error.message == (
            "The model tiny isn't on this box and couldn't be downloaded. The reason: there is no network, or "
            "http://127.0.0.1:9 can't be reached. To add it by hand, put the config.json, model.bin, tokenizer.json, "
            f"vocabulary.* of https://huggingface.co/{REPO}/tree/{COMMIT} into {config.models / 'tiny'}."
        )

    def test_hub_that_fails_in_the_middle(self, config: Config, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client tries again for 23 seconds
        hub.refuse = "model.bin"
        assert "answered 500" in refusal(config, TINY).message
        assert not models.ready(config, TINY)
        hub.refuse = ""
        models.download(config, TINY)
        assert len(hub.sent_from("tokenizer.json")) == 1  # what had arrived was kept

    def test_unknown_repository(self, config: Config, hub: FakeHub) -> None:
        hub.repos.clear()
        assert f"{hub.url} answered 404" in refusal(config, TINY).message

    def test_repository_without_a_model(self, config: Config, hub: FakeHub) -> None:
        hub.repos[REPO] = {"README.md": b"moved"}
        assert "doesn't hold the files" in refusal(config, TINY).message

    def test_disk_too_small(self, config: Config, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil._ntuple_diskusage(10**9, 10**9 - 5_000_000, 5_000_000)  # type: ignore[attr-defined]
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage)
        error = refusal(config, TINY)
        assert error.code == "disk_full"
        assert "has 5 MB left" in error.message
        assert hub.sent_from("model.bin") == []

    def test_disk_fills_up_meanwhile(self, config: Config, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(downloads, "_sync", full)
        assert refusal(config, TINY).code == "disk_full"

    @pytest.mark.parametrize(
        ("number", "code"),
        [(errno.EDQUOT, "disk_full"), (errno.EROFS, "storage_failing"), (errno.EIO, "storage_failing")],
    )
    def test_disk_that_refuses(
        self, number: int, code: str, config: Config, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(downloads, "_sync", refuse)
        error = refusal(config, TINY)
        assert error.code == code
        assert str(config.models) in error.message

    def test_folder_that_cannot_be_written(self, config: Config) -> None:
        config.data.parent.mkdir(exist_ok=True)
        config.data.write_text("a file where the data folder should be")
        error = refusal(config, TINY)
        assert error.code == "model_missing"
        assert str(config.data) in error.message

    def test_switched_off(self, config: Config, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(StenoboxError, match="switched off by HF_HUB_OFFLINE"):
            models.fetch(config, TINY)
        assert hub.asked == []


class TestFetch:
    def test_child_downloads_and_tells(self, config: Config, slow_hub: FakeHub) -> None:
        told: list[tuple[int, int]] = []
        children: list[subprocess.Popen[str]] = []
        folder = models.fetch(config, TINY, lambda done, total: told.append((done, total)), children.append)
        total = sum(len(data) for data in slow_hub.repos[REPO].values())
        assert folder == models.folder(config, TINY)
        assert told[-1] == (total, total)
        assert told == sorted(set(told))
        assert len([done for done, _ in told if 0 < done < total]) >= 3
        assert children[0].returncode == 0

    def test_childs_refusal_is_raised_here(self, config: Config, hub: FakeHub) -> None:
        hub.repos.clear()
        with pytest.raises(StenoboxError, match="answered 404") as caught:
            models.fetch(config, TINY)
        assert caught.value.code == "model_missing"

    def test_killed_half_way_and_resumed(self, config: Config, slow_hub: FakeHub) -> None:
        group: list[int] = []

        def kill_at_half(done: int, total: int) -> None:
            if done > total // 2:
                os.killpg(group[0], signal.SIGKILL)

        with pytest.raises(StenoboxError, match=r"interrupted.*SIGKILL") as caught:
            models.fetch(config, TINY, kill_at_half, lambda popen: group.append(popen.pid))
        assert caught.value.code == "model_missing"
        assert not models.ready(config, TINY)
        told: list[int] = []
        slow_hub.delay = 0
        folder = models.fetch(config, TINY, lambda done, total: told.append(done))
        assert (folder / "model.bin").read_bytes() == slow_hub.repos[REPO]["model.bin"]
        first, second = slow_hub.sent_from("model.bin")
        assert first is None
        assert second
        assert int(second.removeprefix("bytes=").rstrip("-")) > 3_000_000
        assert told[0] > 3_000_000  # the bar goes on where it was

    def test_two_at_once_download_once(self, config: Config, slow_hub: FakeHub) -> None:
        told: list[list[tuple[int, int]]] = [[], []]
        folders: list[Path] = []

        def run(mine: list[tuple[int, int]]) -> None:
            folders.append(models.fetch(config, TINY, lambda done, total: mine.append((done, total))))

        threads = [threading.Thread(target=run, args=(mine,)) for mine in told]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert folders == [config.models / "tiny"] * 2
        assert len(slow_hub.sent_from("model.bin")) == 1
        assert all(told)  # the one that waits shows something, too
        assert not (config.models / "tiny.partial").exists()

    def test_error_of_the_caller_stops_the_child(self, config: Config, slow_hub: FakeHub) -> None:
        children: list[subprocess.Popen[str]] = []

        def fail(done: int, total: int) -> None:
            raise RuntimeError("the caller's own")

        with pytest.raises(RuntimeError, match="the caller's own"):
            models.fetch(config, TINY, fail, children.append)
        assert children[0].returncode == -signal.SIGKILL

    def test_child_leaves_with_its_parent(self, config: Config, slow_hub: FakeHub, tmp_path: Path) -> None:
        slow_hub.delay = 5
        code = f"""
            from pathlib import Path
            from tasks import models
            from tasks.config import Config
            models.fetch(
                Config(data=Path({str(config.data)!r})), models.CATALOGUE["tiny"],
                on_start=lambda child: print(child.pid, flush=True),
            )
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            wait_for(lambda: bool(slow_hub.sent_from("model.bin")))
            parent.kill()
        wait_for(lambda: not alive(pid))

    @pytest.fixture
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """Children that notice after three seconds, which the hub beside us may need; their arguments."""
        started: list[list[str]] = []

        def spawn(module: str, *arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
            started.append(list(arguments))
            code = "import sys; from tasks.models import __main__, transfer; transfer.STALL_SECONDS = 3; "
            code += "sys.exit(__main__.main(sys.argv[1:]))"
            return subprocess.Popen(
                [sys.executable, "-c", code, *arguments], cwd=ROOT, env=env, start_new_session=True, **options
            )

        monkeypatch.setattr(children, "spawn", spawn)
        return started

    def test_a_hub_that_stops_sending_is_asked_again_and_goes_on(
        self, config: Config, slow_hub: FakeHub, impatient: list[list[str]]
    ) -> None:
        slow_hub.delay, slow_hub.stalls = 0, 2
        told: list[int] = []
        folder = models.fetch(config, TINY, lambda done, total: told.append(done))
        assert (folder / "model.bin").read_bytes() == slow_hub.repos[REPO]["model.bin"]
        assert impatient == [["tiny"]] * 3
        first, *more = slow_hub.sent_from("model.bin")
        assert first is None
        assert more == [f"bytes={2**20}-", f"bytes={2 * 2**20}-"]
        assert told == sorted(told)

    def test_one_that_sends_nothing_any_more_is_given_up(
        self, config: Config, slow_hub: FakeHub, impatient: list[list[str]]
    ) -> None:
        slow_hub.delay, slow_hub.stalls = 0, 1

        def silence(done: int, total: int) -> None:
            slow_hub.stalls = -1

        with pytest.raises(StenoboxError) as caught:
            models.fetch(config, TINY, silence)
        assert caught.value.code == "model_missing"
        assert re.search(r"stopped sending after \d MB, which are kept", caught.value.message)
        assert len(impatient) == 2  # the second one brought nothing
        assert not models.ready(config, TINY)

    def test_one_that_the_client_gives_up_stalls_too(
        self, config: Config, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It waits ten seconds for a byte, six times."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        hub.stalls = -1
        error = refusal(config, TINY)
        assert isinstance(error, downloads.Stalled)
        assert f"{hub.url} stopped sending" in error.message

    def test_counting_a_hash_is_no_stall(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transfer, "STALL_SECONDS", 0.0)
        monkeypatch.setattr(transfer, "_TICK", 0.001)
        looked, stalled = [], []
        monkeypatch.setattr(transfer, "size", lambda folder: looked.append(folder) or 5)
        with transfer.watched(tmp_path, 10, lambda done, total: None, lambda: stalled.append(True)) as receiving:
            wait_for(lambda: len(looked) > 5)
            assert stalled == []
            with receiving:
                wait_for(lambda: stalled)
        assert stalled == [True]

    def test_child_that_says_nothing(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(children.sys, "executable", shutil.which("true"))
        with pytest.raises(StenoboxError, match=r"interrupted \(the child left with status 0\)"):
            models.fetch(config, TINY)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that a container's init doesn't collect no longer does."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class TestChild:
    @pytest.fixture(autouse=True)
    def _environment(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        """main changes its environment, as befits a process of its own; here it is put back."""
        for name, value in downloads.hub_environment(config).items():
            monkeypatch.setenv(name, value)

    def test_tells_in_json_lines(self, config: Config, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
        assert child.main(["tiny"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines[-1] == {"ready": str(config.models / "tiny")}
        assert lines[-2]["done"] == lines[-2]["total"] > 0

    def test_aligner_by_language(self, hub: FakeHub, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
        english = models.ALIGNERS["en"]
        assert english.repo
        assert english.key == "aligner:en"
        hub.repos[english.repo] = files_of(models.DEMO_FOLDER / "aligner")
        assert child.main([english.key]) == 0
        assert models.ready(config, english)

    @pytest.mark.parametrize("name", ["nothing", "../x", "aligner:th", "aligner:"])
    def test_unknown_name(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert child.main([name]) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["error"]["code"] == "unknown_model"

    def test_runs_as_a_module(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["models", "demo"])
        monkeypatch.delitem(sys.modules, "tasks.models.__main__")
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("tasks.models", run_name="__main__")
        assert caught.value.code == 0
        assert json.loads(capsys.readouterr().out) == {"ready": str(WHISPER)}


def test_a_checkout_that_others_may_write_still_aligns(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = tmp_path / "nltk_data"
    shutil.copytree(models.NLTK_DATA, loose)
    for path in (loose, *loose.rglob("*")):
        path.chmod(path.stat().st_mode | 0o022)  # as umask 002 makes it, and worse
    monkeypatch.setattr(library, "NLTK_DATA", loose)
    for _ in range(2):  # also where it is already
        folder = models.sentence_splitters(config)
    code = "import nltk.data; print(list(nltk.data.load('tokenizers/punkt_tab/german.pickle').tokenize('Ja. Nein.')))"
    environment = {**os.environ, "NLTK_DATA": str(folder)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['Ja.', 'Nein.']"
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}


# What this user may not read

CLOSED = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from tasks import doctor, models
from tasks.config import Config
from tasks.errors import StenoboxError
from webapp.app import create_app
config = Config(data=Path(sys.argv[1]), model="tiny")
tiny, aligner = models.CATALOGUE["tiny"], models.ALIGNERS["en"]
assert not models.ready(config, tiny) and not models.ready(config, aligner)
assert "mine" not in [model.name for model in models.available(config)]
for what in (tiny, aligner):
    try:
        models.fetch(config, what)
    except StenoboxError as error:
        assert error.code == "model_missing" and "chmod -R a+rX" in error.message, error.message
    else:
        raise AssertionError("it was fetched")
found = [finding.message for finding in doctor.closed_models(config)]
assert [message.partition(" ")[0].rpartition("/")[2] for message in found] == ["mine", "tiny", "en"], found
with TestClient(create_app(config), base_url="http://localhost") as client:
    for path in ("/", "/limits", "/api/v1/capacity", "/readyz"):
        assert client.get(path, headers={"Accept": "text/html"}).status_code in (200, 503), path
    assert client.get("/").status_code == 200
"""


@pytest.mark.parametrize("closed", ["folder", "files"])
def test_a_model_that_this_user_may_not_read_is_as_good_as_not_there(config: Config, closed: str) -> None:
    places = [
        shutil.copytree(WHISPER, config.models / "tiny"),
        shutil.copytree(WHISPER, config.models / "mine"),
        shutil.copytree(models.DEMO_FOLDER / "aligner", config.models / "aligners" / "en"),
    ]
    root = os.geteuid() == 0
    for place in places:
        for path in [place] if closed == "folder" else place.iterdir():
            path.chmod(0o700 if root else 0o000)
            if root:
                os.chown(path, 10001, 10001)
    # A root without these two rights is a user like any other.
    ordinary = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps=-all", "--"] if root else []
    if root and not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    done = subprocess.run(
        [*ordinary, sys.executable, "-c", CLOSED, str(config.data)], capture_output=True, text=True, cwd=ROOT
    )
    for place in places:
        place.chmod(0o700)
    assert done.returncode == 0, done.stderr
