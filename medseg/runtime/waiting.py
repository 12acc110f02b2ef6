"""How the threads of a CPU wait for each other: asleep, so that other processes get the core."""

from __future__ import annotations

import os
import sys

_PASSIVE = {
    "OMP_WAIT_POLICY": "PASSIVE",  # every OpenMP runtime
    "GOMP_SPINCOUNT": "0",  # GNU's, which torch brings on Linux
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's, whose older versions do not derive it from the policy
}
_FURTHER = ("KMP_LIBRARY",)


def wait_passively() -> bool:
    """Let idle OpenMP threads sleep instead of spin, in this process and in those that it starts.

    By default the threads that are done with their part of an operation spin until the next one. On a core that another
    process wants as well, that time is lost for both: ``scripts/bench_waiting.py`` measures it. The runtime reads its
    settings when torch is loaded, so this has to come before; a user's own settings are left in force.

    Returns:
        Whether the settings were made: neither torch was loaded nor a setting of this kind there.
    """
    if "torch" in sys.modules or any(name in os.environ for name in (*_PASSIVE, *_FURTHER)):
        return False
    os.environ.update(_PASSIVE)
    return True
