"""Mean teacher: its loss by hand, and a training of two streams that resumes bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.run import Run, assemble
from medseg.hydra_app.compose import compose
from medseg.labels import IGNORE, LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.methods.mean_teacher import MeanTeacher, probabilities, risen, squared_difference
from medseg.training.train import train
from tests.factory.test_streams import first
from tests.methods.test_supervised import Cropped, net, supervised
from tests.tiny import SMALL, write_nnunet

OWN = [
    "method=mean_teacher", "split.n_folds=3", "split.n_labelled=2", "trainer.steps_per_epoch=2", "test=false",
    "trainer.deterministic=true", "streams.unlabelled.rate=0.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mean_teacher")
    write_nnunet(root / "data", n_cases=6)
    return root


def words(folder: Path, name: str, *more: str) -> list[str]:
    places = [f"data.root={folder}/data", f"cache_dir={folder}/cache", f"run_dir={folder}/{name}"]
    return [*SMALL, *OWN, *places, *more]


def assembled(folder: Path, *more: str) -> Run:
    return assemble(compose("train", words(folder, "run", *more)), folder / "run")


class Killed(Callback):
    """Dies after some steps like a process that is killed, after a checkpoint was written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints/last.ckpt")
            raise RuntimeError("killed")


def stored(folder: Path) -> dict[str, Any]:
    return checkpoint.load(folder / "checkpoints/last.ckpt")


def equal(one: Any, other: Any) -> bool:
    """Whether two states hold the same, bit for bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("step, more", [(2, []), (3, ["callback.ema=null"]), (3, ["loader.workers=1"])])
def test_a_resumed_training_of_two_streams_equals_an_uninterrupted_one(
    folder: Path, step: int, more: list[str]
) -> None:
    """Killed between two epochs, and within one; with averaged weights and without."""
    more = ["callback.progress=null", "callback.previews=null", "trainer.max_steps=4", *more]
    name = f"at_{step}_{len(more)}_{more[-1][-1]}"
    whole = train(compose("train", words(folder, f"{name}_whole", *more)))
    killed = [f"+callback.killed._target_={__name__}.Killed", f"+callback.killed.step={step}"]
    with pytest.raises(RuntimeError, match="killed"):
        train(compose("train", words(folder, name, *more, *killed)))
    assert stored(folder / name)["global_step"] == step
    resumed = train(compose("train", words(folder, name, *more, "ckpt_path=last")))
    one, other = stored(whole), stored(resumed)
    assert one["global_step"] == other["global_step"] == 4
    teachers = [key for key in one["state_dict"] if key.startswith("teacher.network.")]
    for key in ("state_dict", "optimizer_states", "current_model_state"):
        assert equal(one.get(key), other.get(key)), key
    current = one.get("current_model_state", one["state_dict"])
    assert current["teacher.updates"] == 4
    assert any(not torch.equal(current[key], current[key.removeprefix("teacher.")]) for key in teachers)
    assert not any("teacher" in key for key in checkpoint.read(whole / "checkpoints/last.ckpt").network_state)


def test_streams_are_the_labelled_cases_and_the_others(folder: Path) -> None:
    run = assembled(folder)
    data = run.method.metadata.provenance["data"]
    assert len(data["train"]) == len(data["streams"]["unlabelled"]) == 2
    assert not {*data["train"]} & {*data["streams"]["unlabelled"], *data["val"]}
    batch = first(run)
    other = batch["unlabelled"]
    assert (other.label == IGNORE).all()
    assert not other.labelled
    assert len(batch["main"].image), len(other.image) == (2, 1)
    assert torch.equal(other.strong.batch.key[:, 1:], other.key[:, 1:])
    assert not torch.equal(other.strong.batch.image, other.image)


def test_the_loss_is_the_supervised_one_and_the_difference_of_both_views(folder: Path) -> None:
    run = assembled(folder, "method.consistency=3", "method.rise=0.5")
    method: Any = run.method
    batch = first(run)
    with torch.no_grad():
        for parameter in method.teacher.network.parameters():
            parameter += 0.1
    logged: dict[str, Tensor] = {}
    method.log_losses = lambda losses, n: logged.update(losses)
    method.progress = 0.25
    total = method.training_step(batch, 0)
    loss, _ = method.supervised_loss(batch["main"])
    weak = batch["unlabelled"]
    target, shown = weak.strong.carry(method.teacher.network(weak.image).softmax(1))
    prob = method.network(weak.strong.batch.image)[0].softmax(1)
    squares = (prob - target).square().mean(1)[shown]
    assert 0 < len(squares) <= shown.numel()
    difference = squares.sum() / shown.sum()
    torch.testing.assert_close(logged["consistency"], difference)
    assert difference > 0
    weight = 3 * float(torch.exp(torch.tensor(-5 * 0.5**2)))
    torch.testing.assert_close(total, loss + weight * difference)
    total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_follows_each_step_of_the_optimiser(folder: Path) -> None:
    states: list[dict[str, Tensor]] = []

    class Copies(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            states.append({name: value.detach().clone() for name, value in pl_module.network.named_parameters()})

    cfg = compose("train", words(folder, "follows", "trainer.max_steps=3", "method.decay=0.6", "callback.ema=null"))
    run_dir = train(cfg, callbacks=[Copies()])
    state = stored(run_dir)["state_dict"]
    assert len(states) == 3
    for name, final in states[-1].items():
        expected = 0.6 * (states[0][name].double() + states[1][name].double()) / 2 + 0.4 * final.double()
        torch.testing.assert_close(state[f"teacher.network.{name}"].double(), expected, rtol=0, atol=1e-6)


def test_regions_have_probabilities_of_their_own() -> None:
    regions = LabelTable.declare({"background": 0, "tumour": [1, 2], "core": 2}, regions_class_order=[1, 2])
    classes = LabelTable.declare({"background": 0, "a": 1})
    logits = torch.tensor([[[0.0], [2.0]]])
    assert torch.allclose(probabilities(logits, regions), logits.sigmoid())
    assert torch.allclose(probabilities(logits.half(), classes).sum(1), torch.ones(1, 1))


def test_no_cell_in_both_views_is_no_difference() -> None:
    none = torch.zeros(1, 4, dtype=torch.bool)
    prob = torch.rand(1, 2, 4, requires_grad=True)
    difference, cells = squared_difference(prob, torch.zeros(1, 2, 4), none)
    ratio(difference, cells, gather=True).backward()
    assert (float(difference.detach()), float(cells)) == (0, 0)
    assert torch.equal(prob.grad, torch.zeros_like(prob))  # type: ignore[arg-type]


@pytest.mark.parametrize("progress, share", [(0.0, 0.006738), (0.2, 0.286505), (0.4, 1.0), (1.0, 1.0)])
def test_the_weight_rises_by_the_formula(progress: float, share: float) -> None:
    assert risen(progress, 0.4) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"consistency": -1.0}, r"^method\.consistency=-1\.0: expected a weight of 0 or more$"),
        ({"rise": 1.5}, r"^method\.rise=1\.5: expected a share"),
        ({"decay": 1.0}, r"^method\.decay=1\.0: expected 0 <= decay < 1"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mean_teacher(net(), **settings)


def mean_teacher(network: torch.nn.Module, **changed: Any) -> MeanTeacher:
    made: MeanTeacher = supervised(network, MeanTeacher, **changed)
    return made


def test_a_network_with_a_margin_is_refused() -> None:
    with pytest.raises(InputError, match=r"^method=mean_teacher compares whole patches, and the network gives no"):
        mean_teacher(Cropped())


@pytest.mark.parametrize(
    "more, message",
    [
        (["~streams.unlabelled"], r"^method=mean_teacher needs a stream without labels; add streams=unlabelled"),
        (["streams.unlabelled.strong=null"], r"^method=mean_teacher compares two views, and the stream unlabelled has"),
        (
            ["split.n_labelled=4"],
            r"^streams\.unlabelled has no case; every training case has a label; set split\.n_lab",
        ),
    ],
)
def test_what_it_lacks_is_one_line(folder: Path, more: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        assembled(folder, *more)
