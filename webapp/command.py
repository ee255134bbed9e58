"""What `stenobox` starts: `cli`, whose imports take half a second, in which a Ctrl-C is to be as quiet as later."""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command of this process. Returns its exit status."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # else it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from webapp.cli import main as run

    signal.signal(signal.SIGINT, heard)
    return run()
