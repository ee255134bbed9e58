"""supervisord as `serve` becomes it: the same program, whose own lines are lines of our log, and whose children's lines
go where its own output goes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from supervisor import loggers, supervisord
from supervisor.options import ServerOptions

from tasks import crashes, logs

logger = logging.getLogger("webapp.supervised")  # __name__ is __main__


class Handler:
    """Where supervisor's logger, which is not Python's, writes to."""

    level = 0

    def emit(self, record: Any) -> None:
        logger.log(record.level, "%s", record.msg % record.kw if record.kw else record.msg)

    def reopen(self) -> None:
        """At SIGUSR2: there is no file."""

    remove = close = reopen


class Options(ServerOptions):  # type: ignore[misc]
    """With a log of ours besides the file, which is /dev/null."""

    def make_logger(self) -> None:
        super().make_logger()
        self.logger.addHandler(Handler())


def _handle_file(log: Any, filename: str, fmt: str, **options: Any) -> None:
    """supervisor's own, but for /dev/stdout: opened by name, that is refused where the output is a socket (systemd's)
    or a pipe of another user's (a container's, whose entry point began as root)."""
    if filename != "/dev/stdout":
        _original(log, filename, fmt, **options)
        return
    handler = loggers.StreamHandler(sys.stdout.buffer)
    handler.setFormat(fmt)
    handler.setLevel(log.level)
    log.addHandler(handler)


_original = loggers.handle_file


def main() -> None:
    """Run supervisord with this process's arguments."""
    logs.begin("supervisor")
    if logs.style_of("supervisor") == "text":  # a person at a terminal wants to know only what is wrong
        logger.setLevel(logging.WARNING)
    crashes.watch(Path.cwd(), "supervisor")  # which `become_supervisor` has made the folder for such files
    supervisord.ServerOptions = Options
    loggers.handle_file = _handle_file
    supervisord.main()


if __name__ == "__main__":
    main()
