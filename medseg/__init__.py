"""medseg: train, fine-tune and evaluate segmentation networks on medical volumes and multispectral scenes.

The public names are those of ``__all__``; everything else may move between releases. The verbs take words as the
command line does, or a configuration that ``compose`` made::

    run_dir = medseg.train("experiment=phantom", "trainer.max_steps=100")
    predictor = medseg.load(run_dir / "checkpoints/best.ckpt")
    label = predictor(image, grid)

The verbs print what the commands print. All messages go through ``logging.getLogger("medseg")``: an application that
has set up logging gets them there instead, and may filter them.

Importing medseg imports neither torch nor any other large library: names are found when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from medseg._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from omegaconf import DictConfig

    from medseg.data.case import Case
    from medseg.data.dataset import Dataset
    from medseg.doctor.finding import Finding
    from medseg.errors import InputError
    from medseg.factory.run import Run, assemble
    from medseg.geometry.grid import Grid
    from medseg.inference.predictor import Predictor
    from medseg.labels import IGNORE, LabelTable
    from medseg.methods.method import Method
    from medseg.metrics.metric import CaseMetric, ClassMetric, CountMetric, Metric
    from medseg.metrics.policy import EmptyPolicy
    from medseg.models.decoders.decoder import Decoder
    from medseg.models.encoders.encoder import Encoder
    from medseg.models.network import Network
    from medseg.planning.plan import Plan
    from medseg.prediction.file_predictor import FilePredictor
    from medseg.sample import Batch, Channel, DataSpec, Sample

__all__ = [
    "IGNORE",
    "Batch",
    "Case",
    "CaseMetric",
    "Channel",
    "ClassMetric",
    "CountMetric",
    "DataSpec",
    "Dataset",
    "Decoder",
    "EmptyPolicy",
    "Encoder",
    "FilePredictor",
    "Grid",
    "InputError",
    "LabelTable",
    "Method",
    "Metric",
    "Network",
    "Plan",
    "Predictor",
    "Run",
    "Sample",
    "__version__",
    "assemble",
    "check",
    "compose",
    "evaluate",
    "load",
    "plan",
    "predict",
    "select",
    "train",
]

T = TypeVar("T")
_PLACES = {
    "IGNORE": "medseg.labels",
    "Batch": "medseg.sample",
    "Case": "medseg.data.case",
    "CaseMetric": "medseg.metrics.metric",
    "Channel": "medseg.sample",
    "ClassMetric": "medseg.metrics.metric",
    "CountMetric": "medseg.metrics.metric",
    "DataSpec": "medseg.sample",
    "Dataset": "medseg.data.dataset",
    "Decoder": "medseg.models.decoders.decoder",
    "EmptyPolicy": "medseg.metrics.policy",
    "Encoder": "medseg.models.encoders.encoder",
    "FilePredictor": "medseg.prediction.file_predictor",
    "Grid": "medseg.geometry.grid",
    "InputError": "medseg.errors",
    "LabelTable": "medseg.labels",
    "Method": "medseg.methods.method",
    "Metric": "medseg.metrics.metric",
    "Network": "medseg.models.network",
    "Plan": "medseg.planning.plan",
    "Predictor": "medseg.inference.predictor",
    "Run": "medseg.factory.run",
    "Sample": "medseg.sample",
    "assemble": "medseg.factory.run",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}; its public names are in medseg.__all__")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__


def compose(command: str, *overrides: str, config_dir: str | Path | None = None) -> DictConfig:
    """The configuration of a command, as its command line would compose it.

    Args:
        command: ``train``, ``predict``, ``evaluate``, ``plan``, ``check`` or ``select``.
        *overrides: As on the command line, such as ``data=nnunet``.
        config_dir: Folder with options of your own (``data/mine.yaml``), as ``--config-dir`` takes it.

    Raises:
        InputError: A key or an option that does not exist, which names the nearest right one; or no such folder.

    Example:
        >>> compose("train", "optimizer=sgd").optimizer.momentum
        0.99
    """
    from medseg.errors import InputError
    from medseg.hydra_app.compose import compose as composed

    if not all(isinstance(word, str) for word in overrides):
        wrong = next(word for word in overrides if not isinstance(word, str))
        raise InputError(
            f"compose: got {str(wrong)[:80]}, expected words such as 'data=nnunet'; write *words to give a list"
        )
    return composed(command, list(overrides), config_dir=config_dir)


def train(*config: DictConfig | str, config_dir: str | Path | None = None) -> Path:
    """Train, as ``medseg-train`` does: plan if needed, preprocess, train, score the best checkpoint.

    Args:
        *config: Words as on the command line (none: the configuration's defaults), or what ``compose("train", ...)``
            gave.
        config_dir: Folder with options of your own.

    Returns:
        The run folder, with ``checkpoints/best.ckpt``, ``metrics.json`` and ``report.html``.

    Raises:
        InputError: Anything in the configuration or the data that the user can fix.
    """
    from medseg.training.train import train as run

    return _run(run, "train", config, config_dir)


def predict(*config: DictConfig | str, config_dir: str | Path | None = None) -> list[Path]:
    """Write label files for images, as ``medseg-predict`` does, on the very grid of each.

    Args:
        *config: Words such as ``checkpoint=best.ckpt``, ``input=DIR`` and ``output=DIR``, or what
            ``compose("predict", ...)`` gave.
        config_dir: Folder with options of your own.

    Returns:
        The label files.

    Raises:
        InputError: The checkpoint, the input or one of its images is not what it should be.
    """
    from medseg.prediction.predict import predict as run

    return _run(run, "predict", config, config_dir)


def evaluate(*config: DictConfig | str, config_dir: str | Path | None = None) -> dict[str, Any]:
    """Score label files against reference label files, or a run again, as ``medseg-evaluate`` does.

    Args:
        *config: Words such as ``predictions=DIR``, ``labels=DIR`` and ``output=DIR``, or ``run=RUN_DIR``, or what
            ``compose("evaluate", ...)`` gave.
        config_dir: Folder with options of your own.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: Files without a partner, on other grids, or with values outside the table.
    """
    from medseg.cli.evaluate import start as run

    return _run(run, "evaluate", config, config_dir)


def plan(*config: DictConfig | str, config_dir: str | Path | None = None) -> Path:
    """Fingerprint a dataset and write its plan, as ``medseg-plan`` does.

    Args:
        *config: Words such as ``data=nnunet``, ``data.root=DIR`` and ``output=plan.yaml``, or what
            ``compose("plan", ...)`` gave.
        config_dir: Folder with options of your own.

    Returns:
        The plan, an editable file.

    Raises:
        InputError: Anything in the configuration or the data that the user can fix.
    """
    from medseg.cli.plan import write

    return _run(write, "plan", config, config_dir)


def check(*config: DictConfig | str, config_dir: str | Path | None = None) -> list[Finding]:
    """Find what is wrong with a dataset, as ``medseg-check`` does.

    Args:
        *config: Words such as ``data=nnunet`` and ``data.root=DIR``, or what ``compose("check", ...)`` gave.
        config_dir: Folder with options of your own.

    Returns:
        The findings, errors first.

    Raises:
        InputError: Anything in the configuration that the user can fix, or no case at all.
    """
    from medseg.cli.check import check as run

    return _run(run, "check", config, config_dir)


def select(*config: DictConfig | str, config_dir: str | Path | None = None) -> Path:
    """Choose networks, mirrors and post-processing on out-of-fold predictions, as ``medseg-select`` does.

    Args:
        *config: Words such as ``runs=[A,B]`` and ``output=DIR``, or what ``compose("select", ...)`` gave.
        config_dir: Folder with options of your own.

    Returns:
        ``selection.yaml``, which ``checkpoint=`` of a prediction takes.

    Raises:
        InputError: Runs without checkpoints, of other classes, channels or data, or that saw the cases they predict.
    """
    from medseg.selection.select import select as run

    return _run(run, "select", config, config_dir)


def load(
    checkpoint: str | Path | Sequence[str | Path], *, device: str = "auto", trust: Sequence[str] | str = ()
) -> FilePredictor:
    """The predictor that a checkpoint holds, or that several checkpoints are together.

    ``predictor(array, grid)`` gives a label array, ``predictor.file(source, target)`` a label file.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run, the folder of a run or of a sweep, ``selection.yaml``; or
            a list of checkpoints and folders, whose probabilities are averaged.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        trust: Modules of your own, such as ``["my_package"]``, whose classes the checkpoint may name. Without them
            it is built from medseg's own classes alone, so that a file from elsewhere runs no code.

    Raises:
        InputError: Not a checkpoint of medseg, one that is damaged or names other classes, no such device, or
            checkpoints that do not fit together.
    """
    from medseg.runtime.waiting import wait_passively

    wait_passively()
    from medseg.prediction.restore import predictor

    return predictor(checkpoint, device=device, trust=trust)


def _run(verb: Callable[[DictConfig], T], command: str, config: Sequence[DictConfig | str], config_dir: Any) -> T:
    """Run a verb; its messages are printed as the command prints them, unless the host has set up logging."""
    from medseg.runtime.console import messages_unless_configured
    from medseg.runtime.waiting import wait_passively

    wait_passively()
    with messages_unless_configured():
        return verb(_configuration(command, config, config_dir))


def _configuration(command: str, config: Sequence[DictConfig | str], config_dir: str | Path | None) -> DictConfig:
    """One configuration that was composed, or the one that words compose."""
    from omegaconf import DictConfig

    if len(config) == 1 and isinstance(config[0], DictConfig):
        return config[0]
    return compose(command, *config, config_dir=config_dir)  # type: ignore[arg-type]
