"""How the trainer writes and reads checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from medseg import checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes next to the target and renames, so that a kill leaves the old checkpoint or the new one."""

    def save_checkpoint(self, held: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save tensors and plain values, with checksums; anything else would not load again."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(held, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load under ``weights_only=True``, whatever was asked.

        Raises:
            InputError: It has changed since it was written.
        """
        return checkpoint.load(path, map_location)
