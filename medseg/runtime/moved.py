"""Class paths and configuration keys of earlier versions, and what they are called today.

Class paths are data: they stand in checkpoints, in ``config.yaml`` of runs and in users' own files. Those that moved
are answered by today's; a class that moves adds a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES: Mapping[str, str] = {
    "medseg.callbacks.mlflow_run.MlflowRun": "medseg.loggers.mlflow_run.MlflowRun",
    "medseg.callbacks.tensorboard_run.TensorBoardRun": "medseg.loggers.tensorboard_run.TensorBoardRun",
    "medseg.callbacks.wandb_run.WandbRun": "medseg.loggers.wandb_run.WandbRun",
    "medseg.comparison.CompareRuns": "medseg.sweeps.compare.CompareRuns",
    "medseg.data.datasets.phantom_scenes.PhantomScenes": "medseg.data.synthetic.phantom_scenes.PhantomScenes",
    "medseg.data.datasets.phantom_series.PhantomSeries": "medseg.data.synthetic.phantom_series.PhantomSeries",
    "medseg.data.datasets.phantom_volumes.PhantomVolumes": "medseg.data.synthetic.phantom_volumes.PhantomVolumes",
    "medseg.data.datasets.torchgeo.TorchgeoDataset": "medseg.data.datasets.torchgeo.dataset.TorchgeoDataset",
    "medseg.data.reading.Reading.of": "medseg.data.reading.options.ReadOptions.from_config",
    "medseg.data.reading.options.Reading.of": "medseg.data.reading.options.ReadOptions.from_config",
    "medseg.methods.schedule.Constant": "medseg.methods.schedules.Constant",
    "medseg.methods.schedule.Cosine": "medseg.methods.schedules.Cosine",
    "medseg.methods.schedule.Poly": "medseg.methods.schedules.Poly",
    "medseg.models.decoders.smp.Smp": "medseg.models.smp.decoder.Smp",
    "medseg.models.encoders.copernicus_fm.CopernicusFm": "medseg.models.torchgeo.copernicus_fm.CopernicusFm",
    "medseg.models.encoders.croma.Croma": "medseg.models.torchgeo.croma.Croma",
    "medseg.models.encoders.dofa.Dofa": "medseg.models.torchgeo.dofa.Dofa",
    "medseg.models.encoders.monai_resnet.MonaiResNet": "medseg.models.monai.resnet_encoder.MonaiResNet",
    "medseg.models.encoders.monai_segresnet.MonaiSegResNet": "medseg.models.monai.segresnet_encoder.MonaiSegResNet",
    "medseg.models.encoders.monai_swin_vit.SwinViT": "medseg.models.monai.swin_encoder.SwinViT",
    "medseg.models.encoders.monai_vit.MonaiViT": "medseg.models.monai.vit_encoder.MonaiViT",
    "medseg.models.encoders.panopticon.Panopticon": "medseg.models.torchgeo.panopticon.Panopticon",
    "medseg.models.encoders.plain.Plain": "medseg.models.encoders.vit.PlainViT",
    "medseg.models.encoders.published.Published": "medseg.models.torchgeo.vit.TorchgeoViT",
    "medseg.models.encoders.scalemae.ScaleMae": "medseg.models.torchgeo.scalemae.ScaleMae",
    "medseg.models.encoders.sliced.Sliced": "medseg.models.encoders.slice_wise.SliceWise",
    "medseg.models.encoders.timm.Timm": "medseg.models.timm.encoder.Timm",
    "medseg.models.encoders.torchgeo.Swin": "medseg.models.torchgeo.encoder.Swin",
    "medseg.models.encoders.torchgeo.TorchGeoTimm": "medseg.models.torchgeo.encoder.TorchGeoTimm",
    "medseg.models.encoders.torchgeo.torchgeo": "medseg.models.torchgeo.encoder.torchgeo",
    "medseg.models.encoders.transformers.Transformers": "medseg.models.huggingface.encoder.Transformers",
    "medseg.models.farseg.FarSeg": "medseg.models.torchgeo.farseg.FarSeg",
    "medseg.models.encoders.slice_wise.Sliced": "medseg.models.encoders.slice_wise.SliceWise",
    "medseg.models.hf_mask2former.HfMask2Former": "medseg.models.huggingface.mask2former.HfMask2Former",
    "medseg.models.hf_network.HfNetwork": "medseg.models.huggingface.network.HfNetwork",
    "medseg.models.hf_oneformer.HfOneFormer": "medseg.models.huggingface.oneformer.HfOneFormer",
    "medseg.models.hf_segformer.HfSegformer": "medseg.models.huggingface.segformer.HfSegformer",
    "medseg.models.hf_upernet.HfUperNet": "medseg.models.huggingface.upernet.HfUperNet",
    "medseg.models.mednext.MedNeXt": "medseg.models.monai.mednext.MedNeXt",
    "medseg.models.segmenter.Segmenter": "medseg.models.encoder_decoder.EncoderDecoder",
    "medseg.models.segresnet.SegResNet": "medseg.models.monai.segresnet.SegResNet",
    "medseg.models.series.attention.Attention": "medseg.models.temporal.attention.Attention",
    "medseg.models.series.pooled.Pooled": "medseg.models.temporal.pooling_network.Pooled",
    "medseg.models.series.pools.Concat": "medseg.models.temporal.pools.Concat",
    "medseg.models.series.pools.Max": "medseg.models.temporal.pools.Max",
    "medseg.models.series.pools.Mean": "medseg.models.temporal.pools.Mean",
    "medseg.models.series.pools.Pool": "medseg.models.temporal.pools.Pool",
    "medseg.models.series.series.SeriesNetwork": "medseg.models.temporal.network.SeriesNetwork",
    "medseg.models.series.stack.Stack": "medseg.models.temporal.stack.Stack",
    "medseg.models.smp.Smp": "medseg.models.smp.network.Smp",
    "medseg.models.swin_unetr.SwinUNETR": "medseg.models.monai.swin_unetr.SwinUNETR",
    "medseg.models.unetr.UNETR": "medseg.models.monai.unetr.UNETR",
    "medseg.peft.frozen.Frozen": "medseg.finetuning.frozen.Frozen",
    "medseg.peft.frozen.LinearProbe": "medseg.finetuning.frozen.LinearProbe",
    "medseg.peft.full.Full": "medseg.finetuning.full.Full",
    "medseg.peft.lora.Lora": "medseg.finetuning.lora.Lora",
    "medseg.peft.reparametrised.Nola": "medseg.finetuning.reparametrised.Nola",
    "medseg.peft.reparametrised.RandomSum": "medseg.finetuning.reparametrised.RandomSum",
    "medseg.peft.reparametrised.Spectrum": "medseg.finetuning.reparametrised.Spectrum",
    "medseg.peft.reparametrised.SvFit": "medseg.finetuning.reparametrised.SvFit",
    "medseg.peft.sam_adapter.PromptedBlock": "medseg.finetuning.sam_adapter.PromptedBlock",
    "medseg.peft.sam_adapter.Prompts": "medseg.finetuning.sam_adapter.Prompts",
    "medseg.peft.sam_adapter.SamAdapter": "medseg.finetuning.sam_adapter.SamAdapter",
    "medseg.peft.side.Side": "medseg.finetuning.side.Side",
    "medseg.peft.side.SideTuning": "medseg.finetuning.side.SideTuning",
    "medseg.peft.tuning.Tuning": "medseg.finetuning.strategy.Tuning",
    "medseg.sweep.Sweep": "medseg.sweeps.optuna.Sweep",
    "medseg.transforms.spectral.BandDrop": "medseg.transforms.spectral.ChannelDropout",
    "medseg.transforms.turns.QuarterTurns": "medseg.transforms.turns.RandomRotate90",
}
"""Old class path -> today's; every ``_target_`` that a configuration of an earlier version may hold."""
GROUPS: Mapping[str, str] = {"callbacks": "callback", "peft": "finetuning", "series": "temporal"}
"""Old top-level key of the configuration -> today's; its options kept their names."""
KEYS: Mapping[str, str] = {
    "finetuning.head_first": "finetuning.head_warmup",
    "finetuning.rate": "finetuning.encoder_lr_scale",
    "finetuning.thaw": "finetuning.gradual_unfreeze",
    "method.block": "method.mask_patch_size",
    "method.depth": "method.decoder_depth",
    "method.normalise": "method.norm_pix_loss",
    "method.share": "method.mask_ratio",
    "method.width": "method.decoder_embed_dim",
    "transform.band_drop": "transform.channel_drop",
}
"""Old key of a group -> today's; where the group has a class of medseg."""
DATA_KEYS: Mapping[str, str] = {
    "data.fold": "split.fold",
    "data.n_folds": "split.n_folds",
    "data.split_seed": "split.seed",
    "data.split_file": "split.file",
    "data.val_cases": "split.val_cases",
    "data.test_cases": "split.test_cases",
    "data.blocks": "split.blocks",
    "data.runs": "split.runs",
    "data.gap": "split.gap",
    "data.n_labelled": "split.n_labelled",
    "data.strategy": "sampling",
    "data.foreground_share": "sampling.foreground_fraction",
    "data.rarity": "sampling.class_balance_exponent",
    "data.min_valid": "sampling.min_valid",
    "data.workers": "loader.workers",
    "data.store": "loader.store",
    "data.steps": "trainer.max_steps",
    "data.steps_per_epoch": "trainer.steps_per_epoch",
    "data.dataset": "data",
}
"""Old key of ``data`` -> that of today, of another group; keys below it moved with it."""
DEEPEST = 50
"""Levels of nested values that are looked at."""


def updated(config: Mapping[str, object]) -> dict[str, object]:
    """A configuration of any earlier version with today's class paths, groups and keys.

    Args:
        config: Plain values, such as those of a checkpoint; it is not changed.

    Example:
        >>> updated({"seed": 0, "model": {"_target_": "medseg.models.unet.UNet"}})
        {'seed': 0, 'model': {'_target_': 'medseg.models.unet.UNet'}}
    """
    groups = {GROUPS.get(key, key): value for key, value in with_current_classes(config).items()}
    return with_data_split({group: _with_current_keys(group, settings) for group, settings in groups.items()})


def _with_current_keys(group: str, settings: object) -> object:
    """The settings of a group with today's keys; those of a user's own class stay."""
    if not isinstance(settings, dict) or not str(settings.get("_target_")).startswith("medseg."):
        return settings
    return {KEYS.get(f"{group}.{key}", key).rpartition(".")[2]: value for key, value in settings.items()}


_SAMPLERS = {
    name: f"medseg.data.sampling.case_samplers.By{name.capitalize()}" for name in ("case", "area", "class", "group")
}
_READING = (
    "nonfinite", "grid_tolerance", "bands", "other_grid", "other_crs", "attribute", "layer", "all_touched", "nodata",
    "mask_colours", "dates",
)  # fmt: skip
_SINCE_3: Mapping[str, Mapping[str, object]] = {
    "split": {"blocks": None, "runs": None, "gap": 0},
    "loader": {"store": True},
}
"""Keys that only scenes had before format 3, with their values."""


def with_data_split(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in whose ``data`` stand the keys of the dataset alone, as since format 3.

    Before, ``data`` also held split, sampling, loader and budget, and the class with its arguments a second time, as
    ``data.dataset``.

    Args:
        config: Plain values; it is not changed. One that has a ``split`` already stays as it is.

    Example:
        >>> old = {"data": {"root": "x", "fold": 1, "dataset": {"_target_": "my.Data", "root": "x"}}, "trainer": {}}
        >>> new = with_data_split(old)
        >>> new["data"], new["split"]["fold"]
        ({'root': 'x', '_target_': 'my.Data'}, 1)
    """
    data = config.get("data")
    if "split" in config or not isinstance(data, Mapping):
        return dict(config)
    groups = _groups_in(data)
    kept = {group: config[group] for group in groups if isinstance(config.get(group), Mapping)}
    return {
        **config,
        **{group: keys | kept.get(group, {}) for group, keys in groups.items()},
        "data": _of_dataset(data),
    }


def _groups_in(data: Mapping[object, object]) -> dict[str, dict[object, object]]:
    """Split, sampling, loader and budget that the ``data`` of an earlier version holds, with defaults for the rest."""
    groups: dict[str, dict[Any, Any]] = {group: dict(keys) for group, keys in _SINCE_3.items()}
    strategy = data.get("strategy")
    if isinstance(strategy, str) and strategy in _SAMPLERS:
        groups["sampling"] = {"_target_": _SAMPLERS[strategy]}
    for key, value in data.items():
        group, _, name = DATA_KEYS.get(f"data.{key}", "").partition(".")
        if name and (key != "rarity" or strategy == "class"):
            groups.setdefault(group, {})[name] = value
    return groups


def _of_dataset(data: Mapping[object, object]) -> dict[object, object]:
    """The keys of the dataset alone: its own, and the arguments of its class."""
    dataset = data.get("dataset")
    arguments = dataset if isinstance(dataset, Mapping) else {}
    known = {*arguments, "name", "lateral_axis", *_READING} if isinstance(dataset, Mapping) else data.keys()
    own = {key: value for key, value in data.items() if key in known and not DATA_KEYS.get(f"data.{key}")}
    return own | {key: value for key, value in arguments.items() if key not in own and key != "reading"}


def with_current_classes(config: Mapping[str, object]) -> dict[str, object]:
    """A configuration with today's class paths at any depth; its keys stay.

    Args:
        config: Plain values; it is not changed.
    """
    walk = _Walk()
    return {key: walk(value) for key, value in config.items()}


class _Walk:
    """Copies nested values with today's class paths.

    Files of strangers may nest without end, or hold one list a million times: each is copied once, and what lies
    deeper than any configuration stays as it is, for the checks of what is built (``trust``) to refuse.
    """

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def __call__(self, value: object, depth: int = 0) -> object:
        if not isinstance(value, (Mapping, list)) or depth > DEEPEST:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        self._copies[id(value)] = value  # one that holds itself stays as it is
        if isinstance(value, list):
            copy: object = [self(inner, depth + 1) for inner in value]
        else:
            copy = {key: self(inner, depth + 1) for key, inner in value.items()}
            target = copy.get("_target_")
            if isinstance(target, str):
                copy["_target_"] = CLASSES.get(target, target)
        self._copies[id(value)] = copy
        return copy
