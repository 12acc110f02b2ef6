"""Clusters of Dask that run already, and those that are jobs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.engine import dask as of_dask
from medseg.engine.dask import DaskEngine
from medseg.errors import InputError
from tests.engine.tasks import Square, process

distributed = pytest.importorskip("distributed")


SETTINGS = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one worker that somebody else started."""
    with distributed.LocalCluster(**SETTINGS) as cluster:
        yield cluster.scheduler_address


def test_a_running_cluster_stays_after_the_command(address: str, tmp_path: Path) -> None:
    engine = DaskEngine(address=address)
    assert engine.elsewhere
    for _ in range(2):
        engine.check()
        with engine:
            found = dict(engine.map(Square(tmp_path, fails=(2,)), range(5)))
    assert [found[n] for n in (0, 1, 3, 4)] == [0, 1, 9, 16]
    assert found[2] == of_dask.Failure("case 2: can't be read")


def test_relative_paths_are_those_of_the_command(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DaskEngine(address=address) as engine:
        list(engine.map(Square(Path()), range(2)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0", "1-0"]


def test_workers_with_another_version_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_dask, "__version__", "9.9.9")
    with pytest.raises(InputError, match=r"1 of 1 workers have another medseg: tcp://.* install medseg 9\.9\.9 there"):
        DaskEngine(address=address).check()


def test_a_cluster_without_workers_is_one_line() -> None:
    with distributed.LocalCluster(**SETTINGS | {"n_workers": 0}) as cluster:
        engine = DaskEngine(address=cluster.scheduler_address, timeout=0.5)
        with pytest.raises(InputError, match=r"the scheduler has no worker; start some \(dask worker tcp://"):
            engine.check()


def test_a_cluster_that_loses_its_workers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_dask, "_PATIENCE", 0.3)
    settings = SETTINGS | {"processes": False}
    with distributed.LocalCluster(**settings) as cluster, DaskEngine(address=cluster.scheduler_address) as engine:
        found = engine.map(process, range(5))
        assert next(found) == (0, os.getpid())
        cluster.scale(0)
        cluster.sync(cluster._correct_state)
        with pytest.raises(InputError, match="the cluster has no worker any more; start some"):
            list(found)


SBATCH = """#!/bin/sh
cp "$1" "$0.job"  # the original is removed at once
bash "$0.job" > "$0.log" 2>&1 &
echo Submitted batch job $!
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of SLURM that run jobs at once, on this machine."""
    for name, text in {"sbatch": SBATCH, "scancel": '#!/bin/sh\nkill "$1"\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.slow
def test_jobs_of_slurm_work_on_cases(slurm: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    job = {"cores": 1, "memory": "1GB", "log_directory": str(slurm), "interface": "lo"}
    with DaskEngine(jobqueue="slurm", workers=1, job=job) as engine:
        engine.check()
        assert {found for _, found in engine.map(process, range(3))} != {os.getpid()}


def test_jobs_need_the_command_of_their_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"engine\.jobqueue=pbs: no command qsub here"):
        DaskEngine(jobqueue="pbs").check()


@pytest.mark.parametrize(
    ("job", "message"),
    [({"memory": "1GB"}, "must specify how much cores"), ({"cores": 1, "memory": "1GB", "core": 2}, "argument 'core'")],
)
def test_settings_of_jobs_are_those_of_jobqueue(slurm: Path, job: dict[str, object], message: str) -> None:
    pytest.importorskip("dask_jobqueue")
    with (
        pytest.raises(InputError, match=rf"engine\.job=.*{message}.*keys are those of dask_jobqueue\.SLURMCluster"),
        DaskEngine(jobqueue="slurm", job=job) as engine,
    ):
        list(engine.map(process, [1]))
