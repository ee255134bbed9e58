"""The stage that fetches links: its own slots, its own line, and every way it can end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import change_limit, wait_until

from tasks import disk, fetching, ingest, links, media, recovery, store
from tasks.actions import Box
from tasks.capacity import SPARE_BYTES, Limits, first_limits
from tasks.children import ChildDied
from tasks.engine.engines import Engines
from tasks.errors import StenoboxError
from tasks.fetching import Fetcher, terms
from tasks.heartbeat import Heartbeat
from tasks.jobs import Job, Params, Stage, State
from tasks.links.about import about, file_title
from tasks.principals import Principal, Scope
from tasks.queue import Queue
from tasks.running import Reason

URL = "https://example.org/talks/five%20light.mp3?token=secret"
ABOUT = {"title": "Five lights", "uploader": "A. Speaker", "site": "Generic"}


class Web:
    """Stands for `links.fetch`: does what `behave` does, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, links.Terms]] = []
        self.behave: Callable[[Any], None] = lambda on: None

    def fetch(self, url: str, folder: Path, terms: links.Terms, **on: Any) -> links.Fetched:
        self.asked.append((url, terms))
        path = folder / "media"
        path.write_bytes(b"sound")
        self.behave(SimpleNamespace(**on))
        return links.Fetched(path, 5, dict(ABOUT))


class Bench:
    """A box and its fetcher, without threads: `run` fetches one link, `beat` is one heartbeat."""

    def __init__(self, box: Box) -> None:
        self.box, self.database, self.web = box, box.database, Web()
        self.first = first_limits(box.config, box.config.slots)
        self.planner: Any = SimpleNamespace(
            first=lambda: self.first, limits=lambda: store.limits(self.database, self.first)
        )
        self.heartbeat = Heartbeat(box.config, self.planner, self.database, box.queue, Engines(box.config))
        self.holding = False
        self.fetcher = Fetcher(
            box.config, self.database, box.queue, self.heartbeat, "worker", self.planner, lambda: self.holding
        )

    def submit(self, url: str = URL) -> Job:
        return ingest.submit(self.box, url)

    def run(self, job: Job) -> Job:
        self.fetcher.run(job.id)
        return self.box.get(job.id)

    def files(self, job: Job) -> set[str]:
        folder = media.folder(self.box.config, job.id)
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def messages(self) -> list[str]:
        found = []
        while (message := self.box.queue.huey.dequeue()) is not None:
            found.append(message.name.rpartition(".")[2])
        return found


@pytest.fixture
def bench(box: Box, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(box)
    monkeypatch.setattr(fetching.links, "fetch", made.web.fetch)
    return made


def failing(error: Exception) -> Callable[[Any], None]:
    def behave(on: Any) -> None:
        raise error

    return behave


def test_a_link_waits_in_line_under_a_name_of_its_own(bench: Bench) -> None:
    job = bench.submit()
    assert (job.state, job.needs_download, job.queue_position) == (State.QUEUED, True, 1)
    assert (job.source.type, job.source.url, job.source.name) == ("url", URL, "example.org – five light.mp3")
    assert bench.messages() == ["fetch_link"]
    assert store.load(bench.database).to_download == 1


def test_a_fetched_link_goes_back_in_line_with_its_media_and_what_is_known_of_it(bench: Bench) -> None:
    job = bench.submit()
    bench.messages()
    stages = []

    def behave(on: Any) -> None:
        on.on_start(SimpleNamespace())
        on.on_progress(links.Progress(2, 5, 100.0))
        bench.heartbeat.beat()
        now = bench.box.get(job.id)
        stages.append((now.state, now.stage, now.progress, now.source.bytes, now.about))

    bench.web.behave = behave
    done = bench.run(job)
    assert stages == [
        (State.RUNNING, Stage.DOWNLOAD, 0.4, 2, {"download": {"total": 5, "bytes_per_second": 100.0}}),
    ]
    assert (done.state, done.needs_download, done.attempts, done.stage) == (State.QUEUED, False, 0, None)
    assert (done.source.name, done.source.bytes, done.source.url) == ("Five lights", 5, URL)
    assert done.about == ABOUT
    assert bench.files(job) == {"source"}
    assert bench.messages() == ["fetch_link", "run_job"]
    [(url, asked)] = bench.web.asked
    assert (url, asked) == (URL, links.Terms(2_000_000_000, 14_400.0))
    attempt = store.claim_next(bench.database, bench.first, "worker", 5)
    assert attempt is not None
    assert (attempt.job.id, attempt.job.attempts) == (job.id, 1)


def test_a_download_holds_no_transcription_slot_and_waits_for_none(bench: Bench) -> None:
    linked = bench.submit()
    with bench.box.receive("talk.mp3") as receiving:
        receiving.write(b"sound")
        uploaded = receiving.queue(Params("demo"))
    download = store.claim_download(bench.database, bench.first, "worker", 60)
    assert download is not None
    assert download.job.id == linked.id
    attempt = store.claim_next(bench.database, bench.first, "worker", 60)  # the one slot is free
    assert attempt is not None
    assert attempt.job.id == uploaded.id
    load = store.load(bench.database)
    assert (load.running, load.downloading, load.queued, load.active) == (1, 1, 0, 2)
    assert store.fetched_if_owned(bench.database, download.token, "x", 5, {}) is not None
    assert store.claim_next(bench.database, bench.first, "worker", 60) is None  # now it waits for the slot
    assert store.finish_if_owned(bench.database, attempt.token, "x.json", 1.0, None) is not None
    following = store.claim_next(bench.database, bench.first, "worker", 60)
    assert following is not None
    assert following.job.id == linked.id


def test_only_so_many_links_are_fetched_at_once_in_line(bench: Bench) -> None:
    jobs = [bench.submit(f"https://example.org/{number}") for number in range(3)]
    claims = [store.claim_download(bench.database, bench.first, "worker", 60) for _ in range(3)]
    assert [claim and claim.job.id for claim in claims] == [jobs[0].id, jobs[1].id, None]
    change_limit(bench.database, "download_slots", 3)
    last = store.claim_download(bench.database, bench.first, "worker", 60)
    assert last is not None
    assert last.job.id == jobs[2].id
    assert store.claim_next(bench.database, bench.first, "worker", 60) is None  # none of them has its media yet


def test_links_count_as_jobs_for_admission(bench: Bench) -> None:
    for number in range(3):
        bench.submit(f"https://example.org/{number}")
    assert store.claim_download(bench.database, bench.first, "worker", 60) is not None
    with pytest.raises(StenoboxError, match="3 waiting, room for 3") as refused:
        bench.submit("https://example.org/4")
    assert refused.value.code == "queue_full"


def test_without_room_on_the_disk_none_is_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.submit()
    free = [SPARE_BYTES - 1]
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[-1]))
    assert (bench.run(job).state, bench.web.asked) == (State.QUEUED, [])
    free.append(SPARE_BYTES)

    def behave(on: Any) -> None:
        free.append(SPARE_BYTES - 1)  # others take it
        raise StenoboxError("disk_full", "The disk of this box filled up.")

    bench.web.behave = behave
    waiting = bench.run(job)
    assert (waiting.state, waiting.needs_download, waiting.crashes) == (State.QUEUED, True, 0)
    assert bench.files(job) == set()
    free.append(SPARE_BYTES)
    bench.web.behave = lambda on: None
    assert bench.run(job).needs_download is False


@pytest.mark.parametrize("code", [*links.ADVICE, "too_large", "too_long", "timed_out", "disk_full"])
def test_a_link_that_cannot_be_had_fails_with_the_reason(bench: Bench, code: str) -> None:
    bench.web.behave = failing(StenoboxError(code, "It can't."))
    job = bench.run(bench.submit())
    assert job.state == State.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.message, job.attempts) == (code, "It can't.", 1)
    assert bench.files(job) == set()
    again = bench.box.retry(job.id)
    assert again.needs_download
    bench.web.behave = lambda on: None
    assert bench.run(again).needs_download is False


def test_a_failed_transcription_is_tried_again_without_fetching_its_link_again(bench: Bench) -> None:
    job = bench.run(bench.submit())
    attempt = store.claim_next(bench.database, bench.first, "worker", 60)
    assert attempt is not None
    store.fail_if_owned(bench.database, attempt.token, "no_audio", "There is no sound.")
    assert bench.box.retry(job.id).needs_download is False


def test_a_cancel_ends_the_child_and_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[object] = []
    monkeypatch.setattr(fetching.children, "kill", killed.append)
    job = bench.submit()

    def behave(on: Any) -> None:
        on.on_start("the child")
        bench.box.cancel(job.id)
        bench.heartbeat.beat()
        raise ChildDied("downloader", "was killed (SIGKILL)")

    bench.web.behave = behave
    done = bench.run(job)
    assert done.state == State.CANCELED
    assert killed == ["the child"]
    assert bench.files(job) == set()


def test_a_worker_that_leaves_puts_the_link_back_in_line_uncharged(bench: Bench) -> None:
    def behave(on: Any) -> None:
        bench.heartbeat.drain()
        raise ChildDied("downloader", "was killed (SIGKILL)")

    bench.web.behave = behave
    job = bench.run(bench.submit())
    assert (job.state, job.needs_download, job.attempts, job.crashes) == (State.QUEUED, True, 0, 0)
    bench.fetcher.run(job.id)  # and takes nothing more
    assert len(bench.web.asked) == 1


def test_a_child_that_dies_three_times_fails_the_job(bench: Bench) -> None:
    bench.web.behave = failing(ChildDied("downloader", "was killed (SIGKILL)"))
    job = bench.submit()
    assert [(bench.run(job).state, bench.box.get(job.id).crashes) for _ in range(3)] == [
        (State.QUEUED, 1), (State.QUEUED, 2), (State.FAILED, 3),
    ]  # fmt: skip
    error = bench.box.get(job.id).error
    assert error is not None
    assert error.code == "engine_crashed"
    assert "downloader was killed" in error.message
    assert error.message.endswith("try it later, or download the recording yourself and send the file.")


def test_what_killed_a_downloader_is_not_held_against_the_recording(bench: Bench) -> None:
    bench.web.behave = failing(ChildDied("downloader", "was killed (SIGKILL)"))
    job = bench.submit()
    assert bench.run(job).crashes == 1
    bench.web.behave = lambda on: None
    assert bench.run(job).crashes == 0


def test_a_mistake_of_ours_is_a_failure_too(bench: Bench) -> None:
    bench.web.behave = failing(RuntimeError("oh"))
    error = bench.run(bench.submit()).error
    assert error is not None
    assert (error.code, "RuntimeError" in error.message) == ("internal", True)


def test_a_job_that_is_deleted_while_its_link_is_fetched_leaves_nothing(bench: Bench) -> None:
    job = bench.submit()
    bench.web.behave = lambda on: bench.box.delete(job.id)
    bench.fetcher.run(job.id)
    assert store.get(bench.database, job.id) is None
    assert not media.folder(bench.box.config, job.id).exists()


def test_a_row_that_was_lost_meanwhile_is_left_alone(bench: Bench) -> None:
    job = bench.submit()

    def behave(on: Any) -> None:
        for running in bench.heartbeat._running.values():
            running.stop(Reason.LOST)
        raise ChildDied("downloader", "was killed (SIGKILL)")

    bench.web.behave = behave
    assert bench.run(job).state == State.RUNNING  # another's now


def test_a_dead_workers_download_is_put_back_and_its_pieces_go(bench: Bench) -> None:
    job = bench.submit()
    attempt = store.claim_download(bench.database, bench.first, "gone", 60)
    assert attempt is not None
    (media.fetching(bench.box.config, job.id, attempt.token) / "media.part").write_bytes(b"so")
    recovery.rescue(bench.box.config, bench.database)
    assert (bench.box.get(job.id).state, bench.box.get(job.id).needs_download) == (State.QUEUED, True)
    assert bench.files(job) == set()


def test_nothing_is_fetched_while_the_box_is_paused_or_short_of_memory(bench: Bench) -> None:
    job = bench.submit()
    bench.holding = True
    assert bench.run(job).state == State.QUEUED
    bench.holding = False
    change_limit(bench.database, "intake", "paused")
    assert bench.run(job).state == State.QUEUED
    assert bench.web.asked == []


def test_the_heartbeat_finds_links_that_nobody_announced(bench: Bench) -> None:
    job = bench.submit()
    bench.messages()
    bench.heartbeat.reconcile()
    assert bench.messages() == ["fetch_link"]
    bench.run(job)
    bench.messages()
    bench.heartbeat.reconcile()
    assert bench.messages() == ["run_job"]


def test_memory_pressure_stops_recognition_not_downloads(bench: Bench) -> None:
    job, told = bench.submit(), []

    def behave(on: Any) -> None:
        told.append((bench.heartbeat.count, bench.heartbeat.stop_newest(Reason.PRESSURE)))

    bench.web.behave = behave
    bench.run(job)
    assert told == [(0, None)]


def test_a_busy_database_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, times = store.fetched_if_owned, []

    def busy_once(*arguments: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            raise StenoboxError("database_busy", "Busy.")
        return real(*arguments)

    monkeypatch.setattr(store, "fetched_if_owned", busy_once)
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    assert bench.run(bench.submit()).needs_download is False
    assert len(times) == 2


def test_an_outcome_that_waits_for_the_database_is_left_to_the_next_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*arguments: Any) -> Any:
        bench.heartbeat.drain()
        raise StenoboxError("database_busy", "Busy.")

    monkeypatch.setattr(store, "fetched_if_owned", busy)
    assert bench.run(bench.submit()).state == State.RUNNING


def test_progress_that_cannot_be_written_is_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*arguments: Any) -> None:
        raise StenoboxError("database_busy", "Busy.")

    monkeypatch.setattr(store, "note_download_if_owned", busy)

    def behave(on: Any) -> None:
        for _ in range(2):
            on.on_progress(links.Progress(2, None, 0.0))

    bench.web.behave = behave
    assert bench.run(bench.submit()).needs_download is False


def test_the_terms_are_the_settings_of_the_moment(bench: Bench) -> None:
    limits = Limits(1, 1, 7, 9.0, link_hosts="example.org, Media.example", generic_links=False)
    assert terms(bench.box.config, limits) == links.Terms(7, 9.0, "", ("example.org", "media.example"), False)


# Handing links in


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("-U", "invalid_value"),
        ("ftp://example.org/a", "invalid_value"),
        ("http://user:pw@example.org/", "invalid_value"),
        ("http://example.org:8080/", "invalid_value"),
    ],
)
def test_a_link_that_is_none_is_refused_before_it_takes_a_place(bench: Bench, url: str, code: str) -> None:
    with pytest.raises(StenoboxError) as refused:
        bench.submit(url)
    assert (refused.value.code, refused.value.param) == (code, "url")
    assert store.load(bench.database).active == 0


def test_the_operator_lists_sites_or_takes_no_links(bench: Bench) -> None:
    change_limit(bench.database, "link_hosts", "example.com, example.net")
    bench.submit("https://www.example.com/a")
    with pytest.raises(StenoboxError) as refused:
        bench.submit("https://example.org/a")
    assert refused.value.code == "host_not_allowed"
    change_limit(bench.database, "download_slots", 0)
    with pytest.raises(StenoboxError) as refused:
        bench.submit("https://www.example.com/a")
    assert refused.value.code == "links_closed"


def test_a_full_box_says_when_to_come_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.box.lookout, "check", lambda *_, **__: None)  # what it saw is a moment old
    for number in range(3):
        bench.submit(f"https://example.org/{number}")
    with pytest.raises(StenoboxError) as refused:
        bench.submit("https://example.org/4")
    assert refused.value.code == "queue_full"
    assert refused.value.retry_after


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org", "example.org"),
        ("https://example.org/?v=1", "example.org"),
        ("https://example.org/a/b.mp3?token=x", "example.org – b.mp3"),
        ("https://example.org/%E2%80%8B%0Ax", "example.org – x"),
    ],
)
def test_a_link_has_a_name_before_its_title_is_known(url: str, name: str) -> None:
    assert links.link_name(url) == name


def test_only_two_links_are_looked_into_at_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, leave = threading.Semaphore(0), threading.Event()
    preview = links.Preview("A talk", False, (links.Item(URL, "A talk", 5.0, False),), False)

    def slow(url: str, terms: links.Terms) -> links.Preview:
        inside.release()
        assert leave.wait(30)
        return preview

    monkeypatch.setattr(ingest.links, "look", slow)
    found: list[links.Preview] = []
    threads = [threading.Thread(target=lambda: found.append(ingest.look(box, URL))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.acquire(timeout=30)
    assert inside.acquire(timeout=30)
    with pytest.raises(StenoboxError) as refused:
        ingest.look(box, URL)
    assert (refused.value.code, refused.value.retry_after) == ("links_busy", 5)
    leave.set()
    for thread in threads:
        thread.join()
    assert found == [preview, preview]
    wait_until(lambda: ingest.look(box, URL) == preview, 5)


def test_a_look_that_dies_is_a_crash_of_its_process(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(url: str, terms: links.Terms) -> links.Preview:
        raise ChildDied("downloader", "was killed (SIGKILL)")

    monkeypatch.setattr(ingest.links, "look", dies)
    with pytest.raises(StenoboxError) as refused:
        ingest.look(box, URL)
    assert refused.value.code == "engine_crashed"


def test_queue_messages_for_links_are_known(tmp_path: Path) -> None:
    queue, heard = Queue(tmp_path / "huey.db"), []
    queue.answer(fetch_link=heard.append)
    queue.fetch("0" * 32)
    message = queue.huey.dequeue()
    queue.huey.execute(message)
    assert heard == ["0" * 32]
    queue.close()


def test_a_key_leaves_the_last_slot_to_others(box: Box) -> None:
    """Its links may drip for hours. The operator's own take all that is free."""
    change_limit(box.database, "queue_limit", 20)
    change_limit(box.database, "download_slots", 3)
    for number in range(4):
        ingest.submit(box, f"https://one.example/{number}.mp3", submitter="one key")

    def claim() -> str | None:
        attempt = store.claim_download(box.database, box.planner.first(), "worker", 60)
        return None if attempt is None else attempt.job.submitter

    assert [claim() for _ in range(3)] == ["one key", "one key", None]
    ingest.submit(box, "https://two.example/a.mp3", submitter="another")
    assert [claim() for _ in range(2)] == ["another", None]


def test_the_operator_takes_every_slot(box: Box) -> None:
    for number in range(2):
        ingest.submit(box, f"https://one.example/{number}.mp3")
    claimed = [store.claim_download(box.database, box.planner.first(), "worker", 60) for _ in range(2)]
    assert None not in claimed


def test_one_key_looks_into_one_link_at_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = box.seen_by(Principal("a phone", Scope.SUBMIT, "key"))
    preview = links.Preview("A talk", False, (links.Item(URL, "A talk", 5.0, False),), False)

    def nested(url: str, terms: links.Terms) -> links.Preview:
        with pytest.raises(StenoboxError) as busy:
            ingest.look(seen, URL)
        assert busy.value.code == "links_busy"
        if url == URL:
            monkeypatch.setattr(ingest.links, "look", lambda url, terms: preview)
            assert ingest.look(box, URL) == preview
        return preview

    monkeypatch.setattr(ingest.links, "look", nested)
    assert ingest.look(seen, URL) == preview
    assert ingest.look(seen, URL) == preview


@pytest.mark.parametrize(
    ("header", "title"),
    [
        ("attachment; filename*=UTF-8''M%C3%BCller%20Interview.mp3", "Müller Interview"),
        ("attachment; filename=\"plain.mp3\"; filename*=utf-8'en'%C3%9Cbung.ogg", "Übung"),
        ("attachment; filename*=ISO-8859-1''M%FCller.mp3", "Müller"),
        ('attachment; filename="say \\"hi\\".flac"', 'say "hi"'),
        ("attachment; filename=talk.mp3", "talk"),
        ('attachment; filename="M\u00c3\u00bcller.mp3"', "Müller"),
        ("attachment; filename*=nonsense''%FF%FF.mp3; filename=talk.mp3", "talk"),
        ("attachment; filename*=UTF-8''%FF%FF.mp3", ""),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="v1.2 of the talk"', "v1.2 of the talk"),
        ("attachment", ""),
        ("", ""),
        ("attachment; filename=" + ";" * 100_000, ""),
    ],
)
def test_what_a_site_calls_its_file(header: str, title: str) -> None:
    assert file_title(header) == title


def test_what_yt_dlp_writes_behind_an_address_is_shown_to_nobody() -> None:
    smuggled = "https://example.org/a.mp3#__youtubedl_smuggle=%7B%22force_videoid%22%3A+%22x%22%7D"
    assert about({"webpage_url": smuggled})["webpage"] == "https://example.org/a.mp3"


def test_a_name_that_was_chosen_from_a_list_stays(bench: Bench) -> None:
    """The file behind it has another: `ep4`."""
    job = ingest.submit(bench.box, URL, title="Episode 4: Council nights, part 4")
    assert bench.run(job).source.name == "Episode 4: Council nights, part 4"
    assert bench.run(bench.submit("https://example.org/other.mp3")).source.name == ABOUT["title"]
