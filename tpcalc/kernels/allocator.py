"""Keep freed memory in the process: large temporaries otherwise fault in anew at every step."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def retain_freed_memory() -> bool:
    """Tell glibc never to give freed memory back to the system; False where it is not glibc.

    For the rest of the process. Every torch tensor above 128 kB is otherwise mapped, filled with
    pages by faults, and unmapped again; on virtual machines that costs more than the arithmetic
    on it. Never called at import: calculator, CLI and benchmarks call it and say so.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def return_freed_memory() -> None:
    """Give the system what is freed now (glibc; elsewhere nothing happens)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
