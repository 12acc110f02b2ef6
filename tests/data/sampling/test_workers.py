import pickle
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from medseg.data.preprocessing.preprocess import PreprocessTrace
from medseg.data.sampling.case_samplers import Sampling
from medseg.data.sampling.collate import collate_windows
from medseg.data.sampling.patch_dataset import PatchDataset, StepSampler
from medseg.data.sampling.workers import processes
from medseg.data.store.stored_case import StoredCase, write_case
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.sample import Sample

SHAPE = (64, 64, 48)  # one chunk of several blocks: only those are decoded by several threads


def stored(folder: Path, number: int) -> StoredCase:
    rng = np.random.default_rng(number)
    image, label = rng.normal(size=(1, *SHAPE)).astype(np.float32), rng.integers(0, 2, SHAPE).astype(np.int16)
    grid = Grid.regular(SHAPE, (1.0, 1.0, 1.0))
    sample = Sample(image, label, np.ones(SHAPE, bool), grid, f"case_{number}", f"patient_{number}")
    windows = [(Box.whole(SHAPE), sample)]
    return write_case(folder / sample.case, windows, grid, PreprocessTrace.unmoved(grid), (("a", (1,)),), SHAPE)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # on a machine of one core
def test_workers_give_what_the_training_reads_by_itself_in_every_epoch(tmp_path: Path) -> None:
    cases = [stored(tmp_path, number) for number in range(3)]
    drawn = PatchDataset(
        cases, patch=(40, 40, 40), window=(44, 44, 44), batch_size=2, seed=5, sampling=Sampling(foreground_fraction=0.5)
    )
    epochs = [0]

    def loader(workers: int) -> DataLoader[Any]:
        sampler = StepSampler(2, 2, epoch=lambda: epochs[-1])
        return DataLoader(drawn, batch_sampler=sampler, collate_fn=collate_windows, **processes(workers))

    # what a validation between two epochs does: this process decodes, with threads as others may
    blosc2.open(str(cases[0].folder / "image.b2nd"), mode="r")[:]
    alone, shared = loader(0), loader(2)
    for epoch in (0, 1):
        epochs.append(epoch)
        cases[0].read()
        for one, other in zip(alone, shared, strict=True):
            assert one.cases == other.cases
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.label, other.label)


def test_an_open_case_is_sent_without_its_arrays(tmp_path: Path) -> None:
    case = stored(tmp_path, 0)
    image = case.read().image
    sent = pickle.dumps(case)
    assert len(sent) < 500
    np.testing.assert_array_equal(pickle.loads(sent).read().image, image)
