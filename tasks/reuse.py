"""The same recording again, from the same submitter, with the same parameters: its transcript is here already.

The new job has a row, a recording and a transcript of its own, so that deleting one says nothing about the other.
Never across submitters: that a recording was here before is nobody else's business.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace

from tasks import media, store, transcripts
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, Source

logger = logging.getLogger(__name__)

SENTENCE = "The same recording was transcribed with the same parameters before; this is that transcript."


def complete(config: Config, database: Database, job_id: str, source: Source, params: Params) -> Job | None:
    """Complete a job whose bytes are all on disk by an earlier one's transcript; None when there is none."""
    if source.sha256 is None:
        return None
    for twin in store.twins(database, job_id, source.sha256, params):
        try:
            words = media.transcript(config, twin.id, twin.result or "").read_bytes()
            transcripts.read(words)
        except (OSError, ValueError):  # deleted meanwhile, or damaged
            continue
        result = f"{uuid.uuid4().hex}.json"
        try:
            media.write_durably(media.transcript(config, job_id, result), words)
        except StenoboxError as error:  # then it is made again
            logger.warning("job %s: no transcript could be copied: %s", job_id, error.message)
            return None
        note = SENTENCE if not twin.note else f"{SENTENCE} {twin.note.removeprefix(SENTENCE).strip()}".strip()
        done = store.complete_if_receiving(
            database, job_id, replace(source, seconds=twin.source.seconds), params, result, note
        )
        if done:
            logger.info("job %s: completed by the transcript of job %s", job_id, twin.id)
        return done
    return None
