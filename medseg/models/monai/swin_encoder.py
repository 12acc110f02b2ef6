"""SwinViT: the Swin transformer that SwinUNETR encodes with, from MONAI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.hub
from jaxtyping import Float
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained

_STAGES = 4
_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/model_swinvit.pt"
_CT = (Channel("CT", unit="HU"),)
_HU = "HU from -1000 to 1000 mapped to 0 to 1, cut off there; cells of 1.5 x 1.5 x 2 mm"
"""As MONAI's pretraining script has it, for some 5,000 scans of chest, colon, head and neck."""
_RENAMED = ((".mlp.fc1.", ".mlp.linear1."), (".mlp.fc2.", ".mlp.linear2."))
_NESTED = re.compile(r"(layers[1-4]\.0)\.0\.(blocks|downsample)\.")


class SwinViT(Encoder):
    """Windowed self-attention over patches of 2 cells, merged four times; volumes and images.

    Five features of strides 2, 4, 8, 16 and 32 on every axis (MONAI's merging knows no other), of f, 2f, 4f, 8f
    and 16f channels with f = ``feature_size``; each normalised over its channels without parameters, as SwinUNETR
    does. Shapes are free in multiples of 32.

    Weights that load by themselves, whatever precedes their names: whole SwinUNETRs and the ``swinViT`` of one;
    MONAI's self-supervised ``model_swinvit.pt`` (``mlp.fc1``); those of Disruptive Autoencoders
    (``ssl_pretrained_weights.pth``, ``layers1.0.0.blocks``). The two files are for one channel,
    feature_size=48, window_size=7.

    Args:
        spec: Data and plan; kernels and strides are not used.
        feature_size: Channels of the first feature; each head gets an equal share of its stage's.
        depths: Transformer blocks of the four stages.
        num_heads: Attention heads of the four stages.
        window_size: Edge of the attention windows, in tokens.
        use_v2: A residual convolution before each stage (SwinUNETR-V2).
        drop_path_rate: Stochastic depth in training.
        use_checkpoint: Recompute activations in the backward pass: less memory, more time.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` is ``model_swinvit.pt``, downloaded.

    Raises:
        InputError: Settings that do not fit each other.

    References:
        Hatamizadeh et al., Swin UNETR, 2022; Tang et al., Self-Supervised Pre-Training of Swin Transformers for
        3D Medical Image Analysis, 2022; Valanarasu et al., Disruptive Autoencoders, 2023; He et al.,
        SwinUNETR-V2, 2023.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        use_v2: bool = False,
        drop_path_rate: float = 0.0,
        use_checkpoint: bool = False,
        **loading: Any,
    ) -> None:
        if len(depths) != _STAGES or len(num_heads) != _STAGES:
            raise InputError(f"SwinViT: expected four depths and num_heads, got {list(depths)} and {list(num_heads)}")
        if any(feature_size * 2**i % heads for i, heads in enumerate(num_heads)):
            raise InputError(
                f"SwinViT: feature_size={feature_size}, doubled from stage to stage, must be a multiple of "
                f"num_heads={list(num_heads)} of each"
            )
        strides = [(2 ** (i + 1),) * spec.ndim for i in range(_STAGES + 1)]
        features = [Feature(feature_size * 2**i, stride) for i, stride in enumerate(strides)]
        super().__init__(spec, features, strides[-1], **loading)
        self.net = SwinTransformer(
            in_chans=spec.in_channels,
            embed_dim=feature_size,
            window_size=(window_size,) * spec.ndim,
            patch_size=(2,) * spec.ndim,
            depths=depths,
            num_heads=num_heads,
            drop_path_rate=drop_path_rate,
            use_v2=use_v2,
            use_checkpoint=use_checkpoint,
            spatial_dims=spec.ndim,
        )

    @property
    def trunk(self) -> nn.Module:
        """MONAI's ``SwinTransformer``."""
        return self.net

    @property
    def stem(self) -> str:
        """The embedding of the patches."""
        return "patch_embed.proj.weight"

    def fetch(self, source: str) -> Pretrained:
        """Weights by the words of ``model.encoder.weights``; ``pretrained`` are MONAI's self-supervised ones.

        Raises:
            InputError: See ``Encoder.fetch``; they can't be downloaded.
        """
        if source != "pretrained":
            return super().fetch(source)
        return replace(super().fetch(str(_cached())), source=_URL, channels=_CT, normalisation=_HU)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under the names of ``SwinTransformer``; names without a like stay."""
        renamed = {}
        for name, tensor in state.items():
            for old, new in _RENAMED:
                name = name.replace(old, new)
            renamed[_NESTED.sub(r"\1.\2.", name)] = tensor
        return renamed

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        features: list[Tensor] = self.net(image)
        return features


def _cached() -> Path:
    """The file at ``_URL``, in torch's cache; downloaded if it is not there yet.

    Raises:
        InputError: It is not, and can't be.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(_URL).name)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(_URL, str(path), progress=False)
    except OSError as error:  # URLError is one
        raise InputError(
            f"model.encoder.weights=pretrained: {_URL} can't be downloaded ({type(error).__name__}); fetch it where "
            f"there is a network, and give it by model.encoder.weights=FILE"
        ) from error
    return path
