import ctypes
import io
import os
import sys
from typing import Any

import pytest

from medseg.runtime import cpu


class Libc:
    """Stands for glibc; keeps what its allocator was told."""

    def __init__(self, answer: int = 1) -> None:
        self.told: dict[int, int] = {}
        self.answer = answer

    def mallopt(self, option: int, value: int) -> int:
        self.told[option] = value
        return self.answer


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Libc:
    library = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    return library


def test_large_blocks_are_kept(libc: Libc) -> None:
    assert cpu.keep_large_blocks()
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    assert libc.told[m_mmap_max] == 0, "no block is mapped on its own"
    assert libc.told[m_trim_threshold] == 2**31 - 1, "nothing is returned"
    assert libc.told[m_top_pad] > 0


def test_refused_settings_are_told(libc: Libc) -> None:
    libc.answer = 0
    assert not cpu.keep_large_blocks()


def test_settings_of_the_user_stay(libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not cpu.keep_large_blocks()
    assert libc.told == {}


def test_other_systems_are_left_alone(libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not cpu.keep_large_blocks()
    assert libc.told == {}


def test_other_c_libraries_are_left_alone(libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert not cpu.keep_large_blocks()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # musl: no mallopt
    assert not cpu.keep_large_blocks()


def test_cores_are_those_left_to_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {8, 9, 12}, raising=False)
    assert cpu.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS, Windows
    assert cpu.cores() == 64


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512vl", True),
        ("flags\t\t: fpu amx_tile amx_bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("bugs\t\t: amx_bf16", False),
        ("", False),
    ],
)
def test_bfloat16_as_linux_reports_it(flags: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"processor\t: 0\nmodel name\t: amx_bf16 of a kind\n{flags}\n"
    monkeypatch.setattr(cpu, "open", lambda path: io.StringIO(text), raising=False)
    assert cpu.has_bf16() == has


def test_without_a_report_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: str) -> Any:
        raise FileNotFoundError(path)

    monkeypatch.setattr(cpu, "open", absent, raising=False)
    assert not cpu.has_bf16()
