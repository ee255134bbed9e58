"""Bodies on their way from the network to a thread that writes them: order, memory, failures, and whose time runs."""

from __future__ import annotations

import gc
import threading
from unittest import mock

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request
from support import BUSY_SECONDS

from tasks.errors import StenoboxError
from webapp import streams
from webapp.streams import Pace, Pump, pour

PIECE = streams.PIECE_BYTES


class Taker:
    """Takes chunks as a disk does: in its own time, and not always."""

    def __init__(self, full_after: int | None = None) -> None:
        self.taken: list[bytes] = []
        self.going = threading.Event()
        self.going.set()
        self.busy = threading.Event()
        self.full_after = full_after

    def __call__(self, *chunks: bytes) -> None:
        self.busy.set()
        assert self.going.wait(BUSY_SECONDS)
        if self.full_after is not None and len(self.taken) >= self.full_after:
            raise StenoboxError("disk_full", "The disk is full.")
        self.taken.extend(chunks)
        self.busy.clear()


def request_of(*chunks: bytes, broken: bool = False) -> Request:
    """A request whose body comes in these chunks, and ends, or doesn't."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append(
        {"type": "http.disconnect"} if broken else {"type": "http.request", "body": b"", "more_body": False}
    )
    left = iter(messages)

    async def receive() -> dict[str, object]:
        return next(left)

    return Request({"type": "http", "method": "PUT", "headers": []}, receive)


@pytest.mark.parametrize("size", [1, 1448, PIECE // 3, PIECE, 3 * PIECE])
def test_all_that_comes_is_taken_in_order(size: int) -> None:
    take, count = Taker(), max(7, 4 * PIECE // max(size, 1000))
    chunks = [number.to_bytes(4, "big") + b"x" * size for number in range(count)]
    anyio.run(pour, request_of(*chunks), take)
    assert take.taken == chunks


def test_what_came_before_a_broken_connection_is_taken() -> None:
    take = Taker()
    with pytest.raises(ClientDisconnect):
        anyio.run(pour, request_of(b"one", b"two", broken=True), take)
    assert take.taken == [b"one", b"two"]


def come_before_the_disk_moves(chunks: list[bytes], uploads: int) -> int:
    """How many chunks are read of so many uploads before the first is on disk; all are, once it is."""
    take, came = Taker(), []
    take.going.clear()

    async def main() -> int:
        async with anyio.create_task_group() as tasks:
            for _ in range(uploads):
                tasks.start_soon(pour, request_of(*chunks), take, lambda: came.append(1))
            for _ in range(50):
                await anyio.sleep(0.01)
            take.going.set()
            return len(came)

    found = anyio.run(main)
    assert take.taken == chunks if uploads == 1 else len(take.taken) == uploads * len(chunks)
    assert Pump.working == 0
    return found


def test_the_network_waits_for_the_disk_with_two_pieces_in_memory() -> None:
    # One piece being taken, one gathered, and the chunk that made it full.
    assert 2 <= come_before_the_disk_moves([b"x" * (PIECE // 2)] * 20, 1) <= 5


def test_many_at_once_share_the_memory_of_one_piece() -> None:
    """A hundred fast senders and one slow disk: a chunk being taken and one that waits, for each."""
    # The first ones began while they were few.
    assert 200 <= come_before_the_disk_moves([b"x" * 256_000] * 20, 100) <= 220


def test_chunks_of_a_byte_each_are_counted_with_what_they_cost() -> None:
    pump = Pump(Taker())
    added = 0
    while not pump.full:
        pump.add(b"x")
        added += 1
    assert added * 40 < PIECE  # a bytes object of one byte takes 34 and its place in a list 8


def test_after_a_failure_nothing_more_is_taken() -> None:
    take = Taker(full_after=1)
    chunks = [b"a" * PIECE, b"b" * PIECE, b"c" * PIECE, b"d" * 10]
    with pytest.raises(StenoboxError, match="disk is full"):
        anyio.run(pour, request_of(*chunks), take)
    take.full_after = None
    assert take.taken == chunks[:1], "what came after a gap would be at a wrong place"


def test_a_failure_at_the_very_end_is_told() -> None:
    with pytest.raises(StenoboxError, match="disk is full"):
        anyio.run(pour, request_of(b"short"), Taker(full_after=0))


def test_a_disk_that_fails_is_told_also_when_the_sender_has_left() -> None:
    with pytest.raises(StenoboxError, match="disk is full"):
        anyio.run(pour, request_of(b"a" * PIECE, b"b", broken=True), Taker(full_after=0))


def test_a_canceled_upload_ends_when_its_thread_has() -> None:
    """Or its file would be closed, and its number given to another, while the thread writes."""
    take = Taker()
    take.going.clear()
    ended = threading.Event()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:

            async def upload() -> None:
                try:
                    async with Pump(take) as pump:
                        pump.add(b"one")
                        await pump.make_room()
                        pump.add(b"two")
                        await anyio.sleep_forever()
                finally:
                    ended.set()

            tasks.start_soon(upload)
            while not take.busy.is_set():
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.2)
                assert not ended.is_set()
                take.going.set()

    anyio.run(main)
    assert ended.is_set()
    assert take.taken == [b"one"], "nobody wants what was not being taken yet"


def test_a_canceled_upload_whose_disk_fails_is_canceled(caplog: pytest.LogCaptureFixture) -> None:
    take = Taker(full_after=0)
    take.going.clear()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with Pump(take) as pump:
                pump.add(b"one")
                await pump.make_room()
                scope.cancel()
                take.going.set()
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    anyio.run(main)
    gc.collect()
    assert not caplog.records, "nobody asks for what is told nobody"


def test_a_silent_sender_uses_up_its_time() -> None:
    async def main() -> None:
        with Pace():
            await anyio.sleep(BUSY_SECONDS)

    with mock.patch.object(streams, "STALL_SECONDS", 0.2), pytest.raises(StenoboxError, match="Next to nothing came"):
        anyio.run(main)


def test_a_sender_of_enough_bytes_may_take_as_long_as_it_likes() -> None:
    async def main() -> None:
        with Pace() as pace:
            for _ in range(50):
                await anyio.sleep(0.1)
                pace.came(2 * streams.LEAST_RATE)

    with mock.patch.object(streams, "STALL_SECONDS", 3.0):
        anyio.run(main)


def test_a_byte_now_and_then_is_as_good_as_silence() -> None:
    async def main() -> None:
        with Pace() as pace:
            for _ in range(1000):
                await anyio.sleep(0.05)
                pace.came(1)

    with mock.patch.object(streams, "STALL_SECONDS", 0.4), pytest.raises(StenoboxError, match="Next to nothing came"):
        anyio.run(main)


def test_the_time_a_slow_disk_takes_is_not_the_senders() -> None:
    async def main() -> None:
        with Pace() as pace:
            with pace.standing():
                await anyio.sleep(4.0)
            await anyio.sleep(0.05)

    with mock.patch.object(streams, "STALL_SECONDS", 3.0):
        anyio.run(main)


def test_bytes_fill_the_bucket_to_the_brim_and_not_over() -> None:
    async def main() -> None:
        with Pace() as pace:
            pace.came(1_000_000 * streams.LEAST_RATE)
            await anyio.sleep(BUSY_SECONDS)

    with mock.patch.object(streams, "STALL_SECONDS", 0.2), pytest.raises(StenoboxError, match="Next to nothing came"):
        anyio.run(main)
