"""Keeps the memory of a long-running gateway small: what glibc and Python hold back is given to the system again."""

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # mallopt(3)
_TRIM_THRESHOLD_SIZE = 64 << 10  # octets free at the top of the heap before it shrinks; the default grows to MiB


def limit() -> None:
    """Let malloc use one arena and give back early; call it before threads exist. Does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_SIZE)


def give_back() -> None:
    """Collect what starting up left behind and return it to the system."""
    gc.collect()
    gc.freeze()  # what lives now lives for good; later collections need not look at it
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
