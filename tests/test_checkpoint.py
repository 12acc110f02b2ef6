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
    checkpoint.save({"state_dict": state, "global_step": 7, "medseg": metadata.to_dict()}, path)
    loaded = checkpoint.read(path)
    assert loaded.metadata == metadata
    assert loaded.metadata.config == {"a": [1, None]}
    assert loaded.metadata.provenance["data"] == {"train": ["x"]}
    assert (list(loaded.network_state), loaded.step) == (["weight"], 7)
    assert [p.name for p in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_calibration_is_added_and_all_else_stays(tmp_path: Path) -> None:
    path = tiny_checkpoint.write(tmp_path / "a.ckpt", tiny_checkpoint.contents() | {"optimizer_states": [{"m": 1}]})
    before = checkpoint.read(path)
    assert (before.metadata.temperature, before.metadata.calibration) == (1.0, None)
    checkpoint.store_calibration(path, {"temperature": 1.0, "cases": 2})
    assert checkpoint.read(path).digest == before.digest
    checkpoint.store_calibration(path, {"temperature": 1.5, "cases": 2})
    after = checkpoint.read(path)
    assert after.metadata.temperature == 1.5
    assert after.metadata.to_dict() == before.metadata.to_dict() | {"calibration": {"temperature": 1.5, "cases": 2}}
    assert after.digest != before.digest, "it decides probabilities"
    assert all(torch.equal(after.network_state[k], v) for k, v in before.network_state.items())
    assert torch.load(path, weights_only=True)["optimizer_states"] == [{"m": 1}]


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), "1", None])
def test_a_temperature_of_another_kind_is_refused(temperature: Any, tmp_path: Path) -> None:
    path = tiny_checkpoint.write(tmp_path / "a.ckpt", tiny_checkpoint.contents())
    checkpoint.store_calibration(path, {"temperature": temperature})
    with pytest.raises(InputError, match=r"medseg.calibration.temperature=.*: expected a number above 0"):
        checkpoint.read(path)


def test_failed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save({"step": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoint.save({"step": 2, "bad": lambda: None}, path)
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


def test_a_cascade_is_one_file_and_its_digest_covers_both_networks(tmp_path: Path) -> None:
    parts = tiny_checkpoint.contents()
    torch.save(parts, tmp_path / "first.ckpt")
    first = checkpoint.read(tmp_path / "first.ckpt")
    path = tmp_path / "second.ckpt"
    checkpoint.save(parts | {"first_stage": first.to_dict()}, path)
    held = checkpoint.read(path)
    assert held.first_stage is not None
    assert held.first_stage.digest == first.digest
    assert held.digest != first.digest
    changed = {k: v + 1 for k, v in parts["state_dict"].items()}
    other = first.to_dict() | {"state_dict": changed}
    checkpoint.save(parts | {"first_stage": other}, path)
    assert checkpoint.read(path).digest != held.digest


@pytest.mark.parametrize(
    ("held", "message"),
    [(3, "first_stage=3: expected keys"), ({"medseg": {}}, "'state_dict' is missing"), ("nested", "a cascade of two")],
)
def test_a_damaged_first_stage_is_one_line(tmp_path: Path, held: Any, message: str) -> None:
    parts = tiny_checkpoint.contents()
    torch.save(
        parts | {"first_stage": parts | {"first_stage": parts} if held == "nested" else held}, tmp_path / "a.ckpt"
    )
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.read(tmp_path / "a.ckpt")
    assert str(tmp_path / "a.ckpt") in str(caught.value)
