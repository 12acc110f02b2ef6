"""Mutated files of every format are read or refused in one line; and what the fuzzer makes of failures."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.geometry import resample
from tests.prepared import SCRIPTS, script


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return script("fuzz_readers")


@pytest.fixture(scope="module")
def known(fuzz: ModuleType) -> list[str]:
    return list(sys.modules["fuzz_families"].FAMILIES)


READERS = (
    "nifti", "nifti_gz", "nrrd", "mha", "nhdr", "mhd", "dicom", "geotiff", "picture", "geojson", "geopackage",
    "shapefile", "flatgeobuf", "geoparquet", "vrt", "jpeg2000", "enhanced", "safetensors", "nnunet", "decathlon",
)  # fmt: skip
N = 135


@pytest.mark.parametrize("family", READERS)
def test_every_mutation_is_read_or_refused(
    fuzz: ModuleType, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resample, "MOST_CELLS", 200_000)
    monkeypatch.setenv("MEDSEG_ISOLATED", "1")
    found = list(fuzz.cases(family, 1, range(N), tmp_path))
    assert [row for row in found if row[1] not in ("read", "refused")] == []
    assert {outcome for _, outcome, _ in found} == {"read", "refused"}
    assert list(tmp_path.iterdir()) == []


def test_a_case_is_a_function_of_its_number(fuzz: ModuleType, known: list[str]) -> None:
    assert set(READERS) < set(known)
    for family in ("mha", "nnunet"):
        one, again, other = fuzz.draw(family, 1, 7), fuzz.draw(family, 1, 7), fuzz.draw(family, 1, 8)
        assert one == again != other


def reading(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a worker in place of the script's that runs ``body`` for each number."""
    worker = (
        "import json, os, signal, sys\n"
        "start, stop = map(int, sys.argv[-1].split(',')[2:])\n"
        f"for i in range(start, stop):\n    {body}\n    print(json.dumps([i, 'read', '']), flush=True)\n"
    )
    popen = fuzz.subprocess.Popen
    monkeypatch.setattr(
        fuzz.subprocess, "Popen", lambda command, **more: popen([command[0], "-c", worker, command[-1]], **more)
    )


def test_a_crash_loses_one_case(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(fuzz, monkeypatch, "i in (2, 3) and os.kill(os.getpid(), signal.SIGSEGV)")
    found = fuzz.supervise("mha", 0, range(6))
    assert [(n, outcome) for n, outcome, _ in found] == [
        (0, "read"), (1, "read"), (2, "crash"), (3, "crash"), (4, "read"), (5, "read"),
    ]  # fmt: skip
    assert found[2][2] == "SIGSEGV"


def test_too_much_cpu_time_is_a_hang(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(fuzz, monkeypatch, "i == 1 and os.kill(os.getpid(), signal.SIGXCPU)")
    assert [outcome for _, outcome, _ in fuzz.supervise("mha", 0, range(3))] == ["read", "hang", "read"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InputError("one line"), ("refused", "")),
        (InputError("two\nlines"), ("exception", "a message of several lines")),
        (KeyError("a"), ("exception", "? KeyError: 'a'")),
        (RecursionError(), ("exception", "? RecursionError: ")),
    ],
)
def test_outcomes(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: tuple[str, str]
) -> None:
    families = sys.modules["fuzz_families"]

    def fail(path: Path) -> None:
        raise error

    monkeypatch.setitem(families.FAMILIES, "mha", families.Family(list, "x", {}, fail))
    kind, where = fuzz.judge("mha", Path("x"))
    assert (kind, where.split("py:")[-1].split(" ", 1)[-1] if "?" not in where else where)[0] == outcome[0]


def test_failures_are_listed_once_and_their_files_kept(
    fuzz: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"mha": [(0, "read", ""), (4, "crash", "SIGSEGV"), (5, "crash", "SIGSEGV")], "nrrd": [(0, "refused", "")]}
    assert fuzz.report(found, 0, tmp_path) == 1
    told = capsys.readouterr().out
    assert "| mha | 3 | 1 | 0 | 0 | 0 | 0 | 2 |" in told
    assert "| all | 4 | 1 | 1 | 0 | 0 | 0 | 2 |" in told
    assert "mha: crash SIGSEGV (2 times; " in told
    assert (tmp_path / "mha_4" / "x.mha").read_bytes() == fuzz.draw("mha", 0, 4)[0]["x.mha"]


def test_what_is_not_known_is_said(fuzz: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fuzz.main(["--families", "mha,other"])
    assert "unknown families ['other']" in capsys.readouterr().err


def test_mutations_keep_to_their_kind(fuzz: ModuleType) -> None:
    mutations = sys.modules["fuzz_mutations"]
    rng = np.random.default_rng(0)
    assert SCRIPTS.is_dir()
    for kind, content in (("bytes", b"abc" * 9), ("text", b"a = 1\nb: 2\n"), ("json", b'{"a": [1, {"b": 2}]}')):
        changed = {mutations.mutate(content, kind, [content], rng) for _ in range(50)}
        assert len(changed) > 20
    assert mutations.mutate(b"", "json", [], rng) is not None
