"""Defects in facts of cases and in classes of cases: what they are, who sees them, and how they are scored."""

from defects import Defect

FACTS, TRAINED = "tests/test_facts.py", "tests/training/test_case_facts.py"
TABLE_TESTS, PATH = "tests/data/layout/test_case_table.py", "tests/models/test_case_path.py"
OBSERVERS = "tests/data/datasets/test_several_observers.py"
DATASET = "tests/data/datasets/test_with_facts.py"

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
        "encoded = missing.expand(len(features[0]), -1) if facts is None else facts",
        "encoded = missing.expand(len(features[0]), -1)",
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
        'settings = {"rule": self.rule, ', "settings = {",
        (f"{OBSERVERS}::test_the_label_of_a_case_is_that_of_the_majority",),
    ),
)
# fmt: on
