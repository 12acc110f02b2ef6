"""Networks: that of a configuration, for data and plan; and a plan whose patch fits it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from medseg.errors import InputError
from medseg.factory.axes import options_for
from medseg.factory.instantiate import instantiate
from medseg.models.axes import WrongAxes
from medseg.models.class_channel import ClassIndicators
from medseg.models.network import ModelSpec, Network
from medseg.models.presence import PresenceIndicators
from medseg.planning.plan import Plan
from medseg.sample import DataSpec


def network(
    model: DictConfig, planned: Plan, spec: DataSpec, temporal: DictConfig | None = None, *, logits: int | None = None
) -> Network:
    """The network of ``cfg.model`` for this plan and data; for time series within that of ``cfg.temporal``.

    Args:
        model: ``cfg.model``.
        planned: Patch, kernels, strides.
        spec: Channels and labels.
        temporal: ``cfg.temporal``.
        logits: Of each cell; None for those of the label table.

    Raises:
        InputError: A setting that there is not, or data with dates without a way to bring them together.
    """
    model_spec = ModelSpec(
        in_channels=len(spec.inputs),
        out_channels=logits or spec.labels.n_outputs,
        patch_shape=planned.patch,
        spacing=planned.spacing,
        kernels=planned.kernels,
        strides=planned.strides,
        channels=spec.inputs,
    )
    if logits is None:
        model_spec = replace(model_spec, facts=spec.facts, case_classes=_case_classes(spec))
    if not spec.dates:
        return _with_indicators(_classifying(_made(model_spec, model), model, model_spec), spec)
    if model_spec.case_classes or model.get("facts"):
        key = "data.case_label" if model_spec.case_classes else "model.facts"
        raise InputError(f"{key}: facts and classes of cases are for single dates, the data are time series; drop it")
    if temporal is None:
        raise InputError("the data are time series; choose temporal=stack, mean, max, concat or attention")
    made: Network = instantiate(temporal)(model_spec, partial(_made, model=model), dates=spec.dates)
    return made


def _case_classes(spec: DataSpec) -> int:
    return 0 if spec.case_label is None else len(spec.case_label.values)


def _classifying(net: Network, model: DictConfig, model_spec: ModelSpec) -> Network:
    """The network, which classifies cases where they have classes.

    Raises:
        InputError: It does not.
    """
    if model_spec.case_classes and not net.classifies:
        raise InputError(
            f"data.case_label: {model._target_.rsplit('.', 1)[-1]} does not classify cases; take model=unet, "
            "residual_unet or encoder_decoder, or leave it out"
        )
    return net


def _with_indicators(net: Network, spec: DataSpec) -> Network:
    """The network; it takes images whose last channel holds class numbers, and adds which channels are present."""
    if classes := spec.channels[-1].classes:
        net.register_forward_pre_hook(ClassIndicators(len(spec.channels), len(classes)))
    if spec.presence:
        count = len(spec.of_files.channels)
        net.register_forward_pre_hook(PresenceIndicators(count, len(spec.inputs) - count))
    return net


def _made(model_spec: ModelSpec, model: DictConfig) -> Network:
    """The network of ``cfg.model`` for images of ``model_spec``; writes the resolved settings there."""
    try:
        built: Network = instantiate(model)(model_spec)
    except WrongAxes as error:
        raise InputError(f"{error}: {error.group}={', '.join(options_for(error.group, error.ndim))}") from error
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise _misnamed(model, str(error)) from error
    with open_dict(model):
        model.merge_with(built.settled)
    return built


def _misnamed(model: DictConfig, told: str) -> InputError:
    """The error for a setting that a part of the network does not take, of which Python told by the part's name."""
    key = told.rpartition("argument ")[2].strip("'")
    part = told.partition("(")[0].removesuffix(".__init__")
    holding = [(at, str(node.get("_target_"))) for at, node in _parts(model, "model") if key in node]
    named = [pair for pair in holding if pair[1].rpartition(".")[2] == part]
    at, target = (named or holding or [("model", str(model._target_))])[0]
    return InputError(
        f"{at}.{key} is no setting of {target}; where an experiment sets it for another network, "
        f"drop it by '~{at}.{key}'"
    )


def _parts(node: DictConfig, at: str) -> Iterator[tuple[str, DictConfig]]:
    """A part of the configuration and the parts within it, each with its key."""
    yield at, node
    for key, value in node.items():
        if OmegaConf.is_dict(value):
            yield from _parts(value, f"{at}.{key!s}")


def follows_plan(model: DictConfig) -> bool:
    """Whether kernels and strides of the plan shape the network of ``cfg.model``; see ``Network.follows_plan``."""
    return bool(getattr(instantiate(model).func, "follows_plan", False))


def fit_patch(model: DictConfig, planned: Plan, spec: DataSpec, temporal: DictConfig | None = None) -> Plan:
    """The plan with its patch rounded up to what the network of ``cfg.model`` takes."""
    with torch.random.fork_rng():
        return _rounded(planned, network(model, planned, spec, temporal), model)


def network_and_plan(
    model: DictConfig,
    planned: Plan,
    spec: DataSpec,
    temporal: DictConfig | None = None,
    *,
    logits: int | None = None,
    seed: int,
) -> tuple[Network, Plan]:
    """What ``network`` gives with random weights of a seed, and the plan as ``fit_patch`` rounds it.

    The network is built a second time only if the patch was rounded: one with a timm encoder takes about
    0.4 s to build (ResNet of timm's tests under a DPT decoder, one core of an Intel Xeon).
    """
    torch.manual_seed(seed)
    net = network(model, planned, spec, temporal, logits=logits)
    fitted = _rounded(planned, net, model)
    if fitted is not planned:
        torch.manual_seed(seed)
        net = network(model, fitted, spec, temporal, logits=logits)
    return net, fitted


def _rounded(planned: Plan, net: Network, model: DictConfig) -> Plan:
    """The plan with its patch rounded up to what the network takes; itself if it takes that."""
    patch = net.nearest(planned.patch)
    if patch == planned.patch:
        return planned
    name = model._target_.rsplit(".", 1)[-1]
    reason = f"{planned.reasons.get('patch', 'edited')}; rounded up from {list(planned.patch)} for {name}"
    return replace(planned, patch=patch, reasons=planned.reasons | {"patch": reason})
