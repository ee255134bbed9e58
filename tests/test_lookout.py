"""The cheap look: how old what was seen may be, and who looks again."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from web_support import put_job

from tasks import lookout, media, store
from tasks.actions import Box
from tasks.capacity import SPARE_BYTES
from tasks.errors import StenoboxError
from tasks.jobs import Source, State
from tasks.lookout import FRESH_SECONDS, STALE_SECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The lookout's own clock; moved by hand."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(lookout, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_what_was_seen_is_good_for_a_tenth_of_a_second(box: Box, clock: SimpleNamespace) -> None:
    box.lookout.check(None)
    put_job(box, State.QUEUED)
    put_job(box, State.QUEUED)
    put_job(box, State.QUEUED)  # and that was the last place
    clock.now += FRESH_SECONDS * 0.9
    assert not box.lookout.must_look()
    clock.now += FRESH_SECONDS * 0.2
    with pytest.raises(StenoboxError, match="The box is full"):
        box.lookout.check(None)


def test_while_one_looks_the_others_make_do_with_what_was_seen_for_a_second(
    box: Box, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.lookout.look()
    clock.now += FRESH_SECONDS
    there, free, load = threading.Event(), threading.Event(), store.load

    def slowly(*arguments: Any) -> Any:
        there.set()
        assert free.wait(60)
        return load(*arguments)

    monkeypatch.setattr(store, "load", slowly)
    assert box.lookout.must_look()
    looking = threading.Thread(target=box.lookout.look)
    looking.start()
    try:
        assert there.wait(60)
        clock.now += STALE_SECONDS * 0.5
        assert not box.lookout.must_look()
        clock.now += STALE_SECONDS * 0.5
        assert box.lookout.must_look()  # that one got stuck
    finally:
        free.set()
        looking.join()


def test_room_that_was_made_is_seen_at_once(box: Box, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes: somebody was refused, deleted something and tries again."""
    free = [0]
    monkeypatch.setattr(lookout.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[-1]))
    with pytest.raises(StenoboxError, match="almost full"):
        box.lookout.check(None)
    free.append(SPARE_BYTES)
    box.lookout.check(None)


def test_what_others_announced_and_have_yet_to_send_is_not_free(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four uploads of 2 GB with 2.6 GB free: one has room, and counts once, however much of it is here."""
    gigabyte = 10**9
    free = [26 * gigabyte // 10]
    monkeypatch.setattr(lookout, "FRESH_SECONDS", 0)
    monkeypatch.setattr(lookout.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[-1]))
    source = Source("upload", "long.wav", 2 * gigabyte)
    box.lookout.check(source.bytes)
    first = box.admit(source, "", "a")
    for _ in range(3):
        with pytest.raises(StenoboxError, match="almost full"):
            box.lookout.check(source.bytes)
        with pytest.raises(StenoboxError, match="almost full"):
            box.admit(source, "", "b")
    box.lookout.check(1000)  # it leaves room for a small one
    with media.Part(box.config, first) as part:
        os.truncate(media.part(box.config, first), 15 * gigabyte // 10)  # most of it has come
        part.sync()
        free.append(11 * gigabyte // 10)
        box.lookout.check(1000)
        box.admit(Source("upload", "short.wav", 1000), "", "c")
