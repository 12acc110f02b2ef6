"""Tensors of nnU-Net's U-Nets under the names, and with the axes, of ``models.unet.UNet``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from medseg.errors import InputError
from medseg.weights.nnunet_plans import REVERSED, turned
from medseg.weights.pretrained import Pretrained
from medseg.weights.unet_geometry import UNetGeometry

_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")
_TWICE = re.compile(r"\.all_modules\.|^decoder\.encoder\.")
"""Second names of tensors: each block lists its layers again, and the decoder holds the encoder."""
_RULES = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^encoder\.stem\.convs\.0\.", "stem."),
        (r"^encoder\.stages\.(\d+)\.(?:0\.)?convs\.(\d+)\.", r"encoder.\1.\2."),
        (r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.", r"encoder.\1.\2.first."),
        (r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.", r"encoder.\1.\2.second."),
        (r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.", r"encoder.\1.\2.shortcut."),
        (r"^decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.\2."),
        (r"^decoder\.transpconvs\.(\d+)\.", r"up.\1."),
        (r"^decoder\.seg_layers\.(\d+)\.", r"heads.\1."),
        (r"\.conv\.(?=\w+$)", ".0."),
        (r"\.norm\.(?=\w+$)", ".1."),
    )
]
_OF_NNUNET = re.compile(r"^encoder\.stages\.\d+\.(?:(?:0\.)?convs|blocks)\.\d+\.")
_BIAS = re.compile(r"\.conv\.bias$")


def unet_of(found: Pretrained, own: UNetGeometry, ndim: int, *, heads: int) -> Pretrained:
    """Weights of nnU-Net as a ``UNet`` names them; others as they are.

    Kernels are turned to the axes of medseg. A bias ahead of a normalisation is left out: instance normalisation
    subtracts it again, and that of a batch has it as part of its mean.

    Args:
        found: The weights.
        own: Shape of the network that they are for.
        ndim: Axes of the data.
        heads: Output layers of the network: of each decoder stage, or 1 for the finest.

    Raises:
        InputError: The file is of a U-Net of another shape.
    """
    state = {_WRAPPED.sub("", name): tensor for name, tensor in found.state.items()}
    state = {name: tensor for name, tensor in state.items() if not _TWICE.search(name)}
    if not any(_OF_NNUNET.match(name) for name in state):
        return found
    state = _without_biases(state)
    order = found.order or REVERSED
    theirs = _geometry(state, order, ndim, found.source)
    if differences := theirs.differences(own):
        raise _refused(found.source, theirs, differences, ndim)
    renamed = {_renamed(name): _as_turned(tensor, order, ndim) for name, tensor in state.items()}
    return replace(found, state=_with_heads(renamed, len(theirs.decoder_blocks), heads))


def _with_heads(state: dict[str, Tensor], decoders: int, heads: int) -> dict[str, Tensor]:
    """With the finest output alone, as the first, where the network has no others."""
    if heads >= decoders:
        return state
    last = f"heads.{decoders - 1}."
    held = {name: tensor for name, tensor in state.items() if name.startswith(last) or not name.startswith("heads.")}
    return {name.replace(last, "heads.0."): tensor for name, tensor in held.items()}


def _without_biases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without biases ahead of a normalisation, which running means take over."""
    biases = {name for name in state if _BIAS.search(name) and _BIAS.sub(".norm.weight", name) in state}
    means = {_BIAS.sub(".norm.running_mean", name): state[name] for name in biases}
    return {
        name: tensor - means[name] if name in means else tensor for name, tensor in state.items() if name not in biases
    }


def _renamed(name: str) -> str:
    """By the rules, of which several apply to a name.

    Example:
        >>> _renamed("encoder.stages.2.blocks.1.skip.1.norm.weight"), _renamed("decoder.stages.0.convs.1.conv.weight")
        ('encoder.2.1.shortcut.1.1.weight', 'decoder.0.1.0.weight')
    """
    for pattern, new in _RULES:
        name = pattern.sub(new, name)
    return name


def _as_turned(tensor: Tensor, order: Sequence[int], ndim: int) -> Tensor:
    """A kernel with the axes of medseg; of slices with one cell along the axis that they leave out."""
    if tensor.ndim not in (4, 5) or ndim == 2:
        return tensor
    return turned_kernel(tensor.unsqueeze(2) if tensor.ndim == 4 else tensor, order)


def turned_kernel(kernel: Tensor, order: Sequence[int]) -> Tensor:
    """``[o, c, *k]`` of volumes with the axes in the order of medseg; see ``NnunetPlans.order``."""
    return kernel.permute(0, 1, *(2 + axis for axis in order)).contiguous()


def _geometry(state: Mapping[str, Tensor], order: Sequence[int], ndim: int, source: str) -> UNetGeometry:
    """The shape of the network that the tensors are of, in the axes of medseg.

    Raises:
        InputError: A network of volumes for images, or tensors that are missing.
    """
    try:
        return _read_geometry(state, order, ndim)
    except InputError as error:
        raise InputError(f"model.encoder.weights={source}: {error}") from error
    except (KeyError, IndexError) as error:
        raise InputError(
            f"model.encoder.weights={source}: names are those of a U-Net of nnU-Net, but {error} is missing; give a "
            "whole checkpoint"
        ) from error


def _read_geometry(state: Mapping[str, Tensor], order: Sequence[int], ndim: int) -> UNetGeometry:
    residual = any(".blocks." in name for name in state)
    block = r"blocks\.(\d+)\.conv1" if residual else r"(?:0\.)?convs\.(\d+)"
    blocks = _counts(state, rf"^encoder\.stages\.(\d+)\.{block}\.conv\.weight$")
    convolutions = _counts(state, r"^decoder\.stages\.(\d+)\.convs\.(\d+)\.conv\.weight$")
    found = [_first(state, rf"^encoder\.stages\.{i}\.{block}\.conv\.weight$") for i in range(len(blocks))]
    ups = [state[f"decoder.transpconvs.{i}.weight"] for i in range(len(convolutions))]
    strides = [(1,) * (found[0].ndim - 2), *(tuple(up.shape[2:]) for up in reversed(ups))] if ups else []
    return UNetGeometry(
        residual,
        tuple(len(kernel) for kernel in found),
        tuple(turned(kernel.shape[2:], order, ndim, 1) for kernel in found),
        tuple(turned(stride, order, ndim, 1) for stride in strides),
        tuple(blocks),
        tuple(convolutions),
    )


def _first(state: Mapping[str, Tensor], pattern: str) -> Tensor:
    return next(tensor for name, tensor in state.items() if re.match(pattern, name))


def _counts(names: Iterable[str], pattern: str) -> list[int]:
    """How many blocks each stage has.

    Example:
        >>> _counts(["a.0.0", "a.0.1", "a.1.0"], r"a[.]([0-9])[.]([0-9])")
        [2, 1]
    """
    stages: dict[int, set[int]] = {}
    for name in names:
        if matched := re.match(pattern, name):
            stages.setdefault(int(matched[1]), set()).add(int(matched[2]))
    return [len(stages[i]) for i in range(len(stages))]


def _refused(source: str, theirs: UNetGeometry, differences: Sequence[tuple[str, str, str]], ndim: int) -> InputError:
    """The error for a U-Net of another shape, with what would give it."""
    parts = "; ".join(f"{name} {file} in the file, {own} here" for name, file, own in differences)
    names, overrides = {name for name, *_ in differences}, theirs.overrides(ndim)
    ways = [f"set {overrides}"] if names - {"kernels", "strides"} else []
    if names & {"kernels", "strides"}:
        ways.append("set plan.file to the folder of the trained model, which holds plans.json")
    way = ", and ".join(ways) if overrides else "no setting of model=unet has such features; give other weights"
    return InputError(f"model.encoder.weights={source}: is nnU-Net's U-Net of another shape: {parts}; {way}")
