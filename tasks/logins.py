"""People: the password, who is logged in, and the link that sets the first password."""

from __future__ import annotations

import logging
import math
import secrets
import time
import uuid
from dataclasses import replace

from tasks import keys, passwords, store, throttle
from tasks.access import Access
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.store import Session

logger = logging.getLogger(__name__)

IDLE_SECONDS = 7 * 86_400.0
"""A browser that was away for so long has to log in again."""
LONGEST_SECONDS = 30 * 86_400.0
"""Every browser has to, after this."""
SEEN_SECONDS = 60.0
"""How exactly it is recorded when a browser was here."""
FRESH_SECONDS = 1.0
"""How old what is remembered of a session may be: another process may have ended it."""
SLACK_SECONDS = 300.0
"""What clocks that are steered may go back by."""
INVITATION_SECONDS = 3600.0
MOST_REMEMBERED = 1000
AGENT_CHARACTERS = 300


class Logins:
    """Of one process."""

    def __init__(self, config: Config, database: Database, access: Access) -> None:
        self._config, self._database, self._access = config, database, access
        self._seen: dict[str, tuple[float, Session]] = {}

    def log_in(self, password: str, address: str, agent: str, old_token: str = "") -> str:
        """The token of a new session; the old one, if the browser had one, ends.

        Raises StenoboxError unauthorized, or too_many_logins with the time to wait.
        """
        party = throttle.party(address)
        note, wait = store.begin_login_if_due(
            self._database, party, lambda tries: throttle.seconds_to_wait(tries, party, time.time())
        )
        if note is None:
            seconds = math.ceil(wait)
            sentence = f"Too many wrong passwords were tried. Try again in {seconds} s."
            raise StenoboxError("too_many_logins", sentence, retry_after=seconds)
        stored = store.password(self._database)
        if stored is None or not passwords.matches(stored.value, password):
            logger.warning("a login from %s failed", party)
            raise StenoboxError("unauthorized", "That is not the password.", param="password")
        store.note_login(self._database, note, party)
        if passwords.is_dated(stored.value):
            store.rehash_if_unchanged(self._database, stored.value, passwords.hash_of(password))
        self.log_out(old_token)
        return self.begin_session(address, agent)

    def begin_session(self, address: str, agent: str) -> str:
        """A session for who has just proved who they are. Returns its token, which is stored nowhere."""
        token, now = secrets.token_urlsafe(32), time.time()
        agent = "".join(c for c in agent if c.isprintable())[:AGENT_CHARACTERS]
        session = Session(uuid.uuid4().hex[:16], keys.digest(token), now, now, agent, address[:64])
        store.drop_sessions_before(self._database, now - LONGEST_SECONDS, now - IDLE_SECONDS)
        store.add_session(self._database, session)
        return token

    def remembered(self, token: str) -> Session | None:
        """As `session`, from memory; None when it isn't known there, or too old."""
        at, session = self._seen.get(keys.digest(token), (float("-inf"), None))
        return session if time.monotonic() - at < FRESH_SECONDS else None

    def session(self, token: str) -> Session | None:
        """Whose browser this is; None when it has to log in. Reads the database."""
        digest, now = keys.digest(token), time.time()
        session = store.find_session(self._database, digest)
        if session is None or not _holds(session, now):
            return None
        if abs(now - session.seen_at) >= SEEN_SECONDS:
            session = replace(session, seen_at=now)
            try:
                store.note_seen(self._database, session.id, now)
            except StenoboxError as error:  # not worth sending anybody away
                logger.warning("a session's use is not recorded yet: %s", error.message)
        if len(self._seen) >= MOST_REMEMBERED:
            self._seen.clear()
        self._seen[digest] = (time.monotonic(), session)
        return session

    def sessions(self) -> list[Session]:
        """Browsers that are logged in, the last used first."""
        now = time.time()
        return [session for session in store.list_sessions(self._database) if _holds(session, now)]

    def log_out(self, token: str) -> None:
        if token and (session := store.find_session(self._database, keys.digest(token))):
            self.end_session(session.id)

    def end_session(self, session_id: str) -> None:
        store.drop_session(self._database, session_id)
        self._seen.clear()

    def end_others(self, session_id: str) -> int:
        """Ends all sessions but this one; how many there were."""
        self._seen.clear()
        return store.drop_sessions_but(self._database, session_id)

    # The password

    def closed(self) -> bool:
        """Whether nobody comes in without a key or a login."""
        return self._config.exposed or self.password_is_set()

    def password_is_set(self) -> bool:
        return store.password(self._database) is not None

    def password_is_the_operators(self) -> bool:
        """Whether the environment sets it, so that a change here would not last."""
        stored = store.password(self._database)
        return stored is not None and stored.set_by == "environment"

    def change_password(self, current: str, new: str, address: str) -> None:
        """From the page: needs the current one, if there is one. Everybody is logged out.

        Raises StenoboxError invalid_value with the field's name, or too_many_logins.
        """
        if self.password_is_the_operators():
            raise _wrong("new", "The operator sets the password, with STENOBOX_PASSWORD.")
        if self.password_is_set():
            try:
                self.log_out(self.log_in(current, address, ""))  # throttled as a login is
            except StenoboxError as error:
                if error.code != "unauthorized":
                    raise
                raise _wrong("current", "That is not the current password.") from None
        self.set_password(new, "page")

    def set_password(self, new: str, by: str) -> None:
        """Set it, whatever it was. Everybody is logged out. Raises StenoboxError invalid_value."""
        if by != "environment" and (fault := passwords.fault(new)):
            raise _wrong("new", fault)
        store.set_password(self._database, passwords.hash_of(new), by)
        store.forget_logins(self._database)
        self._changed()

    def remove_password(self) -> bool:
        """False when there was none. Raises StenoboxError invalid_value on a box that others can reach."""
        if self._config.exposed:
            raise _wrong("remove", "Others can reach this box, so it needs a password.")
        removed = store.remove_password(self._database)
        self._changed()
        return removed

    def take_password(self, given: str) -> None:
        """The password of the environment, "" if it gives none: it wins over one that was set before."""
        stored = store.password(self._database)
        if not given:
            if stored and stored.set_by == "environment":
                store.note_who_set_password(self._database, "command")  # it stays, and may be changed
        elif stored is None or not passwords.matches(stored.value, given):
            self.set_password(given, "environment")
        elif stored.set_by != "environment":
            store.note_who_set_password(self._database, "environment")

    # The link

    def invite(self) -> str:
        """The token of a link that may set the password, once, within INVITATION_SECONDS. Earlier ones end."""
        token = secrets.token_urlsafe(24)
        store.invite(self._database, keys.digest(token), INVITATION_SECONDS)
        return token

    def invitation_waits(self) -> bool:
        """Whether a link was given out that may still set the password."""
        return store.invitation_waits(self._database)

    def is_invited(self, token: str) -> bool:
        return bool(token) and store.is_invited(self._database, keys.digest(token))

    def set_up(self, token: str, new: str) -> None:
        """Set the password by a link. Raises StenoboxError invalid_value, or not_found for a link that is used up."""
        if not self.is_invited(token):
            raise _used_up()
        if fault := passwords.fault(new):
            raise _wrong("new", fault)
        if not store.set_password_if_invited(self._database, keys.digest(token), passwords.hash_of(new)):
            raise _used_up()
        store.forget_logins(self._database)
        self._changed()

    def _changed(self) -> None:
        self._seen.clear()
        self._access.forget()


def _holds(session: Session, now: float) -> bool:
    """Whether it is not over. One that was made in what is the future now is of a time nobody knows: the clock was set
    back since, and it would hold for as much longer."""
    return -SLACK_SECONDS <= now - session.created_at <= LONGEST_SECONDS and now - session.seen_at <= IDLE_SECONDS


def _wrong(param: str, sentence: str) -> StenoboxError:
    return StenoboxError("invalid_value", sentence, param=param)


def _used_up() -> StenoboxError:
    return StenoboxError("not_found", "This link was used already, or is too old.")
