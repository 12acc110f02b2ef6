"""Reading a file in a process of its own, so that a crash of the library that parses it is one line.

Why not always: a process costs about a second, and the checks of headers in Python (``itk_header``, ``nifti``,
``vector``) already refuse every mutation with which ``scripts/fuzz_readers.py`` crashed a library. So it is
for headers that these checks do not know all about, and for callers to whom a second does not matter.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from medseg.errors import InputError

MEMORY_BYTES = 8 << 30
"""Address space of the process; libraries alone take about one GB."""
SECONDS = 60
"""CPU time, and half of the wall time, that the process may take."""


def probe(path: Path, *, cells: bool = False, memory: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
    """Open a file as ``formats.open`` does, in a process of its own.

    Args:
        path: File or folder.
        cells: Read all its cells too, not only the header.
        memory: Address space in bytes that the process may take.
        seconds: CPU time that it may take.

    Raises:
        InputError: The file is refused there, or reading it crashes, takes too long or too much memory.
    """
    if _INSIDE in os.environ:  # this is that process
        return
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {_INSIDE: "1", "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    question = json.dumps({"path": str(path), "cells": cells, "memory": memory, "seconds": seconds})
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, question],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: reading it had not ended after {2 * seconds} s; convert it again") from error
    refused = done.stdout.decode(errors="replace").strip()
    if done.returncode == _REFUSED and refused:
        raise InputError(refused.splitlines()[-1])
    if done.returncode != 0:
        raise InputError(
            f"{path}: reading it ended its process ({_reason(done.returncode, done.stderr)}), "
            "expected a readable file; convert it again"
        )


_INSIDE = "MEDSEG_ISOLATED"
_REFUSED = 2


def _reason(code: int, stderr: bytes) -> str:
    if code < 0:
        return "more CPU time than allowed" if -code == signal.SIGXCPU else signal.Signals(-code).name
    last = stderr.decode(errors="replace").strip().splitlines()[-1:]
    return last[0][:200] if last else f"exit code {code}"


def _answer(question: str) -> int:
    """What the process does: 0 if the file could be read."""
    request = json.loads(question)
    for limit, value in ((resource.RLIMIT_AS, request["memory"]), (resource.RLIMIT_CPU, math.ceil(request["seconds"]))):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (value if hard < 0 else min(value, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from medseg import formats

    try:
        source = formats.open(request["path"])
        if request["cells"]:
            source.read()
    except InputError as error:
        sys.stdout.write(f"{error}\n")  # the answer to the process that asks
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_answer(sys.argv[1]))
