import pytest
import torch

from medseg.errors import InputError
from medseg.weights.nested import weights_in

NET = {f"layer{i}.weight": torch.ones(1) for i in range(10)}


def less(n):
    return dict(list(NET.items())[:n])


@pytest.mark.parametrize(
    "path", ["state_dict", "model", "model_state", "network_weights", "teacher", "module", "a.b.c"]
)
def test_found_however_deep(path):
    content = NET
    for key in reversed(path.split(".")):
        content = {"epoch": 3, key: content, "args": {"lr": 0.1}}
    assert weights_in(content, "f") == NET


def test_the_file_itself():
    assert weights_in({**NET, "_metadata": {"version": 1}, "count": 3}, "f") == NET


def test_the_mapping_with_most_tensors():
    assert weights_in({"small": less(3), "large": NET, "other": less(8)}, "f") == NET


def test_averaged_copies_come_first_if_as_complete():
    teacher = {f"t.{k}": v for k, v in NET.items()}
    assert weights_in({"student": {**NET, "mask_token": torch.ones(1)}, "teacher": teacher}, "f") == teacher
    assert weights_in({"model": NET, "ema": less(3)}, "f") == NET


def test_state_of_the_training_is_left_out():
    moments = {"state": {i: {"exp_avg": torch.ones(1), "exp_avg_sq": torch.ones(1)} for i in range(9)}}
    loss = {f"w{i}": torch.ones(1) for i in range(50)}
    content = {"optimizer": moments, "dino_loss": less(2), "loss": loss, "optimizer_states": loss, "model": NET}
    assert weights_in(content, "f") == NET


def test_decoders_only_if_there_is_nothing_else():
    assert weights_in({"encoder": less(4), "decoder": NET}, "f") == less(4)
    assert weights_in({"decoder": NET}, "f") == NET


def test_a_part_that_is_named():
    content = {"student": less(4), "teacher": NET, "a": {"b": less(2)}}
    assert weights_in(content, "f", "student") == less(4)
    assert weights_in(content, "f", "a.b") == less(2)
    with pytest.raises(InputError, match=r"f::studnt: no such part; the nearest are student, "):
        weights_in(content, "f", "studnt")


def test_no_tensors():
    with pytest.raises(InputError, match="holds no tensors by name, but epoch, args, expected tensors by name: save"):
        weights_in({"epoch": 3, "args": {"lr": 1}}, "f")
    with pytest.raises(InputError, match="holds nothing at all, expected"):
        weights_in({}, "f")


def test_sparse_tensors_and_gradients():
    content = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(2).to_sparse()}
    found = weights_in(content, "f")
    assert list(found) == ["a"]
    assert not found["a"].requires_grad
