from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medseg.labels import IGNORE, LabelTable
from medseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from medseg.losses.dice import DiceLoss, soft_dice
from medseg.losses.weighted_sum import WeightedSum
from medseg.methods.schedules import Constant
from medseg.methods.supervised import Supervised
from medseg.methods.val_patches import fixed_patches
from medseg.metrics import overlap, validation
from medseg.runtime.verbosity import quiet_libraries
from medseg.sample import Batch
from tests import tiny_checkpoint

TABLE = LabelTable.declare({"background": 0, "disc": 1, "bar": 2})


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings that every training leaves out, in Lightning's own code."""
    with quiet_libraries():
        yield


def supervised(network: nn.Module, kind: Any = Supervised, **changed: Any) -> Any:
    loss = WeightedSum(TABLE, {"dice": DiceLoss, "ce": CrossEntropyLoss})
    settings: dict[str, Any] = {
        "loss": loss, "logits": lambda image, trained: trained(image[None])[0],
        "decide": lambda logits: logits.argmax(0), "patch": (16, 16),
        "judge": partial(overlap.confusion_matrix, labels=TABLE), "labels": TABLE,
        "summarise": partial(validation.validation_scores, labels=TABLE, pooled=False),
        "optimizer": partial(torch.optim.AdamW, lr=0.02, weight_decay=0.1), "schedule": Constant(), "seed": 0,
        "steps_per_epoch": 4, "metadata": tiny_checkpoint.metadata(),
    }  # fmt: skip
    return kind(network, **(settings | changed))


def batch(label: Tensor, image: Tensor | None = None, case: str = "a") -> Batch:
    """A batch of ``[b, *s]`` labels; the image is a noisy view of them."""
    noise = torch.randn(label.shape, generator=torch.Generator().manual_seed(1))
    image = (label.float() + 0.3 * noise)[:, None] if image is None else image
    b = len(label)
    ones = torch.ones(b, image.shape[1], dtype=torch.bool)
    return Batch(image, label, label != IGNORE, ones, torch.zeros(b, 3, dtype=torch.int64), (case,) * b)


def scene() -> Batch:
    label = torch.zeros(2, 16, 16, dtype=torch.int64)
    label[:, 2:8, 3:9], label[:, 11:14, 1:15] = 1, 2
    label[0, 0] = IGNORE
    return batch(label)


def net(*, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    middle = [nn.InstanceNorm2d(8, affine=True)] if norm else []
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *middle, nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))


class Cropped(nn.Module):
    """A network without logits of its border."""

    margin = (3, 2)

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.inner(image)[:, :, 3:-3, 2:-2]
        return logits


def test_a_margin_without_logits_does_not_train() -> None:
    given, method = scene(), supervised(Cropped())
    inside = (slice(None), slice(3, 13), slice(2, 14))
    expected, _ = method.loss(method.network(given.image), given.label[inside], given.valid[inside])
    method.log_losses = lambda *_: None  # type: ignore[method-assign]
    assert torch.equal(method.training_step(given, 0), expected)


def trainer(*callbacks: Callback, **limits: Any) -> Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        accelerator="cpu", enable_model_summary=False, callbacks=list(callbacks), log_every_n_steps=1,
        **({"max_steps": 4, "max_epochs": -1} | silent | limits),
    )  # fmt: skip


def loader(*batches: Batch) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None, collate_fn=lambda given: given)  # type: ignore[arg-type]


def fit(method: Supervised, *callbacks: Callback, given: Batch | None = None, **limits: Any) -> Trainer:
    running = trainer(*callbacks, limit_val_batches=0, **limits)
    running.fit(method, loader(*[given or scene()] * 4), loader(scene()))
    return running


class Record(Callback):
    """Keeps a number of each step."""

    def __init__(self, read: Callable[[Trainer], float]) -> None:
        self.read = read
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.values.append(self.read(trainer))


def test_one_batch_is_learned_by_heart() -> None:
    losses = Record(lambda running: float(running.callback_metrics["train/loss"]))
    method = supervised(net(norm=False))
    fit(method, losses, max_steps=60)
    assert losses.values[0] > 1
    assert losses.values[-1] < 0.1
    given = scene()
    found = method.infer(given.image[1], method.network)
    assert (found == given.label[1]).float().mean() > 0.97


def test_train_loss_is_the_sum_of_its_logged_terms() -> None:
    running = fit(supervised(net()), max_steps=1)
    logged = {name: float(value) for name, value in running.callback_metrics.items()}
    assert logged["train/loss"] == pytest.approx(logged["train/dice"] + logged["train/ce"], rel=1e-6)
    given = scene()
    expected, _ = supervised(net()).loss(net()(given.image), given.label, given.valid)
    assert logged["train/loss"] == pytest.approx(float(expected.detach()), rel=1e-6)
    assert logged["train/lr"] == pytest.approx(0.02)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, image: Tensor) -> Any:
        logits = self.inner(image)
        return [logits, nn.functional.avg_pool2d(logits, 2), nn.functional.avg_pool2d(logits, 4)]


def test_a_list_of_logits_is_deep_supervision() -> None:
    running = fit(supervised(Deep()), max_steps=1)
    given = scene()
    expected, _ = supervised(Deep()).loss(Deep()(given.image), given.label, given.valid)
    assert float(running.callback_metrics["train/loss"]) == pytest.approx(float(expected.detach()), rel=1e-6)


def row(*classes: int) -> Tensor:
    return torch.tensor([[classes]])


READ: dict[str, Any] = {"logits": lambda image, _: image, "decide": lambda image: image[0].long(), "val_patches": 0}
"""The image is the prediction."""


@pytest.mark.parametrize(
    ("preds", "expected"),
    [
        # disc: 2 * 1 / (2 + 1) in a, 2 * 2 / (2 + 3) in b; bar: 1 in a, absent from b, which does not count
        ([row(1, 0, 0, 0, 2), row(1, 1, 1, 0, 0)], {"disc": (2 / 3 + 4 / 5) / 2, "bar": 1.0}),
        # bar is missed in a (0) and invented in b (0); the ignored cell of b may hold anything
        ([row(1, 1, 0, 0, 0), row(1, 1, 0, 2, 2)], {"disc": 1.0, "bar": 0.0}),
    ],
)
def test_validation_dice_by_hand(preds: list[Tensor], expected: dict[str, float]) -> None:
    labels = [row(1, 1, 0, 0, 2), row(1, 1, 0, 0, IGNORE)]
    cases = [batch(label, pred[:, None].float(), case) for label, pred, case in zip(labels, preds, "ab", strict=True)]
    method = supervised(net(), **READ)
    (logged,) = trainer().validate(method, dataloaders=loader(*cases), verbose=False)
    for name, value in expected.items():
        assert logged[f"val/dice/{name}"] == pytest.approx(value)
    assert logged["val/dice"] == pytest.approx(sum(expected.values()) / 2)


def test_class_that_no_case_has_is_left_out_of_the_mean() -> None:
    method = supervised(net(), **READ)
    case = batch(row(1, 1, 0), row(1, 0, 0)[:, None].float())
    (logged,) = trainer().validate(method, dataloaders=loader(case), verbose=False)
    assert logged["val/dice"] == logged["val/dice/disc"] == pytest.approx(2 / 3)
    assert np.isnan(logged["val/dice/bar"])
    empty = batch(row(0, 0, 0), row(0, 0, 0)[:, None].float())
    (logged,) = trainer().validate(method, dataloaders=loader(empty), verbose=False)
    assert logged["val/dice"] == 0, "best.ckpt needs a number"


def test_tiles_of_a_case_count_together() -> None:
    method = supervised(net(), **READ)
    tiles = [batch(row(1, 1), row(1, 0)[:, None].float()), batch(row(0, 1), row(1, 1)[:, None].float())]
    (logged,) = trainer().validate(method, dataloaders=loader(*tiles), verbose=False)
    assert logged["val/dice/disc"] == pytest.approx(4 / 6), "of the whole case, not the mean over its tiles"


def test_rounds_of_validation_do_not_mix() -> None:
    method = supervised(net(), **READ)
    running = trainer()
    label = row(1, 1, 0, 2)
    for case, pred, dice in (("a", label, 1.0), ("b", row(0, 0, 0, 0), 0.0)):
        given = batch(label, pred[:, None].float(), case)
        (logged,) = running.validate(method, dataloaders=loader(given), verbose=False)
        assert logged["val/dice"] == dice


def noisy(label: Tensor, seed: int, case: str) -> Batch:
    """A case whose image is its own logits of three classes."""
    return batch(label, torch.randn(1, 3, *label.shape[1:], generator=torch.Generator().manual_seed(seed)), case)


def held_out(*cases: Batch, **changed: Any) -> float:
    settings: dict[str, Any] = {"logits": lambda image, _: image, "patch": (6, 4)}
    method = supervised(net(), **(settings | changed))
    (logged,) = trainer().validate(method, dataloaders=loader(*cases), verbose=False)
    return logged["val/loss"]


def test_validation_loss_is_that_of_the_fixed_patches_of_each_case() -> None:
    label = scene().label
    a, b = noisy(label[:1], 1, "a"), noisy(label[1:], 2, "b")
    expected = []
    for case in (a, b):
        counted = (case.label[0] != IGNORE).numpy()
        cuts = fixed_patches(case.label[0].numpy(), counted, (6, 4), 4, name=f"{case.cases[0]} 0")
        assert len(cuts) == 4
        parts = [torch.stack([cells[(..., *cut)] for cut in cuts]) for cells in (case.image[0], case.label[0])]
        valid = parts[1] != IGNORE
        loss = cross_entropy(*parts, valid) + (1 - soft_dice(*parts, valid, batch=True)[0, 1:]).mean()
        expected.append(float(loss))
    assert held_out(a, b) == pytest.approx(sum(expected) / 2, rel=1e-6)
    assert held_out(b, a) == held_out(a, b), "cases may come in any order, of any process"


def test_validation_loss_leaves_out_cells_and_cases_that_do_not_count() -> None:
    known, nothing = noisy(scene().label[:1], 1, "a"), noisy(torch.full((1, 16, 16), IGNORE), 2, "b")
    assert held_out(known, nothing) == held_out(known)
    garbage = known.image.clone()
    garbage[:, :, 0] = 1e30  # the first row is ignored
    assert held_out(replace(known, image=garbage)) == held_out(known)
    assert np.isnan(held_out(nothing))


def test_validation_loss_of_a_case_in_tiles_is_the_mean_over_these() -> None:
    label = scene().label[1:]
    first, second = noisy(label, 1, "a"), noisy(label, 2, "a")
    whole = {"patch": (16, 16)}  # of the whole tile, wherever it lies
    alone = [held_out(tile, **whole) for tile in (first, second)]
    other = noisy(label, 3, "b")
    expected = ((alone[0] + alone[1]) / 2 + held_out(other, **whole)) / 2
    assert held_out(first, second, other, **whole) == pytest.approx(expected, rel=1e-6)


def test_without_patches_there_is_no_validation_loss() -> None:
    method = supervised(net(), **READ)
    (logged,) = trainer().validate(
        method, dataloaders=loader(batch(row(1, 0), row(1, 0)[:, None].float())), verbose=False
    )
    assert "val/loss" not in logged
    assert method.monitors(["dice"]) == ("val/loss", "val/dice")


def test_weight_decay_spares_biases_and_normalisation() -> None:
    method = supervised(net())
    decay = {
        id(p): group["weight_decay"] for group in method.configure_optimizers().param_groups for p in group["params"]
    }
    by_name = {name: decay[id(p)] for name, p in method.network.named_parameters()}
    assert by_name == {"0.weight": 0.1, "0.bias": 0, "1.weight": 0, "1.bias": 0, "3.weight": 0.1, "3.bias": 0}


def test_frozen_parameters_are_not_optimised() -> None:
    network = net()
    network[0].requires_grad_(False)
    (decayed, spared) = supervised(network).configure_optimizers().param_groups
    assert [len(group["params"]) for group in (decayed, spared)] == [1, 3]


def rate(running: Trainer) -> float:
    first, second = (group["lr"] for group in running.optimizers[0].param_groups)
    assert first == second
    return first


def test_learning_rate_follows_the_schedule_over_steps() -> None:
    rates = Record(rate)
    fit(supervised(net(), schedule=lambda progress: 1 - progress), rates, max_steps=8)
    assert rates.values == pytest.approx([0.02 * (1 - step / 8) for step in range(8)])


class SteppedTimer(Timer):
    """Believes that each step takes ten seconds."""

    steps = 0

    def time_elapsed(self, stage: Any = None) -> float:
        return 10.0 * self.steps

    def on_train_batch_end(self, *args: Any, **named: Any) -> None:
        self.steps += 1
        super().on_train_batch_end(*args, **named)


def test_learning_rate_follows_the_schedule_over_time() -> None:
    rates = Record(rate)
    timer = SteppedTimer({"seconds": 50}, verbose=False)
    fit(supervised(net(), schedule=lambda progress: 1 - progress), timer, rates, max_steps=-1)
    assert rates.values == pytest.approx([0.02, 0.016, 0.012, 0.008, 0.004])


class Drawing(nn.Module):
    """Dropout, and a note of what was drawn beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drawn = net(), []

    def forward(self, image: Tensor) -> Tensor:
        self.drawn.append(float(torch.rand(())))
        return self.inner(nn.functional.dropout(image, 0.5))


def test_randomness_inside_the_network_is_a_function_of_seed_and_step() -> None:
    def drawn(disturbance: int, seed: int) -> tuple[list[float], Tensor]:
        network = Drawing()
        torch.manual_seed(disturbance)
        fit(supervised(network, seed=seed))
        return network.drawn, network.inner[0].weight

    (first, weight), (again, same), (other, _) = drawn(1, seed=0), drawn(2, seed=0), drawn(1, seed=5)
    assert first == again
    assert torch.equal(weight, same)
    assert len(set(first) | set(other)) == 8


def test_batches_of_a_step_draw_other_randomness() -> None:
    network = Drawing()
    fit(supervised(network), accumulate_grad_batches=2, max_steps=2)
    assert len(set(network.drawn)) == 4


def test_accumulated_gradients_are_those_of_one_larger_batch() -> None:
    """Cross-entropy is a mean over cells, and every patch has as many that count."""
    label = scene().label.clamp(min=0).repeat(2, 1, 1)
    whole = batch(label)
    halves = [replace(whole, **{k: getattr(whole, k)[at] for k in FIELDS}, cases=("a",) * 2) for at in HALVES]
    loss = WeightedSum(TABLE, {"ce": CrossEntropyLoss})
    settings: dict[str, Any] = {"loss": loss, "optimizer": partial(torch.optim.SGD, lr=0.5)}
    once, twice = supervised(net(), **settings), supervised(net(), **settings)
    running = trainer(limit_val_batches=0, max_steps=3)
    running.fit(once, loader(*[whole] * 3), loader(scene()))
    expected = running.callback_metrics["train/loss"]
    running = trainer(limit_val_batches=0, max_steps=3, accumulate_grad_batches=2)
    running.fit(twice, loader(*halves * 3), loader(scene()))
    assert running.global_step == 3
    for name, weight in once.network.state_dict().items():
        torch.testing.assert_close(twice.network.state_dict()[name], weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(running.callback_metrics["train/loss"], expected, rtol=1e-5, atol=1e-6)


FIELDS = ("image", "label", "valid", "present", "key")
HALVES = (slice(0, 2), slice(2, 4))
