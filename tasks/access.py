"""Whose key is this: keys as seen a moment ago, since every request asks; and what the operator does with them."""

from __future__ import annotations

import hmac
import logging
import time
import uuid

from tasks import keys, store
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.principals import OPERATOR, Principal, Scope
from tasks.store import Key

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""How old what is known may be: a key that another process revoked works no longer than this."""
NEW_SECONDS = 0.05
"""How old, for a key that isn't known: it may have just been made. Guessing costs so many reads a second, no more."""
USE_SECONDS = 60.0
"""How exactly the last use of a key is recorded."""
BUSY_SECONDS = 5.0
"""When that is tried again, after the database was busy."""
NAME_CHARACTERS = 64
MOST_ACTIVE = 100_000


class Access:
    """Of one process. Everything but `look`, `note_use` and the changes answers from memory."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config, self._database = config, database
        self._looked = float("-inf")
        self._changes = 0
        self._closed = True
        self._busy_until = float("-inf")
        self._by_digest: dict[str, Key] = {}
        self._by_id: dict[str, Key] = {}

    @property
    def closed(self) -> bool:
        """Whether nobody comes in without a key or a login: others can reach the box, or it has a password."""
        return self._closed

    def must_look(self, key: str = "") -> bool:
        """Whether what is known is too old to be asked. key: the one that came, if one did."""
        age = time.monotonic() - self._looked
        return age > FRESH_SECONDS or (key != "" and age > NEW_SECONDS and keys.digest(key) not in self._by_digest)

    def look(self) -> None:
        """Read the keys. Raises StenoboxError database_busy."""
        now, changes = time.monotonic(), self._changes
        self._closed = self._config.exposed or store.password(self._database) is not None
        found = store.list_keys(self._database)
        self._by_digest = {key.digest: key for key in found}
        self._by_id = {key.id: key for key in found}
        if changes == self._changes:  # else this may be what was there before the change
            self._looked = now

    def forget(self) -> None:
        """Something was changed: look before the next answer."""
        self._changes += 1
        self._looked = float("-inf")

    def by_key(self, text: str) -> Principal | None:
        """Whose key this is; None when it is not known, or no longer.

        Before there is any key, a box that nobody else can reach takes every text for a label of its one person's
        programs, so that clients that insist on sending a key work at once, and take turns.
        """
        found = self._by_digest.get(digest := keys.digest(text))
        if found is not None and hmac.compare_digest(found.digest, digest) and found.valid(time.time()):
            return Principal(f"key {found.name}", found.scope, found.owner)
        if not self._by_digest and not self.closed:
            return Principal(OPERATOR.name, Scope.ADMIN, digest[:16])
        return None

    def max_active(self, owner: str) -> int | None:
        """How many jobs of this owner may be active at once; None: as many as the limit for every key says."""
        key = self._by_id.get(owner)
        return None if key is None else key.max_active

    def names(self) -> dict[str, str]:
        """Names of keys by the mark on their jobs: of revoked ones too, whose jobs stay."""
        return {key.id: key.name for key in self._by_id.values()}

    def note_use(self, text: str) -> None:
        """This key was used: written down at most once in USE_SECONDS."""
        key, now = self._by_digest.get(keys.digest(text)), time.time()
        if key is None or now - (key.used_at or 0) < USE_SECONDS:
            return
        try:
            store.note_use(self._database, key.id, now)
        except StenoboxError as error:  # not worth refusing anybody
            logger.warning("the use of a key is not recorded yet: %s", error.message)
            self._busy_until = time.monotonic() + BUSY_SECONDS
            return
        self.forget()

    def use_is_due(self, text: str) -> bool:
        """Whether `note_use` would write."""
        key = self._by_digest.get(keys.digest(text))
        due = key is not None and time.time() - (key.used_at or 0) >= USE_SECONDS
        return due and time.monotonic() >= self._busy_until

    def create_key(
        self,
        name: str,
        scope: str = Scope.SUBMIT,
        *,
        max_active: int | None = None,
        days: float | None = None,
        jobs_of: str = "",
    ) -> tuple[Key, str]:
        """A new key and its text, which is never seen again. days: until it expires; jobs_of: name of a key whose jobs
        it shares. Raises StenoboxError invalid_value or not_found."""
        name = _checked_name(name)
        if scope not in list(Scope):
            raise _invalid("scope", f"The scope must be one of {', '.join(Scope)}.")
        if max_active is not None and not 1 <= max_active <= MOST_ACTIVE:
            raise _invalid("max_active", f"The limit of active jobs must be from 1 to {MOST_ACTIVE:,}.")
        if max_active is not None and jobs_of:
            raise _invalid("max_active", "A key that shares another one's jobs shares its limit of active jobs too.")
        if days is not None and not 0 < days <= 36_500:
            raise _invalid("expires", "The time until a key expires must be above 0, up to 36,500 days.")
        text, now, own = keys.mint(), time.time(), uuid.uuid4().hex[:16]
        owner = self.find_key(jobs_of).owner if jobs_of else own
        expires = None if days is None else now + days * 86_400
        key = Key(own, name, keys.digest(text), text[-4:], Scope(scope), owner, max_active, now, expires, None, None)
        if not store.add_key_if_new(self._database, key):
            raise _invalid("name", f"There is a key {name} already. Choose another name, or revoke or rotate that one.")
        self.forget()
        return key, text

    def list_keys(self) -> list[Key]:
        """All there ever were, oldest first."""
        return store.list_keys(self._database)

    def find_key(self, name: str) -> Key:
        """The key that counts under this name. Raises StenoboxError not_found."""
        for key in store.list_keys(self._database):
            if key.name == name and key.revoked_at is None:
                return key
        raise _no_key(name)

    def rotate_key(self, name: str) -> tuple[Key, str]:
        """A new text for a key, which keeps its jobs; the old text is refused at once. Raises not_found."""
        text = keys.mint()
        key = store.rotate_key_if_live(self._database, name, keys.digest(text), text[-4:])
        if key is None:
            raise _no_key(name)
        self.forget()
        return key, text

    def revoke_key(self, name: str) -> Key:
        """Refuse a key from now on. Its jobs stay. Raises not_found."""
        key = store.revoke_key_if_live(self._database, name)
        if key is None:
            raise _no_key(name)
        self.forget()
        return key


def _checked_name(name: str) -> str:
    name = name.strip()
    if not (name and len(name) <= NAME_CHARACTERS and name.isprintable()):
        raise _invalid("name", f"The name of a key has 1 to {NAME_CHARACTERS} characters.")
    return name


def _invalid(param: str, sentence: str) -> StenoboxError:
    return StenoboxError("invalid_value", sentence, param=param)


def _no_key(name: str) -> StenoboxError:
    return StenoboxError("not_found", f"There is no key {name[:NAME_CHARACTERS]!r}.", param="name")
