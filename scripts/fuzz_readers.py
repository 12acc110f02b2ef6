"""Read mutated files of every format, and tell what was not refused in one line: exceptions, hangs, memory, crashes.

python scripts/fuzz_readers.py [--count 1000] [--seed 0] [--families mha,dicom] [--workers 2] [--keep FOLDER]

Case i of a family is a function of (seed, family, i). Worker processes read many cases each, with 8 GB of address
space and 20 s of CPU time a case; one that dies takes its case along, and another goes on behind it. Failures are
saved under --keep with the files that caused them, the first of each place in the code. Exit code 1 if there are any.
What cases may grow to when they are resampled is cut to 20 million cells here, to save time.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_families
from fuzz_mutations import mutate

OUTCOMES = ("read", "refused", "exception", "hang", "memory", "crash")
ADDRESS_SPACE, CPU_SECONDS, WALL_SECONDS, RESIDENT = 8 << 30, 20, 300, 2 << 30
CELLS = 20_000_000
UNREADABLE = 3  # exit code of a worker whose valid files cannot be read


def draw(family: str, seed: int, number: int) -> tuple[dict[str, bytes], str]:
    """Files of a case, at least one of them mutated, and the name of what is to be opened."""
    rng = np.random.default_rng([seed, zlib.crc32(family.encode()), number])
    every, known = fuzz_families.seeds(family), fuzz_families.FAMILIES[family]
    files = dict(every[int(rng.integers(len(every)))])
    kinds = {name: kind for name in sorted(files) for suffix, kind in known.kind.items() if name.endswith(suffix)}
    name = list(kinds)[int(rng.integers(len(kinds)))]
    others = [other[name] for other in every if name in other]
    files[name] = mutate(files[name], kinds[name], others, rng)
    return files, next(iter(files)) if "*" in known.target else known.target


def put(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of a case."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def judge(family: str, path: Path) -> tuple[str, str]:
    """Read a case; the outcome, and where it comes from."""
    from medseg.errors import InputError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fuzz_families.FAMILIES[family].read(path)
    except InputError as error:
        return ("exception", "a message of several lines") if "\n" in str(error) else ("refused", "")
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "medseg" in f.filename]
        at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return "exception", f"{at} {type(error).__name__}: {str(error)[:100]}"
    return "read", ""


def cases(family: str, seed: int, numbers: range, folder: Path) -> Iterator[tuple[int, str, str]]:
    """Outcomes of cases, read in this process."""
    for number in numbers:
        files, target = draw(family, seed, number)
        place = folder / str(number)
        put(files, place)
        yield (number, *judge(family, place / target if target else place))
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir()


def work(family: str, seed: int, numbers: range) -> None:
    """A worker: a line of JSON for each case."""
    from medseg.geometry import resample

    resample.MOST_CELLS = CELLS
    os.environ["MEDSEG_ISOLATED"] = "1"  # this process is isolated itself: unusual headers are parsed here
    silent = os.open(os.devnull, os.O_WRONLY)
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    fuzz_families.seeds(family)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as name:
        _read_valid(family, Path(name))
        _arm()
        for number, outcome, where in cases(family, seed, numbers, Path(name)):
            if outcome != "exception" and _peak() > RESIDENT:
                outcome, where = "memory", f"{_peak() >> 20} MiB"
            print(json.dumps([number, outcome, where]), file=lines, flush=True)
            _arm()


def _read_valid(family: str, folder: Path) -> None:
    """Read what is not mutated: it has to be readable, and libraries are imported outside of the limits of a case."""
    target = fuzz_families.FAMILIES[family].target
    for number, files in enumerate(fuzz_families.seeds(family)):
        place = folder / f"valid{number}"
        put(files, place)
        outcome = judge(family, place / (next(iter(files)) if "*" in target else target))
        if outcome[0] != "read":
            print(f"{family}: a valid file gave {outcome}", file=sys.__stderr__)
            os._exit(UNREADABLE)


def _arm() -> None:
    """The next case has its own limit of CPU time and its own peak of memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Largest resident memory since ``_arm``, in bytes."""
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) << 10


def supervise(family: str, seed: int, numbers: range) -> list[tuple[int, str, str]]:
    """Outcomes of cases, read in worker processes that may die."""
    found: list[tuple[int, str, str]] = []
    done = numbers.start
    while done < numbers.stop:
        command = [sys.executable, __file__, "--work", f"{family},{seed},{done},{numbers.stop}"]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stopped = threading.Event()
        timer = _Watch(worker, stopped)
        assert worker.stdout is not None
        with worker.stdout:
            for line in worker.stdout:
                timer.seen = time.monotonic()
                number, outcome, where = json.loads(line)
                found.append((number, outcome, where))
                done = number + 1
        code = worker.wait()
        timer.over.set()
        if code == UNREADABLE:
            raise RuntimeError(f"{family}: a file that was not mutated could not be read")
        if done < numbers.stop:
            late = stopped.is_set() or -code == signal.SIGXCPU
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            found.append((done, "hang" if late else "crash", "" if late else name))
            done += 1
    return found


class _Watch(threading.Thread):
    """Ends a worker that says nothing for ``WALL_SECONDS``."""

    def __init__(self, worker: "subprocess.Popen[str]", stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self.worker, self.stopped, self.seen, self.over = worker, stopped, time.monotonic(), threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(1):
            if time.monotonic() - self.seen > WALL_SECONDS:
                self.stopped.set()
                self.worker.kill()
                return


def table(found: dict[str, list[tuple[int, str, str]]]) -> str:
    """A row for each family, and one for all, in Markdown."""
    counts = {family: Counter(outcome for _, outcome, _ in rows) for family, rows in found.items()}
    counts["all"] = sum(counts.values(), Counter())
    rows = [
        f"| {family} | {sum(count.values())} | " + " | ".join(str(count[o]) for o in OUTCOMES) + " |"
        for family, count in counts.items()
    ]
    return "\n".join(["| family | n | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 2) + "|", *rows])


def report(found: dict[str, list[tuple[int, str, str]]], seed: int, keep: Path) -> int:
    """Print the table and each distinct failure, save its files; how many there are."""
    print(table(found))
    distinct: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for family, rows in found.items():
        for number, outcome, where in rows:
            if outcome not in ("read", "refused"):
                distinct[family, outcome, where].append(number)
    for (family, outcome, where), numbers in sorted(distinct.items()):
        folder = keep / f"{family}_{numbers[0]}"
        put(draw(family, seed, numbers[0])[0], folder)
        print(f"{family}: {outcome} {where} ({len(numbers)} times; {folder})")
    return len(distinct)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="mutations of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", default=",".join(fuzz_families.FAMILIES), help="some of the default")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for files that caused a failure")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work:
        family, *numbers = asked.work.split(",")
        seed, start, stop = map(int, numbers)
        work(family, seed, range(start, stop))
        return 0
    families = asked.families.split(",")
    unknown = [name for name in families if name not in fuzz_families.FAMILIES]
    if unknown or asked.count < 1:
        parser.error(
            f"unknown families {unknown}, or --count {asked.count}; known are {', '.join(fuzz_families.FAMILIES)}"
        )
    begun = time.monotonic()
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(asked.workers) as pool:
        jobs = {family: pool.submit(supervise, family, asked.seed, range(asked.count)) for family in families}
        for family, job in jobs.items():
            found[family] = job.result()
            print(f"{family}: {dict(Counter(outcome for _, outcome, _ in found[family]))}", file=sys.stderr, flush=True)
    failures = report(found, asked.seed, asked.keep)
    seconds = time.monotonic() - begun
    print(f"{asked.count * len(families) / seconds:.0f} mutations a second, seed {asked.seed}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
