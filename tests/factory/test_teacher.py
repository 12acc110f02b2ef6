"""A trained network as a teacher: its channels, cells and classes against code of its own; what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.factory.stored import Held, rebuilt
from medseg.factory.teacher import TeacherFile, read_teacher
from medseg.labels import LabelTable
from medseg.planning.plan import Plan
from medseg.sample import Batch, Channel, DataSpec
from tests import tiny_checkpoint

RULES = (Normalisation("standard", 5.0, 4.0), Normalisation("none"), Normalisation("zscore"))
PLAN = Plan((2.0, 1.0), (6, 12), 2, (), (), RULES, masked=False, native=True)
SPEC = DataSpec(
    (Channel("G"), Channel("X"), Channel("R")), LabelTable.declare({"ground": 0, "b": 1}, background="ground"), 2
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.save(tiny_checkpoint.contents(), tmp_path / "teacher.ckpt")
    return tmp_path / "teacher.ckpt"


def read(path: Path | str, spec: DataSpec = SPEC) -> TeacherFile:
    teacher = read_teacher(OmegaConf.create({"method": {"teacher": str(path)}}), spec)
    assert teacher is not None
    return teacher


def batch(shape: tuple[int, ...] = PLAN.patch, n: int = 2) -> Batch:
    rng = torch.Generator().manual_seed(0)
    image = torch.randn(n, 3, *shape, generator=rng)
    valid = torch.rand(n, *shape, generator=rng) > 0.2
    image = image.masked_fill(~valid[:, None], 0)
    present = torch.ones(n, 3, dtype=torch.bool)
    return Batch(image, torch.zeros(n, *shape, dtype=torch.int64), valid, present, torch.zeros(n, 3).long(), ("a",) * n)


def test_channels_normalisation_cells_and_classes_are_brought_together(path: Path) -> None:
    """The teacher knows R and G on cells of 1, and background, a and b; here are G, X and R on cells of 2 by 1."""
    own = batch()
    found = read(path).built(PLAN, SPEC).probabilities(own, temperature=2.0)
    loaded = checkpoint.read(path)
    network = rebuilt(Held.of(loaded.metadata), loaded.network_state).eval()
    green, _, red = own.image.unbind(1)
    raw = green * 4 + 5
    seen = torch.stack([red, (raw - 1) / 2], dim=1).masked_fill(~own.valid[:, None], 0)
    grid = torch.nn.functional.interpolate(seen, size=(12, 12), mode="bilinear", align_corners=False)
    with torch.no_grad():
        prob = (network(grid) / 2.0).softmax(1)
    prob = torch.nn.functional.interpolate(prob, size=(6, 12), mode="bilinear", align_corners=False)
    expected = torch.stack([prob[:, 0] + prob[:, 1], prob[:, 2]], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 6, 12))


def test_patches_are_padded_to_a_shape_that_its_network_takes(path: Path) -> None:
    spec = tiny_checkpoint.SPEC
    plan = replace(PLAN, spacing=(1.0, 1.0), patch=(7, 9), normalisation=tiny_checkpoint.PLAN.normalisation)
    teacher = read(path, spec).built(plan, spec)
    own = batch((7, 9))
    own = replace(own, image=own.image[:, :2], present=own.present[:, :2])
    loaded = checkpoint.read(path)
    network = rebuilt(Held.of(loaded.metadata), loaded.network_state).eval()
    with torch.no_grad():
        expected = network(torch.nn.functional.pad(own.image, (0, 1, 0, 1)))[:, :, :7, :9].softmax(1)
    torch.testing.assert_close(teacher.probabilities(own), expected)


def test_missing_channels_are_zero_for_it_too(path: Path) -> None:
    own = batch()
    teacher = read(path).built(PLAN, SPEC)
    without = replace(own, present=torch.tensor([[False, True, True]] * 2), image=own.image.clone())
    without.image[:, 0] = 0
    seen = teacher._seen(without)
    assert not seen[:, 1].any()
    assert teacher._seen(own)[:, 1].any()


def test_values_are_clipped_as_in_its_training(path: Path) -> None:
    held = tiny_checkpoint.contents()
    held["medseg"]["plan"]["normalisation"][1] = {"scheme": "ct", "mean": 1.0, "std": 2.0, "low": -1.0, "high": 3.0}
    checkpoint.save(held, path)
    seen = read(path).built(PLAN, SPEC)._seen(batch())[:, 1]
    assert float(seen.min()) == -1.0
    assert float(seen.max()) == 1.0


def regions() -> LabelTable:
    return LabelTable.declare({"background": 0, "tumour": [1, 2], "core": 2}, regions_class_order=[1, 2])


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"channels": (Channel("G"), Channel("X"))},
            r": sees the channels \['R', 'G'\], and the data have \['G', 'X'\],",
        ),
        (
            {"labels": LabelTable.declare({"background": 0, "c": 1})},
            r": has no \['c'\], of which this training has lab.*; choose a teacher of these classes, or name",
        ),
        (
            {"labels": LabelTable.declare(["a", "b"], background=None)},
            r".*; \['background'\] are none of them, and there is",
        ),
        ({"labels": regions()}, r": its network gives classes, and this one regions; both need the same kind$"),
        ({"ndim": 3}, r": segments images of 2 axes, and the data have 3$"),
        ({"dates": 4}, r": a teacher takes single images, and one of both trainings has time series$"),
    ],
)
def test_a_teacher_of_other_data_is_refused_before_data_are_read(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"^method\.teacher={path}{message}"):
        read(path, replace(SPEC, **changes))


@pytest.mark.parametrize(
    "plan, message",
    [
        (replace(PLAN, native=False), r": one of both trainings leaves cases on their own axes, and the other turns"),
        (
            replace(PLAN, normalisation=(RULES[2], *RULES[1:])),
            r": G is normalised by standard for the teacher and by zscore here, which takes the raw image; set",
        ),
        (
            replace(PLAN, masked=True),
            r": R is normalised by zscore for the teacher and by zscore in the nonzero mask here, which takes",
        ),
    ],
)
def test_a_plan_that_is_too_far_from_its_own_is_refused(path: Path, plan: Plan, message: str) -> None:
    with pytest.raises(InputError, match=rf"^method\.teacher={path}{message}"):
        read(path).built(plan, SPEC)


def test_what_is_no_network_that_segments_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^method\.teacher=\S+nowhere\.ckpt: no such file"):
        read(tmp_path / "nowhere.ckpt")
    held = tiny_checkpoint.contents()
    held["medseg"]["segments"] = False
    checkpoint.save(held, path)
    with pytest.raises(InputError, match=r"^method\.teacher=\S+: its network was pretrained without labels"):
        read(path)
    held = tiny_checkpoint.contents()
    held["medseg"]["config"]["model"]["_target_"] = "os.system"
    checkpoint.save(held, path)
    with pytest.raises(InputError, match=r"^method\.teacher=\S+: model\._target_=os\.system"):
        read(path)
    held = tiny_checkpoint.contents()
    held["medseg"]["config"]["model"]["base_features"] = 4
    checkpoint.save(held, path)
    with pytest.raises(
        InputError, match=r"^method\.teacher=\S+: damaged, or edited by hand \(the network can't be reb"
    ):
        read(path).built(PLAN, SPEC)


def test_no_teacher_is_none() -> None:
    assert read_teacher(OmegaConf.create({"method": {"teacher": None}}), SPEC) is None
    assert read_teacher(OmegaConf.create({"method": {}}), SPEC) is None
