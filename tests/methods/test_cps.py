"""Cross pseudo supervision: labels of the other network, what is stored, and a training that resumes bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.run import assemble
from medseg.hydra_app.compose import compose
from medseg.methods.cps import Cps
from medseg.training.train import train
from tests.methods.test_consistency import streams
from tests.methods.test_mean_teacher import OWN, Killed, equal, stored
from tests.methods.test_supervised import Cropped, net, supervised
from tests.tiny import SMALL, write_nnunet

__all__ = ["Killed"]


def made(**changed: Any) -> Any:
    torch.manual_seed(1)
    second = torch.nn.Conv2d(1, 3, 3, padding=1)
    method = supervised(changed.pop("network", None) or net(), Cps, **({"second": second} | changed))
    method.logged = {}
    method.log_losses = lambda losses, n: method.logged.update({k: v.detach() for k, v in losses.items()})
    return method


def test_each_network_learns_the_labels_of_the_other() -> None:
    method, given = made(weight=2.0), streams()
    total = method.training_step(given, 0)
    images = torch.cat([given["main"].image, given["other"].strong.batch.image])  # type: ignore[union-attr]
    first, second = method.network(images), method.second(images)
    cross = functional.cross_entropy(first, second.argmax(1)) + functional.cross_entropy(second, first.argmax(1))
    torch.testing.assert_close(method.logged["cross"], cross)
    torch.testing.assert_close(method.logged["disagreement"], (first.argmax(1) != second.argmax(1)).float().mean())
    both = [method.loss_of(given["main"], *method.outputs_of(given["main"], one))[0] for one in method.networks()]
    torch.testing.assert_close(total, sum(both) + 2 * cross)
    assert method.logged["disagreement"] > 0


def test_equal_networks_agree() -> None:
    method = made(second=net())
    method.training_step(streams(), 0)
    assert float(method.logged["disagreement"]) == 0


def test_the_network_that_gives_the_labels_gets_no_gradient() -> None:
    method, generator = made(), torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 3, 4, 4, generator=generator).requires_grad_() for _ in range(2)]
    labels = [method._labels(one) for one in logits]
    assert not any(one.requires_grad for one in labels)
    alone = torch.autograd.grad(method._crossed(logits, labels, torch.ones(2, 4, 4).bool())[0], logits)
    for one, its, other in zip(logits, alone, reversed(labels), strict=True):
        expected = one.softmax(1) - other
        torch.testing.assert_close(its, expected)


def test_cells_without_data_have_no_part() -> None:
    method = made()
    given = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[:, :2] = False
    changed = given.clone()
    changed[:, :, :, :2] = float("nan")
    sums = [
        torch.stack(method._crossed(list(one), [method._labels(g) for g in given], valid)) for one in (given, changed)
    ]
    assert torch.equal(*sums)


def test_with_cutmix_labels_are_those_of_the_patches_before(monkeypatch: pytest.MonkeyPatch) -> None:
    method = made(cutmix=1.0)
    seen: list[Any] = []
    method.network, method.second = (torch.nn.Conv2d(1, 3, 1) for _ in range(2))

    def crossed(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
        seen.append(given)
        return (torch.zeros(()),) * 3

    monkeypatch.setattr(method, "_crossed", crossed)
    view = replace(streams()["other"], strong=None)
    method._without_labels(view)
    logits, labels, _ = seen[0]
    assert not torch.equal(logits[0], method.network(view.image))
    for one, its in zip(logits, labels, strict=True):  # of single cells, the labels of mixed patches are mixed labels
        assert torch.equal(one.argmax(1), its.argmax(1))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"weight": -1.0}, r"^method\.weight=-1\.0: expected a weight of 0 or more$"),
        ({"cutmix": -0.5}, r"^method\.cutmix=-0\.5: expected a probability from 0 to 1"),
        ({"network": Cropped()}, r"^method=cps compares whole patches, and the network gives no"),
    ],
)
def test_bad_settings_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cps")
    write_nnunet(root / "data", n_cases=6)
    return root


def words(folder: Path, name: str, *more: str) -> list[str]:
    places = [f"data.root={folder}/data", f"cache_dir={folder}/cache", f"run_dir={folder}/{name}"]
    own = ["method=cps", "method.cutmix=0.5", "callback.progress=null", "callback.previews=null", "trainer.max_steps=4"]
    return [*SMALL, *OWN[1:], "streams.unlabelled.rate=1", *own, *places, *more]


def test_a_training_killed_within_an_epoch_resumes_bit_for_bit(folder: Path) -> None:
    whole = train(compose("train", words(folder, "whole")))
    killed = [f"+callback.killed._target_={__name__}.Killed", "+callback.killed.step=3"]
    with pytest.raises(RuntimeError, match="killed"):
        train(compose("train", words(folder, "killed", *killed)))
    resumed = train(compose("train", words(folder, "killed", "ckpt_path=last")))
    one, other = stored(whole), stored(resumed)
    assert one["global_step"] == other["global_step"] == 4
    for key in ("state_dict", "optimizer_states", "current_model_state"):
        assert equal(one.get(key), other.get(key)), key
    assert any(key.startswith("second.") for key in one["state_dict"])
    assert not any("second" in key for key in checkpoint.read(whole / "checkpoints/last.ckpt").network_state)


def test_networks_begin_with_weights_of_two_seeds_and_both_learn(folder: Path) -> None:
    def weights(*more: str) -> list[list[Tensor]]:
        method: Any = assemble(compose("train", words(folder, "run", *more)), folder / "run").method
        moving = {id(p) for group in method.configure_optimizers().param_groups for p in group["params"]}
        assert moving == {id(p) for p in method.parameters()}
        return [[p.detach() for p in one.parameters() if p.ndim > 1] for one in method.networks()]

    first, second = weights()
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    again, other = weights(), weights("seed=1")
    assert equal(second, again[1])
    assert not equal(second, other[1])
