"""All SQL about jobs, as functions named for what they mean.

Every change of state is one guarded UPDATE: nobody reads, decides and writes. A function that needs the owner's
token says so in its name, and changes nothing once the token is stale.
"""

from tasks.store.admission import (
    Change,
    admit,
    change_limits,
    choices,
    drop_if_receiving,
    drop_receiving_of_others,
    guard,
    limits,
    list_changes,
    load,
    queue_if_receiving,
    retry,
)
from tasks.store.attempts import (
    INTERRUPTED,
    Attempt,
    cancel_if_owned,
    claim_next,
    fail_if_owned,
    finish_if_owned,
    note_length_if_owned,
    renew_if_owned,
    requeue_all_running,
    requeue_crashed_if_owned,
    requeue_expired,
    requeue_if_owned,
)
from tasks.store.history import AttemptRecord, Cause, Seen, list_attempts
from tasks.store.measuring import Sample, add_record, add_sample, factor, list_samples, records
from tasks.store.keeping import existing, note_media_removed_before, results_of_finished, without_media
from tasks.store.keys import KeyTaken, find_key, forget_keys
from tasks.store.measuring import Sample, add_record, add_sample, list_samples, records
from tasks.store.reading import (
    cancel,
    count_finished,
    delete,
    delete_finished_before,
    get,
    ids,
    list_active,
    list_finished,
    list_jobs,
)
from tasks.store.same import complete_if_receiving, twins

__all__ = [
    "INTERRUPTED",
    "Attempt",
    "AttemptRecord",
    "Cause",
    "Change",
    "KeyTaken",
    "Sample",
    "Seen",
    "add_record",
    "add_sample",
    "admit",
    "cancel",
    "cancel_if_owned",
    "change_limits",
    "choices",
    "claim_next",
    "complete_if_receiving",
    "count_finished",
    "delete",
    "delete_finished_before",
    "drop_if_receiving",
    "drop_receiving_of_others",
    "factor",
    "existing",
    "fail_if_owned",
    "find_key",
    "finish_if_owned",
    "forget_keys",
    "get",
    "guard",
    "ids",
    "limits",
    "list_active",
    "list_attempts",
    "list_changes",
    "list_finished",
    "list_jobs",
    "list_samples",
    "load",
    "note_length_if_owned",
    "note_media_removed_before",
    "queue_if_receiving",
    "records",
    "renew_if_owned",
    "requeue_all_running",
    "requeue_crashed_if_owned",
    "requeue_expired",
    "requeue_if_owned",
    "results_of_finished",
    "retry",
    "twins",
    "without_media",
]
