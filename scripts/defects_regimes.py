"""Defects in methods that learn from patches without labels."""

from defects import Defect

LABELS, CONSISTENCY = "tests/methods/test_pseudo_labels.py", "tests/methods/test_consistency.py"
CPS, MIX = "tests/methods/test_cps.py", "tests/transforms/test_view_mix.py"

# fmt: off
TABLE = (
    Defect(
        "unsure-labels-count", "cells below the threshold do not count", "medseg/methods/consistency.py",
        ">= self.threshold) & shown", ">= 0) & shown",
        (CONSISTENCY,),
    ),
    Defect(
        "hidden-cells-count", "cells that the weak view does not show have no part", "medseg/methods/consistency.py",
        ">= self.threshold) & shown[:, None]", ">= self.threshold) & (shown[:, None] | True)",
        (CONSISTENCY,),
    ),
    Defect(
        "targets-not-mixed", "targets are mixed with the views", "medseg/transforms/view_mix.py",
        "[pasted(one, pastes) for one in cells]", "[one.clone() for one in cells]",
        (MIX,),
    ),
    Defect(
        "boxes-of-one-key", "boxes are a function of the step", "medseg/transforms/view_mix.py",
        "generators(batch.key, _VIEWS)", "generators(batch.key * 0, _VIEWS)",
        (MIX,),
    ),
    Defect(
        "temperature-upside-down", "a low temperature sharpens", "medseg/methods/pseudo_labels.py",
        "power = prob.pow(1 / temperature)", "power = prob.pow(temperature)",
        (LABELS,),
    ),
    Defect(
        "outside-forgotten", "a region's divergence has that of being outside", "medseg/methods/pseudo_labels.py",
        "return inside + functional", "return inside + 0 * functional",
        (LABELS,),
    ),
    Defect(
        "annealing-too-fast", "the schedules are those of the paper", "medseg/methods/uda.py",
        "math.exp(5 * (progress - 1))", "math.exp(progress - 1)",
        (CONSISTENCY,),
    ),
    Defect(
        "known-labels-stay", "known labels are left out", "medseg/methods/uda.py",
        "masked_fill(known, IGNORE)", "masked_fill(known & False, IGNORE)",
        (CONSISTENCY,),
    ),
    Defect(
        "own-labels", "each network learns the labels of the other", "medseg/methods/cps.py",
        "zip(logits, reversed(labels), strict=True)", "zip(logits, labels, strict=True)",
        (CPS,),
    ),
    Defect(
        "one-seed-for-both-networks", "both networks begin differently", "medseg/factory/second_network.py",
        "seed=seed)", "seed=cfg.seed)",
        (f"{CPS}::test_networks_begin_with_weights_of_two_seeds_and_both_learn",),
    ),
    Defect(
        "second-network-not-optimised", "the optimiser moves both networks", "medseg/methods/method.py",
        "for group in self.tuning.groups(one))", "for group in self.tuning.groups(self.network))",
        (f"{CPS}::test_networks_begin_with_weights_of_two_seeds_and_both_learn",),
    ),
)
