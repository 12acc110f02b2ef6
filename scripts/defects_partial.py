"""Defects in partial labels: what is merged, counted, scored and read of classes that a case does not annotate."""

from defects import Defect

LOSS, SCORES = "tests/losses/test_partial.py", "tests/metrics/test_partial.py"
DATA, EVALUATION = "tests/data/test_annotated.py", "tests/evaluation/test_folders.py"

# fmt: off
TABLE = (
    Defect(
        "marginal-without-background", "the background is one of the merged classes", "medseg/losses/partial.py",
        "    merged[:, 0] = True\n", "",
        (f"{LOSS}::test_marginal_cross_entropy_is_that_of_merged_probabilities_by_hand",),
    ),
    Defect(
        "merged-classes-stay", "classes that are merged have no probability of their own", "medseg/losses/partial.py",
        "blank.logsumexp(dim=1, keepdim=True) - _GONE", "blank[:, 1:]",
        (f"{LOSS}::test_marginal_cross_entropy_is_that_of_merged_probabilities_by_hand",),
    ),
    Defect(
        "marginal-reads-what-does-not-count", "cells that do not count reach no gradient", "medseg/losses/partial.py",
        "blank = blank_uncounted(logits, counted_cells(label, valid))", "blank = logits.float()",
        (f"{LOSS}::test_cells_that_do_not_count_may_hold_anything",),
    ),
    Defect(
        "unannotated-region-learns", "a region that is not annotated has no gradient", "medseg/losses/partial.py",
        "return blank.masked_fill(gone, -_GONE)", "return blank",
        (f"{LOSS}::test_a_region_that_is_not_annotated_has_exactly_no_gradient",),
    ),
    Defect(
        "unannotated-class-is-perfect", "Dice is a mean over annotated classes", "medseg/losses/dice.py",
        "counts.mean(1 - _score(counts, self.smooth))", "(1 - _score(counts, self.smooth)).mean(dim=1)",
        (f"{LOSS}::test_marginal_dice_is_that_of_annotated_classes_by_hand",),
    ),
    Defect(
        "mean-of-all-regions", "a mean over regions divides by the annotated ones", "medseg/losses/cross_entropy.py",
        "(annotated * weight).sum(dim=1)", "weight.sum()",
        (f"{LOSS}::test_the_mean_over_regions_divides_by_the_annotated_ones",),
    ),
    Defect(
        "coarse-levels-not-marginal", "every level of deep supervision is marginal", "medseg/losses/weighted_sum.py",
        "{True: self._marginal_logits(level, *cells, annotated), False: level}", "{True: level, False: level}",
        (f"{LOSS}::test_levels_of_deep_supervision_are_marginal_too",),
    ),
    Defect(
        "exclusion-of-the-background", "exclusion is of cells of an annotated class", "medseg/losses/exclusion.py",
        "counted & (label > 0) & other", "counted & other",
        (f"{LOSS}::test_exclusion_is_the_probability_of_other_classes_in_foreground_by_hand",),
    ),
    Defect(
        "unknown-class-scored", "a class that a case does not annotate has no row", "medseg/metrics/score.py",
        "        if structure.is_annotated:\n", "        if True:\n",
        (f"{SCORES}::test_a_class_that_a_case_does_not_annotate_has_no_row_and_its_mean_says_how_many_cases_entered",),
    ),
    Defect(
        "unknown-cells-pooled", "cells of unknown class are no negatives", "medseg/metrics/score.py",
        "numbers if structure.is_annotated else np.zeros_like(numbers)", "numbers",
        (f"{SCORES}::test_cells_of_unknown_class_are_no_negatives_of_an_area_under_the_curve",),
    ),
    Defect(
        "unknown-class-is-an-error", "another class on the background is no error", "medseg/metrics/overlap.py",
        "        pred = without_unknown(pred, labels, annotated, predicted=True)\n", "",
        (f"{SCORES}::test_validation_counts_as_the_final_scores_do",),
    ),
    Defect(
        "contradiction-read", "a label holds annotated classes only", "medseg/data/reading/open_case.py",
        "        if self.case.annotated is not None:\n", "        if False:\n",
        (f"{DATA}::test_a_label_that_holds_a_class_which_its_case_does_not_annotate_is_refused_with_the_file",),
    ),
    Defect(
        "unannotated-cells-indexed", "foreground is drawn of annotated classes", "medseg/data/store/prepare.py",
        "if names is None or target[0] in names", "",
        (f"{DATA}::test_the_store_holds_it_with_cells_of_annotated_classes_alone",),
    ),
    Defect(
        "complete-batches-differ", "every batch of a partial dataset says what is annotated",
        "medseg/data/sampling/patch_dataset.py",
        "            window = replace(window, annotated=self._all_annotated)\n", "            pass\n",
        (f"{DATA}::test_every_batch_of_a_partial_dataset_says_it_and_none_of_a_complete_one",),
    ),
    Defect(
        "mirror-keeps-annotation", "a mirror exchanges what a case annotates", "medseg/transforms/spatial.py",
        'annotated = self._exchanged(batch.annotated, params["flip"], self.mirror_outputs or self.mirror_classes)',
        "annotated = batch.annotated",
        ("tests/transforms/test_spatial.py::"
         "test_a_mirror_across_the_body_exchanges_what_a_case_annotates",),
    ),
    Defect(
        "mixture-annotates-either", "a mixture annotates what both samples do", "medseg/transforms/mix.py",
        "annotated[one.to] &= batch.annotated[one.source]", "annotated[one.to] |= batch.annotated[one.source]",
        ("tests/transforms/test_mix.py::test_a_mixture_annotates_what_both_samples_do",),
    ),
    Defect(
        "table-of-files-not-read", "label files are scored for what they annotate", "medseg/evaluation/folders.py",
        "add_annotated(add_companions(matched, options.valid, options.images), options.annotated)",
        "add_annotated(add_companions(matched, options.valid, options.images), None)",
        (f"{EVALUATION}::test_classes_that_a_label_does_not_annotate_are_not_scored_for_its_case",),
    ),
    Defect(
        "annotated-rows-of-no-case", "a row of a table is of a case", "medseg/data/annotated.py",
        "        refuse(unknown, ", "        (lambda *_: None)(unknown, ",
        (f"{DATA}::test_a_wrong_table_is_one_line",),
    ),
    Defect(
        "annotated-last-row-counts", "a case has one row of a table", "medseg/data/annotated.py",
        "    refuse(repeated, ", "    (lambda *_: None)(repeated, ",
        (f"{DATA}::test_a_wrong_table_is_one_line",),
    ),
    Defect(
        "torchgeo-annotates-all", "cases of torchgeo annotate what is declared",
        "medseg/data/datasets/torchgeo/dataset.py",
        "with_annotated(cases, self.annotated, self._spec.labels, further=self._tests)", "cases",
        ("tests/data/datasets/torchgeo/test_dataset.py::test_a_case_annotates_what_is_declared",),
    ),
    Defect(
        "set-of-another-class", "a cell is in the annotated regions of its class", "medseg/losses/partial.py",
        "(annotated[:, :, None] & members).float()", "members.expand(len(annotated), -1, -1).float()",
        (f"{LOSS}::test_a_cell_is_in_the_annotated_regions_of_its_class",),
    ),
    Defect(
        "sets-of-whole-classes", "cases annotate some of the regions of a class", "medseg/losses/targets.py",
        "for n in range(len(own) + 1) for part", "for n in (len(own),) for part",
        (f"{LOSS}::test_a_cell_is_in_the_annotated_regions_of_its_class",),
    ),
)
