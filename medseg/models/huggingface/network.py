"""HfNetwork: whole networks of Hugging Face's transformers behind the interface of all networks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from medseg.errors import InputError, rename_keys
from medseg.models.axes import check_axes
from medseg.models.huggingface import config as hf_config
from medseg.models.huggingface import hooks, state_names
from medseg.models.huggingface.features import FAMILIES, stages
from medseg.models.huggingface.sizes import SIZES
from medseg.models.network import ModelSpec, Network
from medseg.sample import Channel
from medseg.weights import load
from medseg.weights.options import WeightOptions
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report, Row

STRIDE = 32
"""Of the coarsest stage of all these networks, as they are published."""
_KEYS = ("model.encoder.", "model.")
"""Messages of loading name keys of an encoder; here they are keys of the network."""


def backbones(families: Sequence[str], **others: object) -> dict[str, dict[str, object]]:
    """Sizes of a network by those of its encoder, ``swin_tiny`` and so on."""
    return {
        f"{family}_{size}": {"backbone_config": {"model_type": family, **settings}, **others}
        for family in families
        for size, settings in SIZES[family].items()
    }


class HfNetwork(Network):
    """A network of transformers, with the channels and the classes of the data; 2D only.

    **Construction reads no weights**, and of those on the hub the config.json only; the result is in
    ``settled``, which a checkpoint keeps. ``initialise`` loads encoder and decoder; the last layer, which gives
    the classes, is loaded only where its shape is that of the data's classes, and counts neither for nor against
    ``least_share``: that is the share of all other parameters of the network. Weights of an encoder alone are
    taken as well, under a smaller ``least_share``.

    Attributes:
        net: The network as transformers builds it.

    Args:
        spec: Data and plan; kernels and strides are not used.
        size: One of the network's; ``auto``: of the weights' config.json, else the first.
        config: Settings of transformers' configuration that differ from these; or all of them, with
            ``model_type``.
        weights: See ``weights.pretrained.read``; None for random ones.
        loading: Further fields of ``WeightOptions``; ``least_share`` is that of the parameters without the last layer.

    Raises:
        InputError: Volumes; settings that are unknown or contradict each other; weights that are unavailable.
    """

    ndims = (2,)
    kind: ClassVar[str]
    """``model_type`` of transformers."""
    source: ClassVar[str]
    """Its class in transformers."""
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    encoder: ClassVar[str]
    """Name of the encoder in it."""
    head: ClassVar[str]
    """Name of the last layer, which gives the classes."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Of the configuration, that leave out what no logit depends on."""
    idle: ClassVar[tuple[str, ...]] = ()
    """Names of modules that no logit depends on; taken out."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "auto",
        config: Mapping[str, object] | None = None,
        weights: str | None = None,
        **loading: Any,
    ) -> None:
        check_axes(type(self).__name__, self.ndims, spec)
        super().__init__(spec.in_channels, (STRIDE,) * spec.ndim)
        request = hf_config.Request("model", self.kind, size, config, weights)
        with rename_keys(_KEYS):
            self._described = hf_config.describe({self.kind: self.sizes}, request)
        self.channels: tuple[Channel, ...] = spec.channels or tuple(
            Channel(f"channel{i}") for i in range(spec.in_channels)
        )
        self.loading = WeightOptions(weights=weights, **loading)
        settings = state_names.with_channels(self._prepare(self._described), spec.in_channels)
        settings.num_labels = spec.out_channels
        with hf_config.refusing("model", self.kind):
            self.net: PreTrainedModel = getattr(transformers, self.source)(settings)
        within = getattr(settings, "backbone_config", None)
        unused = () if within is None else FAMILIES[within.model_type].idle
        for name in (*self.idle, *(f"{self.encoder}.{inner}" for inner in unused)):
            self.net.set_submodule(name, nn.Identity())

    @property
    def settled(self) -> Mapping[str, object]:
        """The complete description, in place of ``config``."""
        return {"config": self._described}

    @abstractmethod
    def compute(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k y x"]:
        """Logits, at the resolution of the image or a coarser one."""

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell; interpolated where the network's are coarser."""
        self.check(image)
        logits = self.compute(image)
        if logits.shape[2:] == image.shape[2:]:
            return logits
        return functional.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of the settings, and report every tensor; rows of the last layer don't count.

        Raises:
            InputError: Weights that are unavailable, or that cover too little.
        """
        if self.loading.weights is None:
            return None
        with rename_keys(_KEYS):
            pretrained = self._fetch(str(self.loading.weights))
            head, prefix = self.net.get_submodule(self.head), f"{self.head}."
            of_head = {n: t for n, t in pretrained.state.items() if n.startswith(prefix) or f".{prefix}" in n}
            self.net.set_submodule(self.head, nn.Identity())  # neither loaded nor counted here
            try:
                report = load.load(
                    self.net,
                    pretrained.with_state({n: t for n, t in pretrained.state.items() if n not in of_head}),
                    stem=hooks.first_convolution(self.net),
                    channels=self.channels,
                    options=self.loading,
                    statistics=statistics,
                )
            finally:
                self.net.set_submodule(self.head, head)
        return replace(report, rows=report.rows + _load_head(head, prefix, of_head))

    def _prepare(self, described: Mapping[str, object]) -> PreTrainedConfig:
        """The configuration of a description; the encoder returns every stage.

        Raises:
            InputError: Values that transformers rejects, or an encoder without stages.
        """
        config = hf_config.make(described, "model")
        for name, value in self.settings.items():
            setattr(config, name, value)
        within = getattr(config, "backbone_config", None)
        if within is not None:
            family = FAMILIES.get(within.model_type)
            if family is None or family.read is not stages or family.plain:
                names = [name for name, f in FAMILIES.items() if f.read is stages and not f.plain]
                raise InputError(
                    f"model.config.backbone_config: got an encoder of type {within.model_type}, expected one of "
                    f"{', '.join(names)}"
                )
            family.prepare(within)
        return config

    def _fetch(self, source: str) -> Pretrained:
        """Weights of this network, or of an encoder alone, under the current names."""
        pretrained = read(source)
        described = hf_config.saved({self.kind: self.sizes, **SIZES}, source, self._described, "model")
        if described["model_type"] == self.kind:
            network, config = getattr(transformers, self.source), self._prepare(described)
            config.num_labels = self.net.config.num_labels
        else:
            family = FAMILIES[described["model_type"]]
            network, config = family.source, family.prepare(hf_config.make(described, "model"))
        return pretrained.with_state(state_names.current(pretrained.state, network, config))

    def __getstate__(self) -> object:
        hooks.release(self.net)
        return super().__getstate__()


def _load_head(head: nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> tuple[Row, ...]:
    """Copy the last layer if all of it fits; its rows of the report don't count."""
    own = head.state_dict()
    loaded = {leaf: t for name, t in tensors.items() if (leaf := name.rpartition(prefix)[2]) in own}
    fits = {leaf: t for leaf, t in loaded.items() if t.shape == own[leaf].shape}
    if fits.keys() == own.keys():
        load.put(head, fits)
        return tuple(Row(prefix + leaf, "copied", t.numel(), counts=False) for leaf, t in own.items())
    return tuple(Row(prefix + leaf, "random", t.numel(), "of other classes", counts=False) for leaf, t in own.items())
