"""DataModule: cases of a dataset, prepared into the store, as batches for Lightning."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from rich.progress import track
from torch.utils.data import DataLoader

from medseg.data.case import Case
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.problems import Problems
from medseg.data.reading.open_case import CaseReader
from medseg.data.sampling.case_samplers import Sampling
from medseg.data.sampling.collate import collate_case, collate_windows
from medseg.data.sampling.patch_dataset import (
    LARGEST,
    CaseDataset,
    PatchDataset,
    StepLoader,
    StepSampler,
    Window,
)
from medseg.data.sampling.workers import processes
from medseg.data.store.content_hash import Digests, content_key
from medseg.data.store.prepare import PrepareCase
from medseg.data.store.stored_case import DRAFT, DamagedEntry, StoredCase
from medseg.data.store.streamed_case import StreamedCase
from medseg.data.streams import MAIN, Stream, samples_at, stream_seed
from medseg.engine.calls import attempt
from medseg.engine.engine import Engine, Failure
from medseg.engine.local import LocalEngine
from medseg.errors import InputError
from medseg.runtime import disk
from medseg.runtime.cpu import cores
from medseg.runtime.drafts import remove_dead_folders
from medseg.sample import Batch, DataSpec

_LOG = logging.getLogger(__name__)

_TOLD = 5  # notes about files that are shown
_Work = tuple[Case, Path]
"""A case and its folder in the store."""
_Results = Generator[tuple[_Work, list[str] | Failure], None, None]


class DataModule(LightningDataModule):
    """Serves training patches and whole validation cases from the store.

    Args:
        train_cases: Cases to draw patches from.
        val_cases: Cases that are predicted and scored completely.
        open: Opens and checks one case.
        reading: Settings that decide the result of ``open``, in addition to the files; JSON-able.
        spec: Channels and labels.
        preprocess: Preprocessing of the plan.
        store: Folder of the patch store.
        patch: Cells of a training patch on each axis.
        batch_size: Samples of a batch, per device.
        transform: Augmentation of a batch of windows into a batch of patches, on the device;
            has ``window_shape``.
        sampling: How patches are drawn.
        steps_per_epoch: Optimiser steps of one epoch.
        workers: Loader processes; with 0 windows are read between steps.
        seed: Random seed of the training.
        in_store: Store prepared cells, to be read while training; if not, windows come from the files.
        engine: Prepares cases; None does it in this process.
        streams: Further parts of the training, by name. With any, a training batch is a mapping of the name of each
            stream to its batch; what the other arguments describe is the stream ``main``.

    Raises:
        InputError: ``in_store`` is off, and the preprocessing needs whole cases; or a stream that gives no sample.
    """

    def __init__(
        self,
        *,
        train_cases: Sequence[Case],
        val_cases: Sequence[Case],
        open: Callable[[Case], CaseReader],
        reading: Mapping[str, Any],
        spec: DataSpec,
        preprocess: Preprocess,
        store: Path,
        patch: Sequence[int],
        batch_size: int,
        transform: Any,
        sampling: Sampling,
        steps_per_epoch: int = 100,
        workers: int = 0,
        seed: int = 0,
        in_store: bool = True,
        engine: Engine | None = None,
        streams: Mapping[str, Stream] | None = None,
    ) -> None:
        super().__init__()
        if not in_store and (preprocess.spacing is not None or preprocess.per_image):
            raise InputError(
                "loader.store=false reads windows from the files, but the plan resamples cases, or normalises each by "
                "statistics of its own; set loader.store=true, or plan.normalisation to standard for each channel"
            )
        self.in_store = in_store
        self.streams = dict(streams or {})
        self.cases = {"train": tuple(train_cases), "val": tuple(val_cases)}
        self.cases |= {_part(name): stream.cases for name, stream in self.streams.items()}
        self.samples = {name: samples_at(stream.rate, batch_size, name) for name, stream in self.streams.items()}
        self.open = open
        self.reading = dict(reading)
        self.spec = spec
        self.preprocess = preprocess
        self.store = store
        self.patch = tuple(patch)
        self.batch_size = batch_size
        self.transform = transform
        self.sampling = sampling
        self.steps_per_epoch = steps_per_epoch
        self.workers = workers
        self.seed = seed
        self.engine = engine or LocalEngine()
        self.stored: dict[str, list[StoredCase | StreamedCase]] = {}

    def prepare_data(self) -> None:
        """Preprocess every case that the store does not hold yet."""
        self._prepare([*self.cases["train"], *self.cases["val"]], self.open, self.reading)
        for stream in self.streams.values():
            self._prepare(stream.cases, stream.open, stream.reading)

    def setup(self, stage: str | None = None) -> None:
        """Find the prepared cases in the store."""
        digests = Digests(self.store / "digests.json")
        sources = {_part(name): stream for name, stream in self.streams.items()}
        self.stored = {
            part: [self._found(case, digests, sources.get(part)) for case in cases]
            for part, cases in self.cases.items()
        }

    def _found(self, case: Case, digests: Digests, stream: Stream | None) -> StoredCase | StreamedCase:
        """A prepared case of the main dataset, or of that of a stream."""
        reading, open_case = (self.reading, self.open) if stream is None else (stream.reading, stream.open)
        stored = StoredCase(self._folder(case, digests, reading), case.facts, case.observers if case.votes else None)
        return stored if self.in_store else StreamedCase(stored, open_case(case), self.preprocess)

    def _settings(self, case: Case, reading: Mapping[str, Any]) -> dict[str, object]:
        return {
            "preprocess": self.preprocess.to_dict(),
            "spec": self.spec.of_cells.to_dict(),
            "reading": dict(reading),
            "chunks": list(self.patch),
            "group": case.group,
            "labelled": case.label is not None,
            "box": None if case.box is None else [case.box.start, case.box.stop],
            "masked": case.valid is not None,
            "cells": self.in_store,
            **({"image_groups": list(case.image_groups)} if case.image_groups else {}),
            **({} if case.annotated is None else {"annotated": sorted(case.annotated)}),
            **({"part": case.part} if case.part else {}),
            **({"absent": list(case.absent)} if case.absent else {}),
            **({"per_date": list(case.per_date)} if case.per_date else {}),
            **({"votes": len(case.votes)} if case.votes else {}),
        }

    def _folder(self, case: Case, digests: Digests, reading: Mapping[str, Any]) -> Path:
        files = [*case.files, *([case.first_stage] if case.first_stage else [])]
        key = content_key(files, self._settings(case, reading), memory=digests.memory)
        return self.store / f"{case.id}-{key[:16]}"

    def _is_prepared(self, folder: Path) -> bool:
        """Whether the store holds a case; one that is damaged is removed, with a warning, to be prepared again."""
        if not folder.is_dir():
            return False
        try:
            StoredCase(folder).check(arrays=self.in_store)
        except DamagedEntry as damaged:
            reason = str(damaged).partition("; delete")[0]
            _LOG.warning("%s; it is prepared again", reason)
            shutil.rmtree(folder)
            return False
        return True

    def _prepare(
        self, cases: Iterable[Case], open_case: Callable[[Case], CaseReader], reading: Mapping[str, Any]
    ) -> None:
        digests = Digests(self.store / "digests.json")
        remove_dead_folders(self.store, DRAFT)
        problems, absent = Problems(), []
        for case in cases:
            with problems.of(case.id), disk.readable():
                folder = self._folder(case, digests, reading)
                absent += [] if self._is_prepared(folder) else [(case, folder)]
        digests.save()
        total = len(absent) + len(problems.found)

        targets = tuple(self.spec.labels.targets)
        prepare = PrepareCase(open_case, self.preprocess, targets, self.patch, self.in_store)
        notes: list[str] = []
        with self.engine, closing(self._results(prepare, absent)) as results:
            for (case, _), outcome in track(results, "preparing cases", total=len(absent)) if absent else ():
                if isinstance(outcome, Failure):
                    problems.found[case.id] = outcome.reason
                else:
                    notes += outcome
        problems.check(total)
        for note in notes[:_TOLD]:
            _LOG.info("%s", note)
        if len(notes) > _TOLD:
            _LOG.info("%d more files like these", len(notes) - _TOLD)

    def _results(self, prepare: PrepareCase, work: Sequence[_Work]) -> _Results:
        """What is found of each case, by the engine; in this process by threads, as most of the work holds no lock."""
        if not self.engine.in_process:
            yield from self.engine.map(prepare, work)
            return
        with ThreadPoolExecutor(max_workers=max(1, cores() // 2)) as pool:
            try:
                yield from zip(work, pool.map(partial(attempt, prepare), work), strict=True)
            except BaseException:  # a signal, too: what has not begun is not waited for
                pool.shutdown(cancel_futures=True)
                raise

    def train_dataloader(self) -> DataLoader[Any] | CombinedLoader:
        """Batches of one epoch, another for each epoch of the trainer; with streams one of each, by its name."""
        collate: Callable[..., Batch] = collate_windows
        if not self.streams:
            return self._loader("train", self.batch_size, self.seed, self.sampling, self.transform, collate)
        collate = partial(collate_windows, stream=MAIN, labelled=self.sampling.labelled)
        loaders = {MAIN: self._loader("train", self.batch_size, self.seed, self.sampling, self.transform, collate)}
        for name, stream in self.streams.items():
            collate = partial(collate_windows, stream=name, labelled=stream.labelled)
            own = (self.samples[name], stream_seed(self.seed, name), stream.sampling, stream.transform, collate)
            loaders[name] = self._loader(_part(name), *own)
        return CombinedLoader(loaders, "min_size")  # they end together, also where a training resumes within an epoch

    def _loader(
        self,
        part: str,
        batch_size: int,
        seed: int,
        sampling: Sampling,
        transform: Any,
        collate: Callable[[Sequence[Window]], Batch],
    ) -> DataLoader[Any]:
        """Batches of one stream."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        parts = trainer.accumulate_grad_batches if trainer else 1
        dataset = PatchDataset(
            self.stored[part],
            patch=self.patch,
            window=transform.window_shape,
            batch_size=batch_size * world * parts,
            seed=seed,
            sampling=sampling,
            n_classes=self.spec.labels.n_classes,
        )
        sampler = StepSampler(
            self.steps_per_epoch,
            batch_size,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            done=lambda: trainer.fit_loop.epoch_loop.batch_progress.current.processed if trainer else 0,  # type: ignore[attr-defined]
            rank=rank,
            world=world,
            parts=parts,
        )
        return StepLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            **processes(self.workers),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole cases, one a batch; large scenes in tiles."""
        if not self.stored["val"]:
            raise InputError("got no validation case; set split.fold to 0..n_folds-1, or give split.file")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        own = self.stored["val"][rank::world] or self.stored["val"][:1]  # none may be without, as all end together
        mine = CaseDataset(own, largest=LARGEST // max(1, self.spec.dates))
        return DataLoader(mine, batch_size=1, collate_fn=collate_case, num_workers=0)

    def on_after_batch_transfer(
        self, batch: Batch | Mapping[str, Batch], dataloader_idx: int
    ) -> Batch | Mapping[str, Batch]:
        """Augment training windows into patches, on the device, the whole batch of a stream at once."""
        if not (self.trainer and self.trainer.training):
            return batch
        if isinstance(batch, Batch):
            return self.transform(batch)
        transforms = {MAIN: self.transform} | {name: stream.transform for name, stream in self.streams.items()}
        return {name: transforms[name](windows) for name, windows in batch.items()}


def _part(stream: str) -> str:
    """Key of the cases of a stream among the parts of the data."""
    return f"streams.{stream}"
