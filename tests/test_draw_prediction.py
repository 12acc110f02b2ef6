"""scripts/draw_prediction.py on a network that was hardly trained."""

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.train import train
from medseg.viz import figures
from tests.tiny import write_planar

SCRIPT = Path(__file__).parents[1] / "scripts" / "draw_prediction.py"
TINY = (
    "data=rasters", "data.channels=[B4,B8]", "data.bands=[B2,B4,B8]", "data.valid=fov", "logger=csv",
    "data.labels={background: 0, road: 1, river: 7}", "split.val_cases=[case_1,case_2]", "trainer.steps_per_epoch=2",
    "plan.patch=[32,32]", "plan.batch_size=2", "model=unet", "model.base_features=4", "trainer.max_steps=2",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "callback={}", "transform=none", "metric=overlap",
    "test=false", "name=stripes",
)  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_prediction", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    cfg = compose("train", [*TINY, f"data.root={folder}/raw", f"cache_dir={folder}/cache", f"run_dir={folder}/run"])
    write_planar(folder / "raw", cfg, n_cases=4, shape=(32, 48))
    Image.fromarray(np.pad(np.ones((32, 40), np.uint8), ((0, 0), (8, 0)))).save(folder / "raw/fov/case_2.png")
    train(cfg)
    return folder / "run/checkpoints/last.ckpt"


def test_a_row_for_each_checkpoint(
    script: ModuleType, last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(script, "rows_figure", lambda rows: (drawn.extend(rows), figures.rows_figure(rows))[1])
    script.main(str(tmp_path / "out.png"), str(last), f"{last}:case_2")
    assert [title for title, _ in drawn] == ["stripes: case_1", "stripes: case_2"]
    whole, part = (panels for _, panels in drawn)
    assert whole.valid.all()
    np.testing.assert_array_equal(np.flatnonzero(~part.valid.any(axis=0)), range(8))
    assert (part.pred[:, :8] == 0).all()
    np.testing.assert_array_equal(np.unique(whole.label), [0, 1, 2])
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / "out.png").read_bytes())).convert("RGB"))
    road = [round(255 * c) for c in np.array(whole.table.classes[1].colour) / 255]
    assert (picture == road).all(axis=-1).any(), "the legend has the colour of the class"


def test_a_case_of_the_training_is_refused(script: ModuleType, last: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt:case_0: held out of its training are case_1, case_2; name one"):
        script.main(str(tmp_path / "out.png"), f"{last}:case_0")
    with pytest.raises(InputError, match=r"none\.ckpt: no such file"):
        script.main(str(tmp_path / "out.png"), str(tmp_path / "none.ckpt"))
    assert not (tmp_path / "out.png").exists()
