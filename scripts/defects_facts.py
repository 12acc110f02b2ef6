"""Defects in facts of cases and in classes of cases: what they are, who sees them, and how they are scored."""

from defects import Defect

FACTS, TRAINED = "tests/test_facts.py", "tests/training/test_case_facts.py"
TABLE_TESTS, PATH = "tests/data/layout/test_case_table.py", "tests/models/test_case_path.py"
OBSERVERS = "tests/data/datasets/test_several_observers.py"
DATASET = "tests/data/datasets/test_with_facts.py"
PATCHES, SOFT = "tests/data/datasets/test_patches_of_observers.py", "tests/losses/test_soft_labels.py"
DRAWN, MOVED = "tests/data/sampling/test_observed.py", "tests/transforms/test_soft_labels.py"

# fmt: off
TABLE = (
    Defect(
        "facts-of-every-case", "facts have the statistics of the training cases", "medseg/factory/run.py",
        "fitted = source.fitted(cases.train)", "fitted = source.fitted([*cases.train, *cases.val])",
        (f"{DATASET}::test_batches_have_facts_by_the_training_cases_and_no_cache_key_changes",),
    ),
    Defect(
        "facts-in-cache-keys", "another table prepares nothing anew", "medseg/data/datamodule.py",
        '"spec": self.spec.of_cells.to_dict(),', '"spec": self.spec.to_dict(),',
        (f"{DATASET}::test_batches_have_facts_by_the_training_cases_and_no_cache_key_changes",),
    ),
    Defect(
        "missing-is-zero-age", "a missing number is said to be missing", "medseg/facts.py",
        "return [0.0, 1.0] if is_missing(value)", "return [0.0, 0.0] if is_missing(value)",
        (f"{FACTS}::test_numbers_are_standardised_by_the_training_cases",),
    ),
    Defect(
        "unknown-word-is-none", "a word that training lacks counts as missing", "medseg/facts.py",
        "without = is_missing(value) or (bool(parts) and not any(indicators))", "without = is_missing(value)",
        (f"{FACTS}::test_values_that_training_lacks_count_as_missing",),
    ),
    Defect(
        "words-in-numbers", "a number column with words in it is refused", "medseg/facts.py",
        "if len(words) * 2 < len(present):", "if False:",
        (f"{FACTS}::test_a_column_of_numbers_with_a_word_in_it_is_refused",),
    ),
    Defect(
        "byte-order-mark-kept", "a byte order mark is no part of a name", "medseg/data/splits/table.py",
        'encoding="utf-8-sig"', 'encoding="utf-8"',
        (f"{TABLE_TESTS}::test_commas_semicolons_tabs_and_byte_order_marks",),
    ),
    Defect(
        "rows-of-no-case", "rows of no case are refused", "medseg/data/layout/case_table.py",
        "        if extra:\n", "        if False:\n",
        (f"{TABLE_TESTS}::test_cases_without_a_row_and_rows_of_no_case",),
    ),
    Defect(
        "prefix-tokens-pooled", "tokens without a place are no cells", "medseg/models/case_path.py",
        "cells = feature[:, prefix:].transpose(1, 2)", "cells = feature.transpose(1, 2)",
        (f"{PATH}::test_the_head_reads_every_level_without_prefix_tokens_and_facts",),
    ),
    Defect(
        "facts-dropped-in-training", "a network that takes facts gets them", "medseg/models/case_path.py",
        "encoded = self._missing(features[0]) if facts is None else facts", "encoded = self._missing(features[0])",
        (f"{PATH}::test_film_begins_as_the_identity_and_learns_from_facts",),
    ),
    Defect(
        "unknown-classes-learned", "a case without a class is left out", "medseg/losses/case_cross_entropy.py",
        "has_class = case_label >= 0", "has_class, case_label = case_label > -9, case_label.clamp_min(0)",
        ("tests/losses/test_case_cross_entropy.py::test_mean_over_the_cases_whose_class_is_known",),
    ),
    Defect(
        "ties-are-won", "ties count half", "medseg/metrics/case_labels.py",
        "return float((1 + higher.mean()) / 2)", "return float((higher >= 0).mean())",
        ("tests/metrics/test_case_labels.py::test_ties_count_half",),
    ),
    Defect(
        "facts-not-encoded", "facts are encoded as the network was trained with them", "medseg/inference/predictor.py",
        "at_case(self.network, sample.facts, self.spec.facts, case_logits)",
        "at_case(self.network, sample.facts, (), case_logits)",
        (f"{TRAINED}::test_arrays_are_predicted_with_facts_by_name",),
    ),
    Defect(
        "any-table-will-do", "label files of another table are not kept", "medseg/prediction/loading.py",
        "        **table_settings(cfg),\n", "",
        (f"{TRAINED}::test_new_cases_are_predicted_with_the_facts_of_a_table",),
    ),
    Defect(
        "ignored-cells-vote", "what an observer ignores is no vote", "medseg/data/datasets/several_observers.py",
        "counted = (votes != IGNORE).all(axis=0)", "counted = (votes != IGNORE).any(axis=0)",
        (f"{OBSERVERS}::test_staple_trusts_observers_that_agree",),
    ),
    Defect(
        "one-join-for-all-rules", "another rule joins labels anew", "medseg/data/datasets/several_observers.py",
        '"rule": STAPLE if self.rule == STAPLE else MAJORITY,', "",
        (f"{OBSERVERS}::test_the_label_of_a_case_is_that_of_the_majority",),
    ),
    Defect(
        "observer-of-the-sample-alone", "the observer is a function of seed, step and sample",
        "medseg/data/sampling/observed.py", "[seed, _OBSERVER, step, sample]", "[seed, _OBSERVER, sample]",
        (f"{DRAWN}::test_observers_come_equally_often_and_as_a_function_of_the_key",),
    ),
    Defect(
        "draw-takes-the-majority", "a patch has the label of one observer", "medseg/data/sampling/observed.py",
        "return replace(window, label=votes[0], votes=None)", "return replace(window, votes=None)",
        (f"{PATCHES}::test_each_patch_has_the_label_of_the_observer_that_its_key_draws",),
    ),
    Defect(
        "another-observer-is-read", "those observers are read that are asked for", "medseg/data/store/stored_case.py",
        "_Row(self._votes, i), box, IGNORE)[0] for i in votes]",
        "_Row(self._votes, i), box, IGNORE)[0] for i in sorted(votes)]",
        (f"{PATCHES}::test_the_store_holds_every_observer_and_reads_those_that_are_asked_for",),
    ),
    Defect(
        "ignoring-is-a-share", "what an observer ignores is no vote", "medseg/data/sampling/observed.py",
        "total = counts.sum(axis=0)", "total = np.full(label.shape, len(votes))",
        (f"{DRAWN}::test_shares_by_hand",),
    ),
    Defect(
        "votes-of-old-files", "labels of observers are part of the keys of the store", "medseg/data/case.py",
        "return [*own, *self.votes]", "return own",
        (f"{PATCHES}::test_the_store_holds_every_observer_and_reads_those_that_are_asked_for",),
    ),
    Defect(
        "votes-not-resampled", "labels of observers are resampled each by itself",
        "medseg/data/preprocessing/preprocess.py",
        "return np.stack([resample_label(own, sample.grid, shape) for own in sample.votes])",
        "return np.stack([resample_label(sample.votes[0], sample.grid, shape) for _ in sample.votes])",
        (f"{PATCHES}::test_labels_of_volumes_are_turned_cropped_and_resampled_each_by_itself",),
    ),
    Defect(
        "shares-not-flipped", "soft labels move with the label", "medseg/transforms/spatial.py",
        "_flip([image, label, valid, soft], ", "_flip([image, label, valid], ",
        (f"{MOVED}::test_soft_labels_of_one_observer_stay_with_the_label",),
    ),
    Defect(
        "shares-not-turned", "soft labels move with the label", "medseg/transforms/turns.py",
        "for whole in (image, label, valid, *(() if soft is None else (soft,))):",
        "for whole in (image, label, valid):",
        (f"{MOVED}::test_soft_labels_of_one_observer_stay_with_the_label",),
    ),
    Defect(
        "shares-not-pasted", "soft labels move with the label", "medseg/transforms/mix.py",
        "soft = None if batch.soft is None else pasted(batch.soft, pastes)", "soft = batch.soft",
        (f"{MOVED}::test_soft_labels_of_one_observer_stay_with_the_label",),
    ),
    Defect(
        "shares-below-one", "soft labels sum to 1 next to ignored cells", "medseg/transforms/warp.py",
        "blended / total.clamp_min(_LEAST), 0.0)", "blended, 0.0)",
        (f"{MOVED}::test_soft_labels_of_one_observer_stay_with_the_label",),
    ),
    Defect(
        "sides-of-shares-kept", "a mirror across the body exchanges the shares of sides",
        "medseg/transforms/spatial.py",
        'soft = self._exchanged(soft, params["flip"], self.mirror_classes)', "",
        (f"{MOVED}::test_a_mirror_across_the_body_exchanges_the_shares_of_sides",),
    ),
    Defect(
        "soft-product", "soft Dice is lowest at the shares", "medseg/losses/overlap.py",
        "both = torch.minimum(prob, target)", "both = prob * target",
        (f"{SOFT}::test_dice_is_lowest_where_probabilities_are_the_shares",),
    ),
    Defect(
        "soft-ignored-cells-count", "ignored cells do not count", "medseg/losses/cross_entropy.py",
        "share = soft.to(log_prob) * counted[:, None]", "share = soft.to(log_prob)",
        (f"{SOFT}::test_ignored_and_invalid_cells_do_not_count",),
    ),
    Defect(
        "fine-shares-at-coarse-levels", "soft labels come to coarse levels as labels do",
        "medseg/losses/deep_supervision.py",
        "return coarsen(soft.flatten(0, 1), shape).unflatten(0, soft.shape[:2])",
        "return soft[(..., *(slice(n) for n in shape))]",
        (f"{SOFT}::test_deep_supervision_takes_soft_labels_where_it_takes_labels",),
    ),
    Defect(
        "hard-loss-of-soft-labels", "a loss that takes no soft labels is refused", "medseg/factory/loss.py",
        "if not takes_soft(term)]", "if False]",
        (f"{PATCHES}::test_soft_labels_of_a_loss_that_takes_none_are_refused",),
    ),
    Defect(
        "class-scores-choose-nothing", "a score of the classes of cases may choose the checkpoint",
        "medseg/factory/trainer.py", 'if cfg.data.get("case_label") is not None:', "if False:",
        ("tests/training/test_monitor.py::test_monitor_is_that_of_the_metrics_unless_one_is_named",),
    ),
    Defect(
        "pairs-count-what-is-ignored", "what one of a pair ignores does not count", "medseg/metrics/observers.py",
        "votes[second], valid & (own != IGNORE), **place)", "votes[second], valid, **place)",
        ("tests/metrics/test_observers.py::test_what_one_of_a_pair_ignores_does_not_count",),
    ),
    Defect(
        "one-direction-of-pairs", "agreement is over ordered pairs", "medseg/metrics/observers.py",
        "in permutations(votes, 2):", "in list(permutations(votes, 2))[:1]:",
        ("tests/metrics/test_observers.py::test_two_observers_by_hand",),
    ),
    Defect(
        "first-observer-is-the-label", "scores are those of the majority", "medseg/evaluation/observers.py",
        "        label=label,\n", "",
        ("tests/evaluation/test_observers.py::test_scores_against_the_majority_each_observer_and_of_the_observers",),
    ),
    Defect(
        "runner-forgets-missing", "the runner encodes facts as medseg does", "medseg/export/runner.py",
        "return [0.0, 1.0] if missing else", "return [0.0, 0.0] if missing else",
        ("tests/export/test_runner.py::test_facts_are_encoded_as_medseg_does",),
    ),
    Defect(
        "runner-keeps-the-last-case", "the class of a case is that of its own windows", "medseg/export/runner.py",
        "self._encoded, self.case_logits = None, []\n        if", "self._encoded = None\n        if",
        (f"{TRAINED}::test_an_export_takes_facts_and_writes_classes_as_the_package_does",),
    ),
)
# fmt: on
