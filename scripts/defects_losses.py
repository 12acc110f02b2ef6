"""Defects in losses: in formulas, in what they leave out, and in their masks."""

from defects import Defect

INVARIANTS = "tests/losses/test_invariants.py"

# fmt: off
TABLE = (
    Defect(
        "decisions-weigh-the-uncounted", "cells that do not count have no weight", "medseg/losses/decisions.py",
        "(weight[outcome] * counted)[:, None]", "weight[outcome][:, None]",
        (f"{INVARIANTS}::test_a_margin_that_does_not_count_changes_nothing",),
    ),
    Defect(
        "regions-weigh-the-uncounted", "cells that do not count have no weight in a region",
        "medseg/losses/decisions.py",
        "* (logits.ndim - 2)) * counted[:, None]", "* (logits.ndim - 2)) * torch.ones_like(counted)[:, None]",
        (f"{INVARIANTS}::test_a_margin_that_does_not_count_changes_nothing",),
    ),
    Defect(
        "region-outcomes-exchanged", "a region is inside where its logit is positive", "medseg/losses/decisions.py",
        "(functional.logsigmoid(-blanked), functional.logsigmoid(blanked))",
        "(functional.logsigmoid(blanked), functional.logsigmoid(-blanked))",
        ("tests/losses/test_noisy_labels.py::test_cross_entropy_is_the_limit",),
    ),
    Defect(
        "gce-without-its-scale", "generalised cross-entropy tends to cross-entropy", "medseg/losses/noisy_labels.py",
        "return -torch.expm1(q * labelled) / q", "return -torch.expm1(q * labelled)",
        ("tests/losses/test_noisy_labels.py",),
    ),
    Defect(
        "sce-reversed-twice", "the reverse cross-entropy presses probabilities of other classes",
        "medseg/losses/noisy_labels.py", "+ beta * log_zero * torch.expm1(labelled)",
        "- beta * log_zero * torch.expm1(labelled)", ("tests/losses/test_noisy_labels.py::test_worked_by_hand",),
    ),
    Defect(
        "bootstrap-of-the-label", "hard bootstrapping trusts the likeliest class", "medseg/losses/noisy_labels.py",
        "log_prob.amax(dim=2) if hard", "log_prob.amin(dim=2) if hard",
        ("tests/losses/test_noisy_labels.py::test_worked_by_hand",),
    ),
    Defect(
        "easiest-cells", "top-k takes the hardest cells", "medseg/losses/hard_cells.py",
        "selected = (cost >= least)", "selected = (cost <= least)", ("tests/losses/test_hard_cells.py",),
    ),
    Defect(
        "share-of-all-cells", "top-k takes its share of counted cells", "medseg/losses/hard_cells.py",
        "(counted.sum() * share)", "(counted.numel() * share)",
        (f"{INVARIANTS}::test_a_margin_that_does_not_count_changes_nothing",),
    ),
    Defect(
        "ohem-takes-the-sure", "OHEM takes cells whose label is improbable", "medseg/losses/hard_cells.py",
        "cost > -math.log(sure)", "cost < -math.log(sure)", ("tests/losses/test_hard_cells.py",),
    ),
    Defect(
        "smoothing-over-decisions", "smoothed labels sum to one", "medseg/losses/calibration.py",
        "possible / possible.sum(dim=2, keepdim=True)", "possible / possible.sum(dim=1, keepdim=True)",
        ("tests/losses/test_calibration.py::test_label_smoothing_equals_torch",),
    ),
    Defect(
        "impossible-classes-smoothed", "labels are smoothed over annotated classes", "medseg/losses/decisions.py",
        "if self.annotated is None:", "if True:",
        (f"{INVARIANTS}::test_classes_that_no_patch_annotates_are_background",),
    ),
    Defect(
        "smoothing-by-the-ignored", "labels are smoothed by neighbours that count", "medseg/losses/calibration.py",
        "weight = around(counted[:, None, None].to(target.dtype), side, axes=axes)",
        "weight = around(torch.ones_like(counted)[:, None, None].to(target.dtype), side, axes=axes)",
        ("tests/losses/test_calibration.py::test_spatial_smoothing_leaves_out_what_does_not_count",
         f"{INVARIANTS}::test_a_margin_that_does_not_count_changes_nothing"),
    ),
    Defect(
        "neighbours-along-the-axes-only", "neighbours touch by a corner too", "medseg/losses/calibration.py",
        "functional.pad(cells + total,", "functional.pad(cells,",
        ("tests/losses/test_calibration.py::test_sums_around_a_cell_equal_a_convolution",),
    ),
    Defect(
        "nacl-shares-of-others-only", "NACL takes the share of a cell's own class too", "medseg/losses/calibration.py",
        "(target + around(target, axes=axes)) /", "around(target, axes=axes) /",
        ("tests/losses/test_calibration.py::test_nacl_worked_by_hand",),
    ),
    Defect(
        "tversky-exchanged", "Tversky's larger weight is of missed cells", "medseg/losses/tversky.py",
        "false_positives * (counts.predicted - counts.both) + false_negatives * (counts.labelled - counts.both)",
        "false_negatives * (counts.predicted - counts.both) + false_positives * (counts.labelled - counts.both)",
        ("tests/losses/test_overlap.py",),
    ),
    Defect(
        "focal-tversky-without-focus", "focal Tversky raises what is lost to a power", "medseg/losses/tversky.py",
        "(above_zero(1 - index) ** self.gamma)", "above_zero(1 - index)",
        ("tests/losses/test_overlap.py::test_gamma_is_the_power_of_each_class",),
    ),
    Defect(
        "power-of-zero", "a perfect class has a finite gradient in focal Tversky", "medseg/losses/tversky.py",
        "(above_zero(1 - index) ** self.gamma)", "((1 - index) ** self.gamma)",
        (f"{INVARIANTS}::test_certainty_leaves_it_finite",),
    ),
    Defect(
        "absent-classes-weigh-most", "an absent class weighs as much as the rarest in generalised Dice",
        "medseg/losses/generalised_dice.py", "rarest / cells, 1.0)", "rarest / cells, 1e6)",
        ("tests/losses/test_overlap.py::test_generalised_dice_worked_by_hand",),
    ),
    Defect(
        "mcc-of-absent-classes", "MCC leaves out classes without a correlation", "medseg/losses/matthews.py",
        "(counts.labelled > 0) & (counts.labelled < counts.cells)", "(counts.labelled >= 0)",
        ("tests/losses/test_overlap.py::test_mcc_leaves_out_classes_that_all_or_none_of_the_cells_have",),
    ),
    Defect(
        "mcc-without-true-negatives", "MCC is a correlation", "medseg/losses/matthews.py",
        "(both - predicted * labelled) /", "both /", ("tests/losses/test_overlap.py::test_mcc_worked_by_hand",),
    ),
    Defect(
        "images-without-cells-count", "an image without counted cells leaves the mean", "medseg/losses/overlap.py",
        "present = counts.cells[:, 0] > 0", "present = counts.cells[:, 0] >= 0",
        ("tests/losses/test_dice.py::test_image_without_counted_cells_leaves_the_mean",),
    ),
    Defect(
        "weights-of-frequent-classes", "rare classes weigh more with class_weights=auto",
        "medseg/losses/class_weights.py", "(middle / n) ** power", "(n / middle) ** power",
        ("tests/losses/test_class_weights.py",),
    ),
    Defect(
        "absent-classes-in-the-median", "classes without cells leave the median of frequencies",
        "medseg/losses/class_weights.py", "cells.values() if n > 0]", "cells.values()]",
        ("tests/losses/test_class_weights.py",),
    ),
    Defect(
        "weights-forgotten", "a resume takes the class weights of the checkpoint", "medseg/training/train.py",
        "cfg = class_weights.kept(cfg, checkpoint.read(resumed).metadata.config)", "pass",
        ("tests/factory/test_class_weights.py::test_weights_are_printed_stored_and_those_of_the_loss",),
    ),
    Defect(
        "background-uncounted", "the background is counted for class weights", "medseg/planning/fingerprint.py",
        "background=int(counts[:first].sum()),", "background=0,", ("tests/factory/test_class_weights.py",),
    ),
    Defect(
        "windows-see-the-uncounted", "SSIM takes windows of counted cells", "medseg/losses/ssim.py",
        "weight = _smoothed(cells, radius, sigma)", "weight = _smoothed(torch.ones_like(cells), radius, sigma)",
        ("tests/losses/test_ssim.py::test_a_window_is_that_of_its_counted_cells",),
    ),
    Defect(
        "ssim-without-covariance", "SSIM compares structure", "medseg/losses/ssim.py",
        "of_both = 2 * (product - mean_p * mean_g)", "of_both = 2 * product", ("tests/losses/test_ssim.py",),
    ),
    Defect(
        "hardness-lowered", "the branch of hardness raises what the network lowers", "medseg/losses/hardness.py",
        "return fixed + raised.detach() - raised", "return fixed - raised.detach() + raised",
        ("tests/losses/test_hardness.py::test_the_network_lowers_what_the_branch_raises",),
    ),
    Defect(
        "hardness-moves-the-encoder", "the branch of hardness leaves features as they are", "medseg/losses/hardness.py",
        "as_maps([feature.detach() for feature in features],", "as_maps([feature for feature in features],",
        ("tests/losses/test_hardness.py::test_the_network_lowers_what_the_branch_raises",),
    ),
    Defect(
        "focus-falls", "focusing rises over the training", "medseg/losses/foreground.py",
        "(1 - math.cos(math.pi * min(1.0, progress / over))) / 2",
        "(1 + math.cos(math.pi * min(1.0, progress / over))) / 2",
        ("tests/losses/test_foreground.py::test_annealing_rises_from_cross_entropy_by_a_cosine",),
    ),
)
