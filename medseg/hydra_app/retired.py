"""Options and keys of earlier versions, each with the one that took its place."""

from __future__ import annotations

from medseg.runtime import moved

OPTIONS = {"model=segmenter": "model=encoder_decoder"}
"""Old option -> today's."""
GROUPS = {"peft": "finetuning", "series": "temporal"}
"""Old group -> today's; its options kept their names."""


def replacement(word: str) -> str | None:
    """Today's name of an option (``group=option``) or of a key; None if it has not changed.

    Example:
        >>> replacement("model=segmenter"), replacement("peft.rank"), replacement("model=unet")
        ('model=encoder_decoder', 'finetuning.rank', None)
        >>> replacement("finetuning.thaw"), replacement("peft.rate")
        ('finetuning.gradual_unfreeze', 'finetuning.encoder_lr_scale')
    """
    if word in OPTIONS:
        return OPTIONS[word]
    group, dot, rest = word.partition(".")
    renamed = f"{GROUPS.get(group, group)}{dot}{rest}"
    renamed = moved.KEYS.get(renamed, renamed)
    return None if renamed == word else renamed
