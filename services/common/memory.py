"""Keep a long-lived process with many threads from spreading its memory over many heaps."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_ARENA_MAX = -8
_ARENAS = 1


def share_heaps() -> None:
    """To be called before threads start: glibc would give each one a heap of its own, and keep what they free.

    Does nothing where the C library knows no such option.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
