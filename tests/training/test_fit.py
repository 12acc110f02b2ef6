"""How a training ends that does not come to its end."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.callbacks.resumable import Resumable
from medseg.errors import InputError
from medseg.runtime import signals
from medseg.training.fit import fit


def run(error: BaseException, *, saved: int | None = None, world: int = 1) -> Any:
    def fails(*args: Any, **settings: Any) -> None:
        raise error

    keeper = Resumable(Path("last.ckpt"), None)
    keeper.saved_step = saved
    trainer = SimpleNamespace(
        fit=fails, callbacks=[keeper], global_step=7, global_rank=1, world_size=world, is_global_zero=True
    )
    return SimpleNamespace(trainer=trainer, method=None, datamodule=None)


@pytest.mark.parametrize(
    "saved, told",
    [
        (7, "continue with: medseg-train 'a=[1,2]' run_dir=r ckpt_path=last"),
        (4, "continue from step 4 with: medseg-train 'a=[1,2]' run_dir=r ckpt_path=last"),
        (None, "no checkpoint was saved yet; start again with: medseg-train 'a=[1,2]' run_dir=r ckpt_path=last"),
    ],
)
def test_a_signal_is_one_line_with_the_command_that_continues(
    capsys: pytest.CaptureFixture[str], saved: int | None, told: str
) -> None:
    ended = signals.EndedBySignal(signal.SIGUSR1)
    with pytest.raises(signals.EndedBySignal, match="138"):
        fit(run(ended, saved=saved), Path("r"), None, ["a=[1,2]", "run_dir=old", "ckpt_path=last"])
    assert capsys.readouterr().err == f"warning: ended by SIGUSR1 at step 7; {told}\n"
    assert ended.told


def test_weights_of_another_network_are_one_line() -> None:
    error = RuntimeError("Error(s) in loading state_dict for Supervised: size mismatch")
    with pytest.raises(InputError, match=r"ckpt_path=c.ckpt: its weights do not fit the network of this command"):
        fit(run(error), Path("r"), Path("c.ckpt"), [])


def test_a_lost_process_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:2046")
    with pytest.raises(SystemExit) as ended:
        fit(run(error, saved=6, world=2), Path("r"), None, [])
    assert ended.value.code == 1
    line = "error: rank 1: another process of this training ended; see its last line, or whether it was killed. "
    assert (
        capsys.readouterr().err == f"{line}continue from step 6 with: the same settings with run_dir=r ckpt_path=last\n"
    )


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        fit(run(RuntimeError("a defect"), world=2), Path("r"), Path("c.ckpt"), [])
