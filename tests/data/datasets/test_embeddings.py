"""Scenes of embeddings: channels by a pattern, scales next to the files, and a light network on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.doctor.examine import examine
from medseg.errors import InputError
from medseg.export.export import export
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.formats.test_embeddings import write
from tests.tiny import utm_grid

SHAPE = (32, 32)


def scenes(root: Path, n: int, *, scaled: bool, names: str = "abc") -> Path:
    for folder in ("images", "masks", "optical"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        label = np.zeros(SHAPE, np.uint8)
        label[8:24, 4:20] = 1
        cells = rng.integers(-127, 128, (n, *SHAPE), dtype=np.int8)
        cells[0] = np.where(label, 100, -100)
        cells[:, :2] = -128 if not scaled else 5
        write(root / f"images/{name}.tif", cells)
        if scaled:
            scale = np.full((1, *SHAPE), 0.02, np.float32)
            scale[:, :2] = np.nan
            write(root / f"images/{name}_scales.tif", scale)
        formats.write(root / f"masks/{name}.tif", label, utm_grid(SHAPE))
        image = rng.normal(100, 3, (1, *SHAPE)).astype(np.float32)
        formats.write_image(root / f"optical/{name}.tif", image, utm_grid(SHAPE), names=["B4"])
    return root


def words(root: Path, kind: str = "alphaearth", channels: str = "[A*]") -> list[str]:
    own = ["data=rasters", f"data.root={root}", "data.labels={background: 0, field: 1}", f"data.channels={channels}"]
    return [*own, f"data.embeddings={kind}"]


def dataset(root: Path, *overrides: str, **settings: str) -> Any:
    return build_dataset(compose("train", [*words(root, **settings), *overrides]))


def test_all_bands_by_a_pattern(tmp_path: Path) -> None:
    source = dataset(scenes(tmp_path, 64, scaled=False))
    assert [c.name for c in source.spec.channels] == [f"A{i:02d}" for i in range(64)]
    sample = source.read(source.cases()[0])
    assert sample.valid[2:].all()
    assert not sample.valid[:2].any()
    raw = formats.open(tmp_path / "images/a.tif").read()[:, 2:].astype(np.float64)
    np.testing.assert_allclose(sample.image[:, 2:], np.sign(raw) * (raw / 127.5) ** 2, rtol=1e-5)
    some = dataset(tmp_path, channels="[A63, A0*]")
    assert [c.name for c in some.spec.channels] == ["A63", *(f"A{i:02d}" for i in range(10))]
    np.testing.assert_array_equal(some.read(some.cases()[0]).image[:2], sample.image[[63, 0]])


def test_scales_lie_next_to_the_images_and_are_no_cases(tmp_path: Path) -> None:
    source = dataset(scenes(tmp_path, 128, scaled=True), kind="tessera", channels="[T*]")
    cases = source.cases()
    assert [case.id for case in cases] == ["a", "b", "c"]
    assert cases[0].files[-1] == tmp_path / "images/a_scales.tif"
    sample = source.read(cases[0])
    assert sample.image[0, 10, 10] == pytest.approx(2)
    assert not sample.valid[:2].any()
    (tmp_path / "images/a_scales.tif").unlink()
    with pytest.raises(InputError, match=r"without their scales, expected a_scales\.tif next to them; add it"):
        source.open(source.cases()[0])


def test_embeddings_as_one_of_several_groups(tmp_path: Path) -> None:
    groups = "data.images={emb: images, s2: optical}"
    source = dataset(scenes(tmp_path, 64, scaled=False), groups, kind="{emb: alphaearth}", channels="[s2.B4, emb.A0*]")
    assert [c.name for c in source.spec.channels] == ["s2.B4", *(f"emb.A{i:02d}" for i in range(10))]
    image = source.read(source.cases()[0]).image
    assert image[0, 10, 10] > 80
    assert image[1, 10, 10] == pytest.approx((100 / 127.5) ** 2)


def test_a_pattern_stands_for_the_bands_that_are_named(tmp_path: Path) -> None:
    own = ["data=rasters", f"data.root={tmp_path}", "data.labels={background: 0, field: 1}", "data.bands=[B4,B8,VV]"]
    source = build_dataset(compose("train", [*own, "data.channels=[VV, B*]"]))
    assert [c.name for c in source.spec.channels] == ["VV", "B4", "B8"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "clay"}, r"data\.embeddings=clay: choose alphaearth or tessera"),
        ({"kind": "{emb: alphaearth}"}, r"data\.embeddings names \['emb'\], the image groups .* are \[\]"),
        ({"channels": "[T*]"}, r"no band fits T\*, expected one of A00, A01, A02, A03, A04, \.\.\.; name the bands"),
        ({"kind": "null", "channels": "[A*]"}, r"no band fits A\*, expected one of data\.bands, which is empty"),
    ],
)
def test_what_is_no_embedding_is_refused(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        dataset(tmp_path, **settings)


def test_a_light_network_learns_predicts_and_is_examined(tmp_path: Path) -> None:
    own = words(scenes(tmp_path / "raw", 64, scaled=False))
    places = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "split.n_folds=3", "test=false"]
    small = [
        "model=per_pixel", "model.width=16", "transform=scene", "metric=scene", "logger=csv", "callback={}",
        "plan.patch=[32,32]", "plan.batch_size=2", "trainer.max_steps=30", "trainer.steps_per_epoch=30",
        "optimizer.lr=0.02", "trainer.accelerator=cpu", "trainer.precision=32-true",
    ]  # fmt: skip
    train(compose("train", [*own, *small, *places]))
    given = [f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"input={tmp_path}/raw/images", f"output={tmp_path}/m"]
    made = predict(compose("predict", [*given, "device=cpu"]))
    label = formats.open(tmp_path / "raw/masks/a.tif").read()[0]
    found, valid = formats.open(made[0]).read_valid()
    assert len(made) == 3
    assert not valid[:2].any()
    assert (found[0] == label)[2:].mean() > 0.95
    with pytest.raises(InputError, match="its images are embeddings"):
        export(compose("export", [given[0], f"output={tmp_path}/out"]))
    survey, findings = examine(build_dataset(compose("check", own)))
    assert survey.cases[0].channels[0].maximum == pytest.approx((100 / 127.5) ** 2)
    assert not [finding for finding in findings if finding.severity == "error"]
