"""Checkpoints and plans in nnU-Net's format and names, and a forward pass by these names, without nnU-Net."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FOLDER = "nnUNetTrainer__nnUNetPlans__3d_fullres"
_DATASET = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "anterior": 1, "posterior": 2}}


@dataclass(frozen=True)
class Shape:
    """A U-Net of nnU-Net, in its own order of axes: slices, rows, columns."""

    residual: bool = False
    features: tuple[int, ...] = (4, 8, 8)
    kernels: tuple[tuple[int, ...], ...] = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    strides: tuple[tuple[int, ...], ...] = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    encoder_blocks: tuple[int, ...] = (2, 2, 2)
    decoder_blocks: tuple[int, ...] = (2, 2)
    channels: int = 1
    classes: int = 3

    @property
    def ndim(self) -> int:
        return len(self.kernels[0])


PLAIN = Shape()
RESIDUAL = Shape(residual=True, encoder_blocks=(1, 3, 4), decoder_blocks=(1, 1))
SLICES = Shape(kernels=((3, 3),) * 3, strides=((1, 1), (2, 2), (2, 2)))


def state_of(shape: Shape, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under nnU-Net's names, with the second names that it lists for the same tensors."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator) * 0.3

    def block(name: str, before: int, after: int, kernel: Sequence[int], *, bias: bool = True) -> None:
        tensors = {
            "conv.weight": draw(after, before, *kernel),
            "norm.weight": 1 + draw(after),
            "norm.bias": draw(after),
        }
        tensors |= {"conv.bias": draw(after)} if bias else {}
        state.update({f"{name}.{key}": tensor for key, tensor in tensors.items()})
        numbers = {"conv": "0", "norm": "1"}
        for key, tensor in tensors.items():
            layer, _, leaf = key.partition(".")
            state[f"{name}.all_modules.{numbers[layer]}.{leaf}"] = tensor

    before = shape.channels
    if shape.residual:
        block("encoder.stem.convs.0", before, shape.features[0], shape.kernels[0])
        before = shape.features[0]
    for i, (after, kernel, n) in enumerate(zip(shape.features, shape.kernels, shape.encoder_blocks, strict=True)):
        for j in range(n):
            if not shape.residual:
                block(f"encoder.stages.{i}.0.convs.{j}", before, after, kernel)
            else:
                name = f"encoder.stages.{i}.blocks.{j}"
                block(f"{name}.conv1", before, after, kernel)
                block(f"{name}.conv2", after, after, kernel)
                if before != after:
                    number = int(max(shape.strides[i]) > 1)
                    block(f"{name}.skip.{number}", before, after, (1,) * shape.ndim, bias=False)
            before = after
    state |= {f"decoder.{name}": tensor for name, tensor in state.items()}
    for s, n in enumerate(shape.decoder_blocks):
        i = len(shape.features) - 2 - s
        below, after = shape.features[i + 1], shape.features[i]
        for j in range(n):
            block(f"decoder.stages.{s}.convs.{j}", 2 * after if j == 0 else after, after, shape.kernels[i])
        state[f"decoder.transpconvs.{s}.weight"] = draw(below, after, *shape.strides[i + 1])
        state[f"decoder.transpconvs.{s}.bias"] = draw(after)
        state[f"decoder.seg_layers.{s}.weight"] = draw(shape.classes, after, *(1,) * shape.ndim)
        state[f"decoder.seg_layers.{s}.bias"] = draw(shape.classes)
    return state


def forward(state: Mapping[str, Tensor], shape: Shape, image: Tensor) -> Tensor:
    """Logits of nnU-Net's network, computed from its tensors by name."""
    conv, up, pool = {
        2: (F.conv2d, F.conv_transpose2d, F.avg_pool2d),
        3: (F.conv3d, F.conv_transpose3d, F.avg_pool3d),
    }[shape.ndim]

    def block(name: str, feature: Tensor, stride: Sequence[int] | int = 1, *, linear: bool = False) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        padding = [k // 2 for k in weight.shape[2:]]
        feature = conv(feature, weight, state.get(f"{name}.conv.bias"), stride, padding)
        feature = F.instance_norm(feature, weight=state[f"{name}.norm.weight"], bias=state[f"{name}.norm.bias"])
        return feature if linear else F.leaky_relu(feature, 0.01)

    def residual(name: str, feature: Tensor, stride: Sequence[int]) -> Tensor:
        inner = block(f"{name}.conv2", block(f"{name}.conv1", feature, stride), linear=True)
        skip = pool(feature, stride, stride) if max(stride) > 1 else feature
        number = int(max(stride) > 1)
        if f"{name}.skip.{number}.conv.weight" in state:
            skip = block(f"{name}.skip.{number}", skip, linear=True)
        return F.leaky_relu(inner + skip, 0.01)

    feature, skips = block("encoder.stem.convs.0", image) if shape.residual else image, []
    for i, stride in enumerate(shape.strides):
        for j in range(shape.encoder_blocks[i]):
            own = stride if j == 0 else (1,) * shape.ndim
            name = f"encoder.stages.{i}"
            if shape.residual:
                feature = residual(f"{name}.blocks.{j}", feature, own)
            else:
                feature = block(f"{name}.0.convs.{j}", feature, own)
        skips.append(feature)
    for s, skip in enumerate(reversed(skips[:-1])):
        stride = shape.strides[len(skips) - 1 - s]
        feature = up(feature, state[f"decoder.transpconvs.{s}.weight"], state[f"decoder.transpconvs.{s}.bias"], stride)
        feature = torch.cat([feature, skip], dim=1)
        for j in range(shape.decoder_blocks[s]):
            feature = block(f"decoder.stages.{s}.convs.{j}", feature)
    last = f"decoder.seg_layers.{len(skips) - 2}"
    return conv(feature, state[f"{last}.weight"], state[f"{last}.bias"])


def plans_of(shape: Shape, **changes: Any) -> dict[str, Any]:
    """plans.json of version 2.8, with one configuration of this shape and one that inherits from it."""
    settings = {
        "n_stages": len(shape.features), "features_per_stage": list(shape.features),
        "conv_op": f"torch.nn.modules.conv.Conv{shape.ndim}d", "kernel_sizes": [list(k) for k in shape.kernels],
        "strides": [list(s) for s in shape.strides], "n_conv_per_stage_decoder": list(shape.decoder_blocks),
        "n_blocks_per_stage" if shape.residual else "n_conv_per_stage": list(shape.encoder_blocks), "conv_bias": True,
    }  # fmt: skip
    network = "ResidualEncoderUNet" if shape.residual else "PlainConvUNet"
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "batch_size": 2, "patch_size": [8, 16, 20][-shape.ndim :],
        "spacing": [2.5, 1.0, 0.5][-shape.ndim :], "normalization_schemes": ["ZScoreNormalization"] * shape.channels,
        "use_mask_for_norm": [False] * shape.channels,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": settings, "_kw_requires_import": ["conv_op"],
        },
    }  # fmt: skip
    names = {2: "2d", 3: "3d_fullres"}
    cascade = {"inherits_from": names[shape.ndim], "previous_stage": "3d_lowres"}
    return {
        "dataset_name": "Dataset004_Hippocampus", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "original_median_spacing_after_transp": [2.5, 1.0, 0.5], "image_reader_writer": "SimpleITKIO",
        "configurations": {names[shape.ndim]: configuration | changes, "3d_cascade_fullres": cascade},
        "foreground_intensity_properties_per_channel": {
            "0": {"max": 900.0, "mean": 100.0, "median": 90.0, "min": -9.0, "percentile_00_5": 20.0,
                  "percentile_99_5": 300.0, "std": 40.0},
        },
    }  # fmt: skip


def checkpoint_of(shape: Shape, plans: Mapping[str, Any] | None = None, *, seed: int = 0) -> dict[str, Any]:
    """What ``nnUNetTrainer.save_checkpoint`` writes."""
    state, configuration = state_of(shape, seed), {2: "2d", 3: "3d_fullres"}[shape.ndim]
    declared = _DATASET | {"channel_names": {str(i): f"MR{i or ''}" for i in range(shape.channels)}}
    return {
        "network_weights": state,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float32(0.5), np.float64(0.6)], "epoch_start_timestamps": [1.5]},
        "_best_ema": np.float64(0.6),
        "current_epoch": 1000,
        "init_args": {
            "plans": dict(plans or plans_of(shape)), "configuration": configuration, "fold": 0,
            "dataset_json": declared, "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }  # fmt: skip


def write_model(root: Path, shape: Shape, *, seed: int = 0, **changes: Any) -> Path:
    """The folder of a trained model: plans.json, dataset.json, fold_0/checkpoint_final.pth."""
    folder = root / FOLDER
    (folder / "fold_0").mkdir(parents=True)
    plans = plans_of(shape, **changes)
    stored = checkpoint_of(shape, plans, seed=seed)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(stored["init_args"]["dataset_json"]))
    torch.save(stored, folder / "fold_0/checkpoint_final.pth")
    torch.save(stored, folder / "fold_0/checkpoint_best.pth")
    return folder
