"""Batches that the tests of losses share: tables, random batches, and drawn masks."""

import torch

from medseg.labels import IGNORE, LabelTable

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
ONE = LabelTable.declare({"background": 0, "a": 1})


def batch(table, shape=(2, 9, 8), seed=0):
    """Logits with a gradient, label with ignored cells, valid."""
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = (torch.randn(b, table.n_outputs, *s, generator=rng) * 2).requires_grad_()
    label = torch.randint(0, 3, (b, *s), generator=rng)
    label[0, :2] = IGNORE
    return logits, label, torch.rand(b, *s, generator=rng) > 0.1


def certain(label, n=2, margin=200.0):
    """Logits that are sure of a label."""
    return torch.nn.functional.one_hot(label, n).movedim(-1, 1) * margin


def mask(*rows):
    """One image of a drawn mask: # is inside."""
    return torch.tensor([[cell == "#" for cell in row] for row in rows])[None].long()


def everywhere(label):
    return torch.ones_like(label).bool()
