"""What a CPU has and needs to train fast: cores, memory that is kept, bfloat16 where it has the instructions."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def cores() -> int:
    """Number of cores that this process may use: those that SLURM, a container or ``taskset`` left it, not all."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_large_blocks() -> bool:
    """Tell glibc's allocator to keep freed memory instead of returning it to the system.

    Every training step frees and asks again for the same activations; by default each large block is
    mapped and unmapped, and its pages are cleared anew. The same as starting the process with
    ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=… MALLOC_TOP_PAD_=…``, but from inside. A user's own
    ``MALLOC_*`` variables are left in force. It does as much as the variables do: on two cores,
    5 % to 10 % of a training step of experiment=hippocampus.

    Returns:
        Whether the settings were made (glibc on Linux only).
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**26}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX), as Linux reports it."""
    try:
        with open("/proc/cpuinfo") as stream:
            flags = next((line for line in stream if line.startswith("flags")), "")
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))
