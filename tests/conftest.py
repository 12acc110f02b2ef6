"""Settings of the whole suite: shapes are checked, threads are few, nothing reaches the network."""

import gc
import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MPLBACKEND", "Agg")

gc.disable()  # until the tests are collected, below: what is imported stays

import jaxtyping

import tests.typecheck  # bound as an attribute of tests, where the hook looks it up

tests.typecheck.install()

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import hypothesis
import pytest
import torch

from medseg.runtime import console

torch.set_num_threads(1)
hypothesis.settings.register_profile("medseg", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("medseg")

REAL = Path(__file__).parents[1].parent / "shared" / "data"


def pytest_collection_finish() -> None:
    """What was imported and collected is no longer searched for garbage, which took 0.2 s of CPU each time."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """All ends as it does without: nanobind would tell of each object that is left."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _handlers_end_with_the_test() -> Iterator[None]:
    """Hydra leaves a handler that writes to the stream of the test that ran a command, closed by then."""
    before = list(logging.root.handlers)
    yield
    left = [h for h in logging.root.handlers if type(h) is logging.StreamHandler and h not in before]
    for handler in left:
        logging.root.removeHandler(handler)


@pytest.fixture(autouse=True)
def _messages_as_in_a_command(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of what is printed see messages as a command prints them; the others may use ``caplog``."""
    printed = {"capsys", "capfd"} & set(request.fixturenames)
    with console.messages() if printed else nullcontext():
        yield


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types are not checked, as in use: for tests of what happens to values of another type."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; the test is skipped, visibly, where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"real data sets are not at {REAL}")
    return REAL
