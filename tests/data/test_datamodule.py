"""The store of a training is a cache: what is damaged in it is prepared again."""

from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.factory.run import assemble
from medseg.hydra_app.compose import compose
from tests.engine.reversed import Reversed
from tests.tiny import SMALL, write_nnunet


def settings(folder: Path, *more: str) -> Any:
    places = [f"data.root={folder}/data", f"cache_dir={folder}/cache", f"run_dir={folder}/run"]
    return compose("train", [*SMALL, *places, *more])


def prepared(folder: Path, *more: str) -> Any:
    run = assemble(settings(folder, *more), folder / "run")
    run.datamodule.prepare_data()
    return run


def test_damaged_entries_are_prepared_again_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nnunet(tmp_path / "data")
    first = prepared(tmp_path)
    store = first.datamodule.store
    sound = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.suffix != ".b2nd"}
    cases = sorted(store.glob("c*"))
    for path in (cases[0] / "cells.npz", cases[1] / "case.json", store / "digests.json"):
        path.write_bytes(path.read_bytes()[:40])
    next((store / "fingerprints").iterdir()).write_text("{}")
    capsys.readouterr()
    assert prepared(tmp_path).plan == first.plan
    told = capsys.readouterr().err
    assert {path: path.read_bytes() for path in sound} == sound
    for words in ("fingerprints/", "digests.json is damaged", "(BadZipFile)", "(JSONDecodeError)"):
        assert words in told
    assert all(line.startswith(("warning: ", "note: ")) for line in told.splitlines())


def test_workers_prepare_what_this_process_prepares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nnunet(tmp_path / "data")
    here = prepared(tmp_path, f"cache_dir={tmp_path}/here")
    run = assemble(settings(tmp_path, f"cache_dir={tmp_path}/there"), tmp_path / "run")
    run.datamodule.engine = Reversed()
    images = [tmp_path / f"data/imagesTr/{case}_0000.nii.gz" for case in ("c2", "c3")]
    sound = [path.read_bytes() for path in images]
    images[0].unlink()
    images[1].write_bytes(sound[1][:100])
    with pytest.raises(InputError, match="2 of 5 cases cannot be used: c2, c3; fix their files"):
        run.datamodule.prepare_data()
    assert "c2_0000.nii.gz: can't be read (No such file or directory)" in capsys.readouterr().err
    for path, cells in zip(images, sound, strict=True):
        path.write_bytes(cells)
    run.datamodule.prepare_data()
    stores = [module.store for module in (here.datamodule, run.datamodule)]
    found = [{p.relative_to(store).as_posix(): p.read_bytes() for p in store.glob("c*/*")} for store in stores]
    assert found[0].keys() == found[1].keys()
    assert all(cells == found[1][name] for name, cells in found[0].items() if not name.endswith(".b2nd"))


@pytest.mark.parametrize("parts", [1, 2])
def test_batches_of_a_step_are_those_of_the_trainer(tmp_path: Path, parts: int) -> None:
    write_nnunet(tmp_path / "data")
    run = prepared(tmp_path, f"trainer.accumulate_grad_batches={parts}")
    run.datamodule.setup("fit")
    run.datamodule.trainer = run.trainer
    loader = run.datamodule.train_dataloader()
    places = [place for batch in loader.batch_sampler for place in batch]
    assert len(loader) == parts * run.datamodule.steps_per_epoch
    assert len(set(places)) == len(places) == len(loader) * run.datamodule.batch_size
    assert loader.dataset.batch_size == parts * run.datamodule.batch_size
