"""Prithvi next to the network of its authors, as terratorch has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, spec
from terratorch.models.backbones.prithvi_mae import PrithviMAE

from medseg.models.earth.prithvi import SIZES


def rows() -> Iterator[Row]:
    """Both versions, one date and three, without and with dates and places, against terratorch's ``PrithviMAE``."""
    bands, day, place = ("B2", "B3", "B4", "B8A", "B11", "B12"), 19782, (11.5, 48.0)
    for size, dates in (
        ("v2_tiny_tl", 4),
        ("v1_100", 1),
        ("v2_300", 1),
        ("v2_300", 3),
        ("v2_300_tl", 1),
        ("v2_300_tl", 3),
        ("v2_600_tl", 3),
    ):
        patch, timed = (14 if "600" in size else 16), size.endswith("_tl")
        whole = size == "v2_tiny_tl"  # as published; the others with fewer and narrower blocks
        small = SIZES[size]._asdict() if whole else {"embed_dim": 64, "depth": 4, "num_heads": 4}
        blocks = range(2, 12, 3) if whole else range(4)
        torch.manual_seed(0)
        upstream: Any = drawn(
            PrithviMAE(
                num_frames=dates,
                patch_size=(1, patch, patch),
                decoder_embed_dim=32,
                decoder_depth=1,
                coords_encoding=["time", "location"] if timed else [],
                coords_scale_learn=timed,
                **small,
            )
        )
        state = upstream.state_dict()
        if size == "v1_100":
            state = {name.removeprefix("encoder.").removeprefix("decoder."): tensor for name, tensor in state.items()}
        for shape in ((224, 224), (4 * patch, 10 * patch)):
            settings: dict[str, Any] = {"size": size, **small}
            if timed:
                settings |= {"place": list(place), "day": day if dates == 1 else None}
            encoder: Any = build("prithvi", spec(bands, shape, dates), settings, state)
            image = noise(2, dates, 6, *shape)
            days = torch.tensor([[day, day + 100, day + 400, day - 20000][:dates]] * 2)
            when = torch.tensor([[[2024.0, 60], [2024.0, 160], [2025.0, 94], [1969.0, 148]][:dates]] * 2)
            where = torch.tensor([[place[1], place[0]]] * 2)
            with torch.no_grad():
                given = encoder(image.flatten(1, 2), days=days if dates > 1 else None)
                features = upstream.forward_features(image.transpose(1, 2), *((when, where) if timed else (None, None)))
            features = [features[i] for i in blocks]
            if dates > 1:  # dates side by side, without the class token
                features = [f[:, 1:].unflatten(1, (dates, -1)).transpose(1, 2).flatten(2) for f in features]
            compared = f"4 blocks{' of 12' * whole}, {dates} date{'s' * (dates > 1)}{', day and place' * timed}"
            yield compare(("prithvi", size, compared, "6 of HLS"), shape, given, features)
