import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg import checkpoint
from medseg.errors import InputError
from tests import tiny_checkpoint


def test_contents_load_without_unpickling(tmp_path: Path) -> None:
    metadata = tiny_checkpoint.metadata({"a": [1, None]}).with_weights({"source": "w.pt"})
    path = tmp_path / "best.ckpt"
    state = {"network.weight": torch.ones(2), "loss.x": torch.zeros(1)}
    checkpoint.AtomicCheckpointIO().save_checkpoint(
        {"state_dict": state, "global_step": 7, "medseg": metadata.to_dict()}, path
    )
    loaded = checkpoint.read(path)
    assert loaded.metadata == metadata
    assert loaded.metadata.config == {"a": [1, None]}
    assert loaded.metadata.provenance["data"] == {"train": ["x"]}
    assert (list(loaded.network_state), loaded.step) == (["weight"], 7)
    assert [p.name for p in tmp_path.iterdir()] == ["best.ckpt"]


def test_failed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = checkpoint.AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        writer.save_checkpoint({"step": 2, "bad": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class _Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil"),))


def test_bad_checkpoints_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        checkpoint.read(tmp_path / "none.ckpt")
    (tmp_path / "short.ckpt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match="can't be read as tensors"):
        checkpoint.read(tmp_path / "short.ckpt")
    torch.save({"medseg": _Evil()}, tmp_path / "code.ckpt")
    with pytest.raises(InputError, match="never executes"):
        checkpoint.read(tmp_path / "code.ckpt")
    assert not (tmp_path / "evil").exists()
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="not written by medseg"):
        checkpoint.read(tmp_path / "other.ckpt")
    stored = tiny_checkpoint.metadata().to_dict() | {"format": checkpoint.FORMAT + 1}
    torch.save({"state_dict": {}, "medseg": stored}, tmp_path / "newer.ckpt")
    with pytest.raises(
        InputError, match=rf"format {checkpoint.FORMAT + 1}.*reads formats up to {checkpoint.FORMAT}: upgrade"
    ):
        checkpoint.read(tmp_path / "newer.ckpt")
