"""Keeps the C library from giving memory back to the system between steps."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_AHEAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Let freed tensors' memory serve the next ones in this process; True if that could be set.

    A step on the CPU frees and allocates the same gigabyte again. By default glibc returns large
    blocks to the kernel, which hands out zeroed pages again, a page fault for every 4 KiB: some
    ten thousand faults a step, a few percent of its time. Afterwards the process stays as large as
    its largest step: for commands that train, never for a library. Does nothing where there
    is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _AHEAD_BYTES}
    return all(mallopt(key, value) == 1 for key, value in settings.items())
