"""The predictor of a command, in the process of the command and in those of its workers."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.engine.engine import Engine, Failure
from medseg.engine.once import once
from medseg.errors import InputError
from medseg.prediction import restore
from medseg.prediction.case_facts import table_settings
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.record import Origin
from medseg.runtime.cpu import keep_large_blocks
from medseg.runtime.device import device_of


@dataclass(frozen=True)
class Maker:
    """What makes label files: the same checkpoints, predicting in the same way, make the same files.

    Attributes:
        digest: Of the checkpoint; of several, of their digests.
        tilings: How each member predicts, its precision included; JSON-able.
    """

    digest: str
    tilings: list[dict[str, Any]]

    @classmethod
    def of(cls, predictor: FilePredictor) -> Maker:
        """That of a predictor."""
        tilings = [
            {"window": t.window, "overlap": t.overlap, "flip_axes": t.flip_axes, "precision": t.precision}
            for t in (member.tiling for member in predictor.arrays.members)
        ]
        return cls(predictor.digest, json.loads(json.dumps(tilings, default=str)))


def load(cfg: DictConfig, engine: Engine) -> tuple[FilePredictor, Maker, Callable[[], FilePredictor]]:
    """The predictor of this process, what makes the files, and what gives the predictor of a worker.

    Workers on other machines may have other devices, and so another precision: the first one says what makes the files.

    Raises:
        InputError: Such a worker can't read the checkpoint, or reads another one.
    """
    if engine.in_process:
        predictor = _predictor(cfg)
        return predictor, Maker.of(predictor), lambda: predictor
    own = cfg.copy()
    own.device = "cpu" if engine.elsewhere else cfg.device
    predictor = _predictor(own)
    maker = Maker.of(predictor)
    if engine.elsewhere:
        ((_, reply),) = engine.map(_maker_here, [cfg])
        maker = _of_worker(reply, cfg, maker)
    return predictor, maker, WorkerPredictor(cfg, maker)


@dataclass(frozen=True)
class WorkerPredictor:
    """Gives the predictor of a worker, which reads the checkpoint with its first case.

    Attributes:
        cfg: The configuration of the command.
        maker: What makes the files of all workers.
    """

    cfg: DictConfig
    maker: Maker

    def __call__(self) -> FilePredictor:
        """The predictor, the same one for each case.

        Raises:
            InputError: The checkpoint is another one here, or this device has another precision.
        """
        return once(f"{self.maker} {OmegaConf.to_yaml(self.cfg)}", self._read)

    def _read(self) -> FilePredictor:
        predictor = _predictor(self.cfg)
        if Maker.of(predictor) != self.maker:
            raise InputError(
                f"checkpoint={self.cfg.checkpoint}: the worker on {platform.node()} reads another checkpoint, or "
                "predicts with another precision, than the first one; use workers of one kind that share a file system"
            )
        return predictor


def _maker_here(cfg: DictConfig) -> Maker:
    """What makes the files of this machine."""
    return Maker.of(_predictor(cfg))


def _of_worker(reply: Maker | Failure, cfg: DictConfig, own: Maker) -> Maker:
    """What makes the files of the workers, if these read the checkpoint that this process reads."""
    if isinstance(reply, Failure):
        raise InputError(f"{reply.reason} (in a worker; it needs the same files under the same paths as this machine)")
    if reply.digest != own.digest:
        raise InputError(
            f"checkpoint={cfg.checkpoint}: the workers read another file under this path; share a file system"
        )
    return reply


def _predictor(cfg: DictConfig) -> FilePredictor:
    """The predictor of ``cfg.checkpoint`` with the settings of the command."""
    if device_of(cfg.device) == "cpu":
        keep_large_blocks()
    given = {key: value for key, value in cfg.data.items() if value is not None and key != "series"}
    predictor = restore.predictor(
        _named(cfg.checkpoint),
        device=cfg.device,
        flips=cfg.flips,
        overlap=cfg.overlap,
        data=given,
        probabilities=cfg.probabilities,
        uncertainty=cfg.uncertainty,
        mosaic=bool(cfg.mosaic),
        trust=cfg.trust,
        series=None if cfg.data.series is None else str(cfg.data.series),
    )
    predictor.labels = predictor.labels.with_codes(_plain(cfg.codes), "codes")
    return predictor


def origin_of(
    cfg: DictConfig, maker: Maker, predictor: FilePredictor, *, series: object, groups: Sequence[str] = ()
) -> Origin:
    """What decides the labels besides the images.

    Args:
        cfg: Configuration of the command.
        maker: What makes the label files.
        predictor: That of this process.
        series: Chosen among those in each folder that is an image.
        groups: Image groups that the input names; those that are absent in every case decide labels.
    """
    some = groups and set(groups) != set(predictor.layout.reading.image_groups)
    tilings = maker.tilings
    settings = {
        **(tilings[0] if len(tilings) == 1 else {"members": tilings}),
        "data": predictor.layout.reading.to_dict(),
        "mosaic": cfg.mosaic,
        "series": series,
        **({"image_groups": sorted(groups)} if some else {}),
        **({} if cfg.codes is None else {"codes": _plain(cfg.codes)}),
        **table_settings(cfg),
    }
    named = _named(cfg.checkpoint)
    file = named if isinstance(named, str) else ", ".join(named)
    return Origin(maker.digest, file, json.loads(json.dumps(settings, default=str)))


def _plain(value: Any) -> Any:
    """A value of the configuration as plain Python."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _named(given: Any) -> str | list[str]:
    return given if isinstance(given, str) else [str(path) for path in given]
