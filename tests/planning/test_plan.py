from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable
from medseg.planning.fingerprint import Fingerprint, case_facts, pool
from medseg.planning.plan import Plan, Wishes, make_plan, memory_warning, read_plan, write_plan
from medseg.sample import Channel, DataSpec, Sample
from tests import mutations

SPEC = DataSpec((Channel("CT", "HU"),), LabelTable.declare({"background": 0, "organ": 1}), 3)


def case(seed: int, *, shape: tuple[int, ...] = (36, 50, 35), foreground: bool = True) -> Sample:
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.int16)
    if foreground:
        label[5:15, 5:15, 5:15] = 1
    image = rng.normal(100, 10, (1, *shape)).astype(np.float32)
    return Sample(image, label, np.ones(shape, bool), Grid.regular(shape, (1.0, 1.0, 1.0)), f"case_{seed}", "")


@pytest.fixture
def fingerprint() -> Fingerprint:
    facts = [case_facts(case(i), 2, draw=5000, seed=i) for i in range(20)]
    return pool(facts, SPEC.labels)


def test_fingerprint_pools_foreground(fingerprint: Fingerprint) -> None:
    (channel,) = fingerprint.intensities
    assert channel.mean == pytest.approx(100, abs=0.3)
    assert channel.std == pytest.approx(10, abs=0.3)
    assert channel.percentile_99_5 == pytest.approx(100 + 2.576 * 10, abs=1)
    assert fingerprint.foreground == {"organ": 20 * 1000}
    assert fingerprint.shapes == ((36, 50, 35),) * 20
    assert fingerprint.kept == 1
    assert fingerprint.empty == ()
    assert Fingerprint.from_dict(fingerprint.to_dict()) == fingerprint


def test_fingerprint_draws_only_foreground() -> None:
    sample = case(0)
    sample.image[0][sample.label == 0] = -1000
    facts = case_facts(sample, 2, draw=100, seed=0)
    assert facts.cells.shape == (1, 100)
    assert facts.cells.min() > 0


def test_fingerprint_measures_the_cropped_case() -> None:
    sample = case(0)
    sample.image[:, :18] = 0
    sample.label[:] = 0
    sample.label[20:25] = 1
    facts = case_facts(sample, 2, draw=10, seed=0)
    assert facts.shape == (18, 50, 35)
    assert facts.kept == pytest.approx(0.5)


def test_case_without_foreground_is_named_and_all_such_are_refused() -> None:
    empty = case_facts(case(0, foreground=False), 2, draw=10, seed=0)
    assert pool([empty, case_facts(case(1), 2, draw=10, seed=1)], SPEC.labels).empty == ("case_0",)
    with pytest.raises(InputError, match="none of the 1 cases has any foreground"):
        pool([empty], SPEC.labels)


def test_plan_of_hippocampus_like_data_is_nnunets(fingerprint: Fingerprint) -> None:
    plan = make_plan(fingerprint, SPEC, ("ct",), Wishes())
    assert plan.spacing == (1.0, 1.0, 1.0)
    assert plan.patch == (40, 56, 40)
    assert plan.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert plan.normalisation[0].scheme == "ct"
    assert plan.normalisation[0].mean == pytest.approx(100, abs=0.3)
    assert not plan.masked


def test_wishes_come_first(fingerprint: Fingerprint) -> None:
    wishes = Wishes(spacing=(2, 2, 2), patch=(17, 20, 24), batch_size=7, normalisation=["zscore"])
    plan = make_plan(fingerprint, SPEC, ("ct",), wishes)
    assert plan.spacing == (2.0, 2.0, 2.0)
    assert plan.patch == (20, 20, 24)
    assert plan.batch_size == 7
    assert plan.normalisation == (Normalisation("zscore"),)
    assert "rounded up from [17, 20, 24]" in plan.reasons["patch"]


def test_a_patch_beyond_the_memory_is_told_with_the_gigabytes_that_it_needs(fingerprint: Fingerprint) -> None:
    large = Wishes(patch=(256, 256, 256))
    plan = make_plan(fingerprint, SPEC, ("ct",), large)
    assert memory_warning(plan, large, 51.8) == (
        "a batch of 2 patches of 256 x 256 x 256 needs about 52 GB, and plan.memory_gb is 8; choose a smaller "
        "plan.patch or plan.batch_size, or leave them out to have them planned"
    )
    assert memory_warning(plan, replace(large, memory_gb=1000.0), 51.8) is None
    assert memory_warning(plan, large, 8.7) is None


def test_the_need_of_a_step_is_said_at_the_top_of_the_file(fingerprint: Fingerprint, tmp_path: Path) -> None:
    plan = make_plan(fingerprint, SPEC, ("ct",), Wishes())
    write_plan(tmp_path / "plan.yaml", replace(plan, reasons=plan.reasons | {"memory": "a step needs about 1.5 GB"}))
    second = (tmp_path / "plan.yaml").read_text(encoding="utf-8").splitlines()[1]
    assert second == "# As planned, a step needs about 1.5 GB on a GPU, in half precision."
    assert read_plan(tmp_path / "plan.yaml") == replace(plan, reasons={})


def test_wishes_that_do_not_fit_are_refused(fingerprint: Fingerprint) -> None:
    with pytest.raises(InputError, match=r"plan.patch=\[32, 32\] has 2 values, the data has 3 axes"):
        make_plan(fingerprint, SPEC, ("ct",), Wishes(patch=(32, 32)))
    with pytest.raises(InputError, match=r"2 schemes for 1 channels \['CT'\]"):
        make_plan(fingerprint, SPEC, ("ct",), Wishes(normalisation=["ct", "ct"]))
    with pytest.raises(InputError, match="expected positive numbers"):
        Wishes(spacing=(1, 0, 1))


def test_plan_file_explains_each_value_and_comes_back(fingerprint: Fingerprint, tmp_path: Path) -> None:
    plan = make_plan(fingerprint, SPEC, ("ct",), Wishes())
    write_plan(tmp_path / "plan.yaml", plan)
    text = (tmp_path / "plan.yaml").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert text.splitlines()[text.splitlines().index(line) - 1].startswith("# "), line
    back = read_plan(tmp_path / "plan.yaml")
    assert back.to_dict() | {"reasons": {}} == plan.to_dict() | {"reasons": {}}
    edited = yaml.safe_load(text) | {"batch_size": 3}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(edited))
    assert read_plan(tmp_path / "plan.yaml").batch_size == 3


def test_damaged_plan_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with pytest.raises(InputError, match="can't be read"):
        read_plan(path)
    path.write_text("spacing: [1, 1, 1]\n")
    with pytest.raises(InputError, match=r"is no plan .*'patch'.*it needs spacing, patch"):
        read_plan(path)
    path.write_text("spacing: [1, 1\n")
    with pytest.raises(InputError, match="can't be read"):
        read_plan(path)


def test_masked_normalisation_follows_the_crop(fingerprint: Fingerprint) -> None:
    stored = fingerprint.to_dict() | {"kept": 0.5}
    plan = make_plan(Fingerprint.from_dict(stored), SPEC, ("zscore",), Wishes())
    assert plan.masked
    assert Plan.from_dict(plan.to_dict()).preprocess.masked
    assert not make_plan(Fingerprint.from_dict(stored), SPEC, ("ct",), Wishes()).masked


STORED = {
    "spacing": [1.0, 1.0, 2.0], "patch": [16, 16, 8], "batch_size": 2, "kernels": [[3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1]], "masked": False, "native": False, "reasons": {"patch": "set"},
    "normalisation": [{"scheme": "ct", "mean": 1.0, "std": 2.0, "low": -float("inf"), "high": 9.0}],
}  # fmt: skip


def test_every_value_of_a_plan_file_that_is_changed_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    assert Plan.from_dict(STORED).patch == (16, 16, 8)
    refused = 0
    for at in mutations.places(STORED):
        for other in mutations.OTHERS:
            path.write_text(yaml.safe_dump(mutations.changed(STORED, at, other)))
            try:
                plan = read_plan(path)
            except InputError as error:
                refused += 1
                assert str(error).startswith(f"plan.file={path}: "), error  # noqa: PT017
                assert len(str(error).splitlines()) == 1  # noqa: PT017
                continue
            assert len(plan.kernels) == len(plan.strides)
            assert all(len(axes) == 3 for axes in (plan.spacing, plan.patch, *plan.kernels, *plan.strides))
            assert min(*plan.patch, *(s for stage in plan.strides for s in stage)) >= 1
    assert refused > 200


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00", b"spacing: .inf", b"[" * 100_000, b"a: &a [*a]", b"- 1", b"", b"3", b"a: 2024-13-45",
        b"!!python/object/apply:os.system ['true']", b"spacing: 1" + b"0" * 10_000, b"\x00",
    ],
)  # fmt: skip
def test_files_that_hold_no_plan_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"plan\.yaml: (is no plan|can't be read)") as error:
        read_plan(path)
    assert len(str(error.value).splitlines()) == 1
