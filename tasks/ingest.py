"""Links as people and programs hand them in: checked, admitted like any recording, looked into before that."""

from __future__ import annotations

import threading
from collections import Counter
from urllib.parse import urlsplit

from tasks import batches, egress, links, repeats, store
from tasks.actions import Box
from tasks.capacity import Request
from tasks.children import ChildDied
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, Source
from tasks.links.about import clean

LOOKS = 2
"""Links that are looked into at once; each takes a process. One key has one of them, so that its slow sites keep nobody
else waiting."""
_looking: Counter[str] = Counter()
_lock = threading.Lock()


def check(box: Box, url: str) -> str:
    """The link, if it is one that this box may be asked for. Where it leads is only known once it is fetched.

    Raises StenoboxError links_closed, invalid_value or host_not_allowed.
    """
    limits, url = box.limits(), url.strip()
    if not limits.download_slots:
        raise StenoboxError("links_closed", "This box takes no links. Download the recording and send the file.")
    if wrong := egress.fault(url, box.config.egress):
        raise StenoboxError("invalid_value", f"This link {wrong}.", param="url")
    hosts = egress.read_hosts(limits.link_hosts)
    if hosts and not egress.is_listed(urlsplit(url).hostname or "", hosts):
        raise StenoboxError("host_not_allowed", links.ADVICE["host_not_allowed"], param="url")
    return url


def submit(
    box: Box,
    url: str,
    model: str | None = None,
    language: str | None = None,
    submitter: str = "",
    asker: str = "",
    title: str = "",
    key: str = "",
    wanted: Params | None = None,
    batch: str = "",
) -> Job:
    """Take a place in line for a link: it is fetched first, then transcribed. submitter: whose it is; asker: who is
    told when to come back; title: what to call it until the site is asked; key: the submitter's own name for this
    submission, whose second use leads to the same job; wanted: parameters that were checked before, instead of model
    and language; batch: the id or name of the batch it enters.

    Raises as `check`, `Box.params` and `repeats.find`, and the refusals of admission."""
    url, batch = check(box, url), batches.check_name(batch)
    params = wanted or box.params(model, language)

    def is_same(job: Job) -> bool:
        return (job.source.url, job.params) == (url, params)

    if known := repeats.find(box.database, submitter, key, is_same):
        return known
    box.lookout.check(None, submitter, asker)
    source = Source("url", clean(title) or links.link_name(url), url=url)
    request = Request(disk_free=box.lookout.disk_free())
    try:
        job = store.admit_link(box.database, box.planner.first(), request, source, params, submitter, key, batch)
    except store.KeyTaken:  # by one that came at the same time
        known = repeats.find(box.database, submitter, key, is_same)
        return known or submit(box, url, model, language, submitter, asker, title, key, wanted, batch)
    except StenoboxError as refusal:
        if refusal.code == "queue_full":
            box.lookout.check_again(None, submitter, asker)
        raise
    box.lookout.forgive(asker)
    box.queue.fetch(job.id)
    return box.get(job.id)


def look(box: Box, url: str) -> links.Preview:
    """What is at a link; takes seconds. Raises as `check`, links_busy, and what `links.look` does."""
    url, who = check(box, url), box.principal.submitter
    with _lock:
        if _looking.total() >= LOOKS or (who and _looking[who]):
            raise StenoboxError(
                "links_busy", "Other links are being looked into. Try again in a few seconds.", retry_after=5
            )
        _looking[who] += 1
    from tasks.fetching import terms  # of the worker, with all that a worker needs

    try:
        return links.look(url, terms(box.config, box.limits()))
    except ChildDied as death:
        sentence = f"Looking into this link ended early: {death}. Try again, or send the file."
        raise StenoboxError(death.cause, sentence) from None
    finally:
        with _lock:
            _looking[who] -= 1
