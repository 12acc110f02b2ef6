"""Radar channels, by their names."""

from __future__ import annotations

import re

_NAME = re.compile(r"(VV|VH|HV|HH)(?:[ _-](.*))?")


def polarisation(name: str) -> str | None:
    """VV, VH, HV or HH of a radar channel; None of others.

    Example:
        >>> [polarisation(name) for name in ("VV", "vh_dB", "VV-linear", "B8", "VVX")]
        ['VV', 'VH', 'VV', None, None]
    """
    match = _NAME.fullmatch(name.upper())
    return match[1] if match else None


def radar_unit(name: str) -> str:
    """``dB`` or ``linear`` of a radar channel whose name says it; empty otherwise.

    Example:
        >>> [radar_unit(name) for name in ("VV_dB", "VH-linear", "VV", "B8")]
        ['dB', 'linear', '', '']
    """
    match = _NAME.fullmatch(name.upper())
    return {"DB": "dB", "LINEAR": "linear"}.get(match[2] or "", "") if match else ""
