"""Defects in cross-validation, balanced folds, post-processing and the selection of networks."""

from defects import Defect

FOLDS, JOB = "tests/sweeps/test_cross_validation.py", "tests/training/test_sweep_job.py"
STRATA, LEAKAGE = "tests/data/splits/test_strata.py", "tests/data/splits/test_leakage.py"
POST, SELECTION = "tests/inference/test_postprocess.py", "tests/selection"

# fmt: off
TABLE = (
    Defect(
        "fold-not-merged", "folds together are what one run would have scored", "medseg/metrics/accumulate.py",
        "            self.records[case] = CaseRecord(np.array(record", "            CaseRecord(np.array(record",
        (f"{FOLDS}::test_folds_together_are_what_one_run_would_have_scored",),
    ),
    Defect(
        "missing-cases-not-named", "cases of a fold without scores are named", "medseg/sweeps/cross_validation.py",
        "tuple(sorted(split - fold_of.keys()))", "()",
        (f"{FOLDS}::test_cases_of_a_fold_without_scores_are_named",),
    ),
    Defect(
        "case-of-two-folds-accepted", "a case is predicted once", "medseg/sweeps/cross_validation.py",
        "if fold_of.setdefault(case, fold) != fold:", "if not fold_of.setdefault(case, fold) >= 0:",
        (f"{FOLDS}::test_a_case_of_two_folds_is_refused",),
    ),
    Defect(
        "stale-scores-finish-a-job", "a job that went on after its scores is not finished",
        "medseg/training/sweep_job.py",
        "return not differing and _same_end(stored, cfg) and _newer(scores, written)",
        "return not differing and _same_end(stored, cfg)",
        (f"{JOB}::test_a_job_without_scores_of_its_last_checkpoint_is_not_finished",),
    ),
    Defect(
        "another-job-skipped", "a folder of other settings is refused", "medseg/training/sweep_job.py",
        "    if differing and not asked:\n", "    if False:\n",
        (f"{JOB}::test_other_settings_are_one_line_unless_the_command_resumes",),
    ),
    Defect(
        "strata-passed-over", "a rare class is in every fold", "medseg/data/splits/strata.py",
        "fold = int(np.argmin((held * amounts[i] / share).sum(axis=1).round(9)))", "fold = int(np.argmin(held[:, 0]))",
        (f"{STRATA}::test_a_rare_stratum_is_in_every_fold",
         f"{STRATA}::test_several_strata_of_a_case_are_balanced_at_once"),
    ),
    Defect(
        "copied-cells-not-sought", "the same volume with another header is found", "medseg/data/splits/leakage.py",
        "first.setdefault(cells(case), case.id)", "first.setdefault(case.id, case.id)",
        (f"{LEAKAGE}::test_the_same_cells_with_another_header_are_found_and_other_shapes_are_not_read",),
    ),
    Defect(
        "hole-fills-other-classes", "other classes in a hole stay", "medseg/inference/postprocess.py",
        "free = (found > 0) & ((index == 0) | (index == structure.removed))", "free = found > 0",
        (f"{POST}::test_holes_are_enclosed_background_and_other_classes_in_them_stay",),
    ),
    Defect(
        "inner-region-leaves-a-hole", "a removed part of an inner region becomes the region around it",
        "medseg/inference/postprocess.py",
        "outer.paint if outer else 0", "0",
        (f"{POST}::test_a_removed_part_of_an_inner_region_becomes_the_region_around_it",),
    ),
    Defect(
        "size-in-cells", "sizes are in the unit of the grid", "medseg/inference/postprocess.py",
        "return size / float(np.prod(grid.spacing)) * (1 - 1e-9)", "return size * (1 - 1e-9)",
        (f"{POST}::test_sizes_are_in_the_unit_of_the_grid",),
    ),
    Defect(
        "gain-without-evidence", "the null choice wins unless the gain is significant", "medseg/selection/decisions.py",
        "return self.interval is not None and self.interval[0] > 0", "return self.gain > 0",
        (f"{SELECTION}/test_decisions.py::test_a_gain_whose_interval_includes_0_does_not",),
    ),
    Defect(
        "predicted-by-a-network-that-saw-it", "each case is predicted by the network that did not see it",
        "medseg/selection/unseen.py",
        "network = member.networks[member.network_of[sample.case]]", "network = member.networks[0]",
        (f"{SELECTION}/test_select.py::test_each_case_is_predicted_by_the_network_that_did_not_see_it",),
    ),
    Defect(
        "seen-cases-accepted", "a network that trained on its validation cases is refused",
        "medseg/selection/members.py",
        "if seen := sorted(set(val) & set(train)):", "if seen := sorted(set(val) - set(val)):",
        (f"{SELECTION}/test_members.py::test_what_cannot_be_a_member_is_one_line",),
    ),
    Defect(
        "votes-instead-of-probabilities", "probabilities are averaged before the decision",
        "medseg/selection/predictions.py",
        "    mean = sum(probabilities[1:], start=probabilities[0]) / len(probabilities)\n",
        "    mean = probabilities[0]\n",
        (f"{SELECTION}/test_select.py::test_probabilities_are_averaged_before_the_decision",),
    ),
)
# fmt: on
