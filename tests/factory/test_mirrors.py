"""The label table's sides reach the augmentation and the test-time average, and both mirror alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from medseg.checkpoint import RunMetadata
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.synthetic.phantom_volumes import PhantomVolumes
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.factory.mirrors import mirrors
from medseg.factory.run import assemble
from medseg.factory.stored import Held
from medseg.factory.tiling import build_tiling
from medseg.factory.transform import build_transform
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.planning.plan import Plan
from medseg.sample import Channel, DataSpec
from medseg.transforms.spatial import exchange

SIDED = {"background": 0, "left kidney": 1, "right kidney": 2}
ONE_SIDED = {"background": 0, "left kidney": 1, "liver": 2}


def planned(ndim: int, *, native: bool = False, slab: bool = False) -> Plan:
    patch = (16, 16, 4) if slab else (16,) * ndim
    return Plan((1.0,) * ndim, patch, 2, (), (), (Normalisation("zscore"),), masked=False, native=native)


def spec_of(labels: dict[str, int], ndim: int, pairs: Any = None) -> DataSpec:
    return DataSpec((Channel("MR"),), LabelTable.declare(labels, pairs=pairs), ndim)


def stored(spec: DataSpec) -> DataSpec:
    """As a checkpoint gives it back."""
    return DataSpec.from_dict(json.loads(json.dumps(spec.to_dict())))


def held(cfg: Any, plan: Plan, spec: DataSpec) -> Any:
    """What a prediction takes from a checkpoint's configuration."""
    config = {key: OmegaConf.to_container(cfg[key]) for key in ("inference", "transform", "model")}
    config |= {"data": {"lateral_axis": cfg.data.get("lateral_axis")}, "trainer": {"precision": "fp32"}}
    return Held.of(RunMetadata(config, spec, plan, {})).config


def test_pairs_reach_the_training() -> None:
    spatial = build_transform(compose("train", []), planned(3), spec_of(SIDED, 3)).transforms["spatial"]
    assert (spatial.lateral_axis, spatial.mirror_classes) == (0, (0, 2, 1))
    assert spatial.mirror_axes == (0, 1, 2)


CASES = [
    (SIDED, 3, [], {}, (0, 1, 2)),
    (SIDED, 3, [], {"slab": True}, (0, 2)),
    (SIDED, 3, [], {"native": True}, ()),
    (ONE_SIDED, 3, [], {}, (1, 2)),
    (SIDED, 3, ["transform.mirror.axes=[1]"], {}, (1,)),
    (SIDED, 3, ["transform.mirror=null"], {}, ()),
    (SIDED, 3, ["transform.mirror.p=0"], {}, ()),
    (SIDED, 2, ["data=phantom_scenes", "transform=image"], {}, ()),
    (SIDED, 2, ["data=phantom_scenes", "transform=image", "data.lateral_axis=1"], {}, (1,)),
    (SIDED, 2, ["data=phantom_scenes", "transform=light", "data.lateral_axis=1"], {}, (0, 1)),
    ({"background": 0, "water": 1}, 2, ["data=phantom_scenes", "transform=image"], {}, (0, 1)),
    ({"background": 0, "liver": 1}, 3, [], {"native": True}, (0, 1, 2)),
]


@pytest.mark.parametrize(("labels", "ndim", "overrides", "plan", "axes"), CASES)
def test_mirrors_at_test_time_are_those_of_the_training(
    labels: dict[str, int], ndim: int, overrides: list[str], plan: dict[str, bool], axes: tuple[int, ...]
) -> None:
    cfg, spec = compose("train", [*overrides, "inference.flips=true"]), spec_of(labels, ndim)
    spatial = build_transform(cfg, planned(ndim, **plan), spec).transforms["spatial"]
    tiles = build_tiling(cfg, planned(ndim, **plan), stored(spec), "fp32")
    assert (spatial.mirror_axes if spatial.mirror.p else ()) == axes
    assert tiles.flip_axes == axes
    assert tiles.lateral_axis == spatial.lateral_axis
    exchanged = spatial.lateral_axis in axes and bool(spec.labels.pairs)
    assert tiles.swap == (spec.labels.mirror() if exchanged else None)
    assert build_tiling(held(cfg, planned(ndim, **plan), spec), planned(ndim, **plan), stored(spec), "fp32") == tiles


def test_one_line_warns_where_sides_forbid_a_mirror() -> None:
    def warning(labels: dict[str, int], pairs: Any = None, **plan: bool) -> str:
        return mirrors(compose("train", []), planned(3, **plan), spec_of(labels, 3, pairs)).warning

    assert warning(SIDED) == ""
    assert "'left kidney': no class is the mirror image" in warning(ONE_SIDED)
    assert "native: false" in warning(SIDED, native=True)
    assert "data.pairs does not name them" in warning(SIDED, pairs=[])


def test_an_axis_that_images_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.lateral_axis=2: choose 0 \(rows\), 1 \(columns\), or null"):
        build_dataset(compose("train", ["data=phantom_scenes", "data.lateral_axis=2"]))


def test_classes_are_exchanged_on_exactly_the_samples_that_are_mirrored_across(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a bare folder whose names say left and right, as a training draws its patches."""
    phantom = PhantomVolumes(tmp_path / "drawn", n_cases=4, n_test=0, shape=(16, 18, 14))
    phantom.cases()
    cfg = compose(
        "train",
        [
            "data=nnunet", f"data.root={phantom.folder}", f"cache_dir={tmp_path}/cache", "transform=light",
            "plan.patch=[16,16,16]", "plan.batch_size=16", "model.base_features=4", "trainer.accelerator=cpu",
            "logger=csv", "callback={}", "split.n_folds=2", "trainer.steps_per_epoch=1", "trainer.max_steps=1",
        ],
    )  # fmt: skip
    run = assemble(cfg, tmp_path / "run")
    run.datamodule.prepare_data()
    run.datamodule.setup("fit")
    windows = next(iter(run.datamodule.train_dataloader()))
    compose_ = run.datamodule.transform
    drawn = compose_.draw(windows)
    patches, flips = compose_.apply(windows, drawn), drawn["spatial"]["flip"]
    mirror = run.dataset.spec.labels.mirror()
    assert mirror == (0, 1, 2, 4, 3, 5)
    assert 0 < flips[:, 0].sum() < len(flips)
    assert {3, 4} <= set(np.unique(windows.label).tolist())
    for window, patch, flip in zip(windows.label.long(), patches.label, flips, strict=True):
        unflipped = patch.flip([int(a) for a in np.flatnonzero(flip)])
        assert torch.equal(unflipped, exchange(window, mirror) if flip[0] else window)
    assert "warning" not in capsys.readouterr().err
