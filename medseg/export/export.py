"""Writes a predictor as a folder or an archive that runs without this package."""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from medseg.errors import InputError
from medseg.export.layout import Layout
from medseg.export.publish import check_access, upload
from medseg.runtime.atomic import atomic_file, atomic_folder
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

if TYPE_CHECKING:
    from medseg.export.parity import CaseParity

_LOG = logging.getLogger(__name__)
_DRAFT = ".medseg-export-"


@quiet_libraries()
def export(cfg: DictConfig) -> Path:
    """Export the predictor of ``cfg.checkpoint`` into ``cfg.output``, a folder or a ``.zip`` file.

    Returns:
        The folder or the archive.

    Raises:
        InputError: The checkpoint or the output is not what it should be, the network can't be expressed, or what was
            exported does not predict the same; nothing is written then. Or the upload failed, of what is written.
    """
    target = Path(cfg.output)
    archive = bool(cfg.archive) or target.suffix == ".zip"
    target = target.with_suffix(".zip") if archive else target
    _check_target(target)
    layout = Layout.of(cfg.format)
    from medseg.export.networks import check_installed

    if layout.onnx:
        check_installed()
    if cfg.hub is not None:
        check_access(cfg.hub)
    from medseg.export.contents import read, write

    sources = read(cfg)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _draft(target, archive=archive) as folder:
        parity = write(folder, sources, layout, cfg)
        uploaded = None if cfg.hub is None else Upload.of(folder, cfg.hub, private=cfg.hub_private)
    _print_end(target, parity, archive=archive)
    if uploaded is not None:
        _print_upload(uploaded, target, cfg.hub)
    return target


@dataclass(frozen=True)
class Upload:
    """What became of an upload.

    Attributes:
        url: Of the repository; empty if it failed.
        failure: Why it failed.
    """

    url: str = ""
    failure: InputError | None = None

    @classmethod
    def of(cls, folder: Path, repository: str, *, private: bool) -> Upload:
        """Upload a folder; an export takes long, and is kept where this fails."""
        try:
            return cls(upload(folder, repository, private=private))
        except InputError as error:
            return cls(failure=error)


def _print_upload(done: Upload, target: Path, repository: str) -> None:
    """Say where it is.

    Raises:
        InputError: The upload failed.
    """
    if done.failure is not None:
        raise InputError(
            f"{done.failure}; the export is written: upload it by medseg-export checkpoint={target} output=DIR "
            f"hub={repository}"
        ) from done.failure
    show(_LOG, f"Uploaded to {done.url}. Use: medseg-predict checkpoint=hf-hub:{repository} input=DIR output=DIR")


def _check_target(target: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        InputError: It does.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"output={target}: is there already; remove it, or choose another place")


@contextmanager
def _draft(target: Path, *, archive: bool) -> Iterator[Path]:
    """A folder to write into, which becomes ``target``, or whose files become the archive, when the block ends."""
    if not archive:
        with atomic_folder(target, _DRAFT) as folder:
            yield folder
            folder.chmod(0o755)  # a draft is for its owner alone
        return
    with tempfile.TemporaryDirectory(prefix=_DRAFT, dir=target.parent) as name:
        folder = Path(name)
        yield folder
        with atomic_file(target) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                packed.write(path, Path(target.stem) / path.relative_to(folder))


def _print_end(target: Path, parity: Sequence[CaseParity], *, archive: bool) -> None:
    worst = max(one.largest_difference for one in parity)
    differ, cells = sum(one.cells_that_differ for one in parity), sum(one.cells for one in parity)
    ours, own = sum(one.seconds_medseg for one in parity), sum(one.seconds_runner for one in parity)
    show(
        _LOG,
        f"Exported to {target}. Parity on {len(parity)} image{'s' * (len(parity) > 1)}: probabilities differ by up to "
        f"{worst:.2g}, the class in {differ} of {cells} cells; {ours:.1f} s in medseg, {own:.1f} s in the runner",
    )
    show(
        _LOG,
        f"Next: {f'unpack it, and python {target.stem}' if archive else f'python {target}'}/runner.py INPUT OUTPUT",
    )
