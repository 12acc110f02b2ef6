"""The encoding of OlmoEarth and Galileo: a quarter of each token's numbers for group, date, month and place."""

from __future__ import annotations

from collections.abc import Sequence
from math import tau

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError

REFERENCE_M = 10.0
"""Cells in metres for which a place's coordinate is its number of patches times the cells of a patch."""


class Months(nn.Module):
    """Sine and cosine of each month of the year, each repeated over half of the numbers; fixed, kept as in the files.

    Args:
        width: Numbers of an encoding.
    """

    weight: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        angles = torch.arange(12.0)[:, None] * (tau / 12)
        self.register_buffer("weight", torch.cat([f.expand(-1, width // 2) for f in (angles.sin(), angles.cos())], 1))


def check_month(month: int) -> int:
    """The month, from 0.

    Raises:
        InputError: It is none.
    """
    if not 1 <= month <= 12:
        raise InputError(f"model.encoder.month={month}: expected a month from 1 to 12")
    return month - 1


def steps(spacing: Sequence[float], cell_m: float | None, patch: int) -> tuple[float, ...]:
    """Distance of neighbouring patches on each axis, in units of ``REFERENCE_M``.

    Args:
        spacing: Of the data.
        cell_m: Size of a cell that is set instead.
        patch: Cells of a patch.
    """
    cells = tuple(spacing) if cell_m is None else (cell_m, cell_m)
    return tuple(patch * cell / REFERENCE_M for cell in cells)


def slow_sines(places: Float[Tensor, " n"], width: int) -> Float[Tensor, "n w"]:
    r"""Sines, then cosines, of :math:`p / 10000^{i / (2 w)}`, with i from 0 to w / 2 - 1.

    These frequencies span a quarter of the usual range; the weights were trained with them.
    """
    rate = 10000 ** -(torch.arange(width // 2, dtype=torch.float32, device=places.device) / (2 * width))
    angles = torch.outer(places, rate)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def of_places(grid: Sequence[int], steps: Sequence[float], width: int, device: torch.device) -> Float[Tensor, "n w"]:
    """Encoding of the places of a grid in row-major order: half of the numbers say the column, half the row.

    Args:
        grid: Rows and columns.
        steps: Distance of neighbours on each axis.
        width: Numbers of an encoding.
        device: Where it is needed.
    """
    rows, columns = (torch.arange(n, dtype=torch.float32, device=device) * s for n, s in zip(grid, steps, strict=True))
    by_row, by_column = slow_sines(rows, width // 2), slow_sines(columns, width // 2)
    halves = by_column[None].expand(len(rows), -1, -1), by_row[:, None].expand(-1, len(columns), -1)
    return torch.cat(halves, dim=2).flatten(0, 1)


def encoding(
    by_group: Float[Tensor, "g q"],
    by_month: Float[Tensor, "b t q"],
    by_place: Float[Tensor, "n q"],
    *,
    slots: bool = True,
) -> Float[Tensor, "b t g n d"]:
    """What is added to the token of each date and group at each place.

    Args:
        by_group: Learned.
        by_month: Encoding of the month of each date.
        by_place: Encoding of the places; zeros where attention knows them by other means.
        slots: Whether the number of the date in its series is encoded.
    """
    batch, dates, quarter = by_month.shape
    by_slot = slow_sines(torch.arange(float(dates), device=by_place.device), quarter) * float(slots)
    parts = (
        by_group[None, None, :, None],
        by_slot[None, :, None, None],
        by_month[:, :, None, None],
        by_place[None, None, None],
    )
    return torch.cat([part.expand(batch, dates, len(by_group), len(by_place), quarter) for part in parts], dim=-1)
