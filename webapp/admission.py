"""The cheap look before a body is read, by the event loop, which never waits for database or disk itself."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from tasks.errors import StenoboxError
from tasks.lookout import Lookout


async def foresee(lookout: Lookout, size: int | None, submitter: str, asker: str) -> StenoboxError | None:
    """The refusal that one more would meet by what is known; None when it would fit. See `Lookout.refusal`."""
    if lookout.must_look(submitter, size):
        try:
            await run_in_threadpool(lookout.look, submitter)
        except StenoboxError as busy:
            return busy
    return lookout.refusal(size, submitter, asker)


async def check(lookout: Lookout, size: int | None, submitter: str, asker: str) -> None:
    """`foresee`, raised."""
    if refusal := await foresee(lookout, size, submitter, asker):
        raise refusal
