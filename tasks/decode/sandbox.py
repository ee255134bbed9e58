"""What a child that reads hostile bytes may do: little, and nothing outside itself.

Everywhere: limits on memory, CPU time and the size of what it writes; no new file descriptors while libav works, so
that no demuxer opens a file or a socket however it is talked into it. On Linux on x86-64 and ARM64 also a seccomp
filter that holds against an attacker's code in this process too: no sockets, no programs, no other process's memory.
A network namespace would need a privilege that containers rarely have, and adds nothing to having no sockets.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterator

MEMORY_BYTES = 3 * 1024**3

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _ALL_THREADS = 1, 1

# Numbers of: seccomp; and refused: socket, connect, bind, sendto, sendmsg, execve, execveat, ptrace,
# process_vm_readv, process_vm_writev, io_uring_setup (which opens sockets on its own).
_CALLS = {
    "x86_64": (0xC000003E, 317, (41, 42, 49, 44, 46, 59, 322, 101, 310, 311, 425)),
    "aarch64": (0xC00000B7, 277, (198, 203, 200, 206, 211, 221, 281, 117, 270, 271, 425)),
}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # EACCES
_X32 = 0x40000000
"""System calls from here on are x86-64's second set: none of ours needs them."""


def enter(seconds: float, most_written: int) -> bool:
    """Give up for good what reading a file does not need. seconds: of CPU time; most_written: bytes a file.

    Returns whether the system refuses sockets and programs from here on.
    """
    cpu = int(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_written, most_written))
    if sys.platform == "linux":  # macOS has the constant and no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    return _refuse_calls()


@contextlib.contextmanager
def no_new_files(but: int = 0) -> Iterator[None]:
    """While this lasts nothing can be opened, neither file nor socket; but: so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.dup(0) for _ in range(but + 1)]  # the system gives out the lowest free numbers
    for descriptor in spare:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _refuse_calls() -> bool:
    if sys.platform != "linux" or platform.machine() not in _CALLS or sys.maxsize < 2**32:
        return False
    architecture, seccomp, refused = _CALLS[platform.machine()]
    end = len(refused) + 5  # the number of the last rule, which refuses; a jump counts the rules it skips
    rules = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 0, end - 2, architecture),
        (_LOAD, 0, 0, 0),  # the call's number
        (_AT_LEAST, end - 4, 0, _X32),
        *((_EQUAL, end - place - 1, 0, number) for place, number in enumerate(refused, 4)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HP", len(rules), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    done: int = libc.syscall(seccomp, _SECCOMP_SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program))
    return done == 0
