"""DataModule: cases of a dataset, prepared into the store, as batches for Lightning."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from rich.progress import track
from torch.utils.data import DataLoader

from medseg.data.cases import Case
from medseg.data.collate import collate_case, collate_windows
from medseg.data.dataset import CaseDataset, PatchDataset, StepSampler
from medseg.data.preprocess import Preprocess
from medseg.data.store import Digests, StoredCase, content_key, write_case
from medseg.errors import BadInput
from medseg.sample import Batch, DataSpec, Sample


class DataModule(LightningDataModule):
    """Serves training patches and whole validation cases from the store.

    Args:
        train_cases: Cases to draw patches from.
        val_cases: Cases to judge whole.
        read: Reads and checks one case.
        spec: Channels and labels.
        preprocess: Preprocessing of the plan.
        store: Folder of the patch store.
        patch: Cells of a training patch on each axis.
        batch_size: Samples of a step, per device.
        transform: Augmentation of a batch of windows into a batch of patches, on the device;
            has ``window_shape``.
        foreground_share: Part of each batch that must hold foreground.
        steps_per_epoch: Optimiser steps of one epoch.
        workers: Loader processes; with 0 windows are read between steps.
        seed: Of the whole training.
    """

    def __init__(
        self,
        *,
        train_cases: Sequence[Case],
        val_cases: Sequence[Case],
        read: Callable[[Case], Sample],
        spec: DataSpec,
        preprocess: Preprocess,
        store: Path,
        patch: Sequence[int],
        batch_size: int,
        transform: Any,
        foreground_share: float = 1 / 3,
        steps_per_epoch: int = 100,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.cases = {"train": tuple(train_cases), "val": tuple(val_cases)}
        self.read = read
        self.spec = spec
        self.preprocess = preprocess
        self.store = store
        self.patch = tuple(patch)
        self.batch_size = batch_size
        self.transform = transform
        self.foreground_share = foreground_share
        self.steps_per_epoch = steps_per_epoch
        self.workers = workers
        self.seed = seed
        self.stored: dict[str, list[StoredCase]] = {}

    def prepare_data(self) -> None:
        """Preprocess every case that the store does not hold yet."""
        self._prepare([*self.cases["train"], *self.cases["val"]])

    def setup(self, stage: str | None = None) -> None:
        """Find the prepared cases in the store."""
        digests = Digests(self.store / "digests.json")
        self.stored = {
            part: [StoredCase(self._folder(case, digests)) for case in cases] for part, cases in self.cases.items()
        }

    def _settings(self, case: Case) -> dict[str, Any]:
        return {
            "preprocess": self.preprocess.to_dict(),
            "spec": self.spec.to_dict(),
            "chunks": list(self.patch),
            "group": case.group,
            "labelled": case.label is not None,
        }

    def _folder(self, case: Case, digests: Digests) -> Path:
        key = content_key(case.files, self._settings(case), memory=digests.memory)
        return self.store / f"{case.id}-{key[:16]}"

    def _prepare(self, cases: Iterable[Case]) -> None:
        digests = Digests(self.store / "digests.json")
        absent = [(case, folder) for case in cases if not (folder := self._folder(case, digests)).is_dir()]
        digests.save()

        def prepare(work: tuple[Case, Path]) -> None:
            case, folder = work
            sample, trace = self.preprocess(self.read(case))
            write_case(folder, sample, trace, self.spec.labels.targets, self.patch)

        with ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2)) as pool:
            done = pool.map(prepare, absent)
            for _ in track(done, "preparing cases", total=len(absent)) if absent else ():
                pass

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of one epoch, another for each epoch of the trainer."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        dataset = PatchDataset(
            self.stored["train"],
            patch=self.patch,
            window=self.transform.window_shape,
            batch_size=self.batch_size * world,
            foreground_share=self.foreground_share,
            seed=self.seed,
        )
        sampler = StepSampler(
            self.steps_per_epoch,
            self.batch_size,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            rank=rank,
            world=world,
        )
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate_windows,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole cases, one a batch."""
        if not self.stored["val"]:
            raise BadInput("no validation case came; set data.fold to 0..n_folds-1, or give data.split_file")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        mine = CaseDataset(self.stored["val"][rank::world])
        return DataLoader(mine, batch_size=1, collate_fn=collate_case, num_workers=0)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training windows into patches, on the device, the whole batch at once."""
        return self.transform(batch) if self.trainer and self.trainer.training else batch
