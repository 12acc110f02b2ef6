"""plan.file takes nnU-Net's plans: the same windows, cells and normalisation, with the axes of medseg."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.planning.nnunet import plan_at
from medseg.planning.plan import read_plan, write_plan
from tests import nnunet_files
from tests.nnunet_files import PLAIN, RESIDUAL, SLICES


def written(folder: Path, plans: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    return folder / "plans.json"


def test_folder_of_a_trained_model(tmp_path: Path) -> None:
    plan = plan_at(str(nnunet_files.write_model(tmp_path, PLAIN)), 3)
    assert (plan.spacing, plan.patch, plan.batch_size) == ((0.5, 1.0, 2.5), (20, 16, 8), 2)
    assert plan.kernels == ((3, 3, 1), (3, 3, 3), (3, 3, 3))
    assert plan.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    assert [rule.scheme for rule in plan.normalisation] == ["zscore"]
    assert not plan.masked
    assert not plan.native
    assert "model=unet model.base_features=4 model.max_features=8" in plan.reasons["kernels"]
    write_plan(tmp_path / "plan.yaml", plan)
    again = plan_at(str(tmp_path / "plan.yaml"), 3)
    assert again.to_dict() | {"reasons": {}} == plan.to_dict() | {"reasons": {}}
    assert read_plan(tmp_path / "plan.yaml") == again


def test_statistics_of_ct(tmp_path: Path) -> None:
    path = written(tmp_path, nnunet_files.plans_of(RESIDUAL, normalization_schemes=["CTNormalization"]))
    plan = plan_at(f"{path}::3d_fullres", 3)
    (rule,) = plan.normalisation
    assert (rule.scheme, rule.mean, rule.std, rule.low, rule.high) == ("ct", 100.0, 40.0, 20.0, 300.0)
    assert "model=residual_unet" in plan.reasons["kernels"]


def test_slices_of_volumes_and_images(tmp_path: Path) -> None:
    path = written(tmp_path / "nnUNetTrainer__nnUNetPlans__2d", nnunet_files.plans_of(SLICES))
    slices = plan_at(str(path), 3)
    assert (slices.spacing, slices.patch) == ((0.5, 1.0, 2.5), (20, 16, 1))
    assert slices.kernels == ((3, 3, 1),) * 3
    assert slices.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1))
    images = plan_at(str(path), 2)
    assert (images.patch, images.kernels, images.native) == ((16, 20), ((3, 3),) * 3, True)


def test_networks_of_fixed_topology_get_stages_by_the_rules(tmp_path: Path) -> None:
    plans = nnunet_files.plans_of(PLAIN)
    plans["configurations"]["3d_fullres"]["architecture"] = {
        "network_class_name": "dynamic_network_architectures.architectures.primus.Primus",
        "arch_kwargs": {"embed_dim": 864},
    }
    plan = plan_at(f"{written(tmp_path, plans)}::3d_fullres", 3)
    assert len(plan.kernels) == len(plan.strides) > 1
    assert "Primus" in plan.reasons["kernels"]


def test_a_folder_without_plans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"plan.file=.*: this folder holds no plans.json; give the folder of a trained"
    ):
        plan_at(str(tmp_path), 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("plans.json", "{", "can't be read .*; give nnU-Net's plans.json"),
        ("plans.json", "[]", "can't be used as plans of nnU-Net"),
        (
            "plans.json::2d",
            json.dumps(nnunet_files.plans_of(PLAIN)),
            "there is no configuration 2d; choose one of 3d_full",
        ),
        ("plans.json", json.dumps(nnunet_files.plans_of(PLAIN)), r"2 configurations .* as in plans.json::3d_fullres"),
        ("plans.json", '{"configurations": {}}', "it has no configurations"),
        ("absent.json", "", "can't be read"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / "plans.json").write_text(content)
    with pytest.raises(InputError, match=words) as refused:
        plan_at(str(tmp_path / name), 3)
    assert str(refused.value).startswith(f"plan.file={tmp_path / name}: ")
    assert len(str(refused.value).splitlines()) == 1


def test_volumes_are_refused_for_images(tmp_path: Path) -> None:
    folder = nnunet_files.write_model(tmp_path, replace(PLAIN, channels=3))
    with pytest.raises(InputError, match="for volumes, and the data are images; choose the configuration 2d"):
        plan_at(str(folder), 2)
