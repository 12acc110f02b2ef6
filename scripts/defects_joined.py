"""Defects in joined encoders: what is missing counts, branches see other cells, margins, what learns."""

from defects import Defect

JOINED, FUSION = "tests/models/encoders/test_joined.py", "tests/models/encoders/test_fusion.py"

# fmt: off
TABLE = (
    Defect(
        "missing-branch-counts", "a missing branch has no influence", "medseg/models/encoders/fusion.py",
        "self.fuse([grid * there for grid, there in zip(grids, shown, strict=True)], shown)",
        "self.fuse(list(grids), shown)",
        (f"{FUSION}::test_a_missing_branch_has_no_influence",),
    ),
    Defect(
        "sum-of-those-present", "the sum keeps its scale where a branch is missing", "medseg/models/encoders/fusion.py",
        " * (len(grids) / sum(shown[1:], shown[0]).clamp_min(1))", "",
        (f"{FUSION}::test_sum",),
    ),
    Defect(
        "missing-keys-attended", "cross-attention does not look at what is missing", "medseg/models/encoders/fusion.py",
        "((seen - 1) * 1e4)", "((seen - 1) * 0)",
        (f"{FUSION}::test_cross_attention_does_not_look_at_a_missing_branch",),
    ),
    Defect(
        "context-not-cut", "features of the surrounding are cut to their place", "medseg/models/encoders/joined.py",
        "without_border(resize(project(grids[i]), whole), border)", "resize(project(grids[i]), shape)",
        (f"{JOINED}::test_a_branch_with_context_sees_more_in_larger_cells",),
    ),
    Defect(
        "weights-of-all-channels", "a branch compares the statistics of its own channels",
        "medseg/models/encoders/joined.py",
        "[values[i] for i in self.places[name]]", "values[: len(self.places[name])]",
        (f"{JOINED}::test_statistics_are_those_of_the_channels_of_a_branch",),
    ),
    Defect(
        "fusion-frozen", "what fuses learns where encoders are frozen", "medseg/finetuning/strategy.py",
        "                fresh.requires_grad_(True)\n", "                fresh.requires_grad_(False)\n",
        (f"{JOINED}::test_frozen_encoders_leave_the_fusion_to_learn",),
    ),
    Defect(
        "margin-trains", "the margin of a network does not train", "medseg/methods/supervised.py",
        "slice(m, n - m) for m, n", "slice(0, n - 2 * m) for m, n",
        ("tests/methods/test_supervised.py::test_a_margin_without_logits_does_not_train",),
    ),
    Defect(
        "margin-not-read", "windows see beyond their logits", "medseg/inference/sliding_window.py",
        "before = [m // 2 + b for m, b in zip(missing, margin, strict=True)]",
        "before = [m // 2 + b // 2 for m, b in zip(missing, margin, strict=True)]",
        ("tests/inference/test_sliding_window.py",),
    ),
)
