"""Options and keys of earlier versions, each with the one that took its place."""

from __future__ import annotations

OPTIONS = {"model=segmenter": "model=encoder_decoder"}
"""Old option -> today's."""
GROUPS = {"peft": "finetuning", "series": "temporal"}
"""Old group -> today's; its options and keys kept their names."""


def replacement(word: str) -> str | None:
    """What took the place of an option (``group=option``) or of a key; None if it was never one.

    Example:
        >>> replacement("model=segmenter"), replacement("peft.rank"), replacement("model=unet")
        ('model=encoder_decoder', 'finetuning.rank', None)
    """
    if word in OPTIONS:
        return OPTIONS[word]
    group, dot, rest = word.partition(".")
    return f"{GROUPS[group]}{dot}{rest}" if group in GROUPS else None
