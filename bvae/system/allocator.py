"""The C library's allocator, told to keep the memory that tensors free."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 2**30  # bytes: a larger tensor is mapped and unmapped on its own


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor, and say whether that was possible.

    It otherwise gives large blocks back to the system, which has to clear every page of them again at each step of
    training: docs/performance.md says what that costs. It changes no number, and nothing outside Linux with glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, KEPT) and library.mallopt(M_TRIM_THRESHOLD, 2 * KEPT - 1))
