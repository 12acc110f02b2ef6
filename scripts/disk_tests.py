"""Full and read-only disks: each command says so in one line, exits with 2, and leaves nothing half-written.

python scripts/disk_tests.py [--folder FOLDER]

Small file systems in memory are mounted for it, which needs the rights of root; without them it is skipped. Exits with
1 if a command did otherwise.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from forked_commands import VOLUMES, Tally, drafts, evaluation, load, prediction, run


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path | None]:
    """A file system in memory; None where mounting is not permitted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def disks(folder: Path, predict: Sequence[str], evaluate: Sequence[str]) -> Tally:
    """Full and read-only disks: one line, exit code 2, and nothing half-written."""
    tally, cache = Tally(), folder / "cache"
    train = [*VOLUMES, "test=false"]
    cases: list[tuple[str, str, str, list[str]]] = [
        (f"run_dir, {options}", options, "train", [*train, f"cache_dir={cache}", "run_dir=DISK/run"])
        for options in ("size=16k", "size=100k", "size=400k", "ro")
    ]
    cases += [
        (f"cache_dir, {o}", o, "train", [*train, "cache_dir=DISK", f"run_dir={folder}/r"]) for o in ("size=300k", "ro")
    ]
    cases += [(f"predict, {o}", o, "predict", [*predict, "output=DISK/out"]) for o in ("size=4k", "ro")]
    cases += [(f"evaluate, {o}", o, "evaluate", [*evaluate, "output=DISK/out"]) for o in ("size=8k", "size=40k", "ro")]
    for name, options, command, words in cases:
        with mounted(folder / "disk", options) as disk:
            if disk is None:
                print("disk checks skipped: mounting is not permitted here")
                return tally
            tally.kills += 1
            code = run(command, [word.replace("DISK", str(disk)) for word in words], folder / "disk.log")
            lines = (folder / "disk.log").read_text(encoding="utf-8").splitlines()
            told = [] if code == 2 else [f"exit code {code}"]
            told += ["a traceback"] if any("Traceback" in line for line in lines) else []
            told += [] if sum(line.startswith("error: ") for line in lines) == 1 else ["not one line"]
            told += [f"left {path}" for path in drafts(disk) if not path.endswith(".lock")]
            files = [p for p in disk.rglob("*") if p.is_file() and command == "evaluate"]
            told += [f"{len(files)} of 3 files"] if len(files) not in (0, 3) else []
            if told:
                tally.failures.append(f"{name}: {'; '.join(told)}: {lines[-1:]}")
            tally.equal += not told
        (folder / "disk").rmdir()
        shutil.rmtree(folder / "r", ignore_errors=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where everything is written; a temporary folder if not given")
    asked = parser.parse_args()
    load()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="disk_tests_"))
    folder.mkdir(parents=True, exist_ok=True)
    tally = disks(folder, prediction(folder, "volumes"), evaluation(folder))
    print(f"{tally.equal} of {tally.kills} as promised", *tally.failures, sep="\n")
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
