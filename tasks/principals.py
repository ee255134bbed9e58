"""On whose behalf something is done: what they may do, and whose jobs they see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key allows; each one includes those before it."""

    READ = "read"
    """See one's own jobs and their transcripts, and how full the box is."""
    SUBMIT = "submit"
    """Submit jobs, and cancel, retry and delete one's own."""
    ADMIN = "admin"
    """Everything: all jobs, limits, keys."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or a program. name: as others read it; submitter: the mark on the jobs it submits, "" for people."""

    name: str
    scope: Scope
    submitter: str = ""

    def may(self, needed: Scope) -> bool:
        """Whether its scope includes this one."""
        order = list(Scope)
        return order.index(self.scope) >= order.index(needed)

    @property
    def owner(self) -> str | None:
        """The mark of the jobs it sees; None: all jobs."""
        return None if self.scope == Scope.ADMIN else self.submitter


OPERATOR = Principal("this box", Scope.ADMIN)
"""Who runs the box: its command line, and its page where nobody else can come."""
