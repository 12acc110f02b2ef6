"""Defects in the commands: evaluation, the data doctor, one line for what is wrong."""

from defects import Defect

EVALUATION, REGIONS = "tests/evaluation/test_folders.py", "tests/evaluation/test_regions.py"
DOCTOR = "tests/doctor"
LESIONS, INSTANCES = "tests/metrics/test_lesions.py", "tests/metrics/test_instances.py"
CALIBRATION = "tests/metrics/test_probabilities.py"
DRAWS, PAIRED = "tests/metrics/test_paired_draws.py", "tests/metrics/test_paired.py"

# fmt: off
TABLE = (
    Defect(
        "groups-are-independent", "cases of a group are exchanged as one", "medseg/metrics/paired_draws.py",
        "return cls(taken[:, group_of], exchanged[:, group_of], n)",
        "return cls(taken[:, group_of], rng.random((len(exchanged), len(group_of))) < 0.5, n)",
        (f"{DRAWS}::test_cases_of_a_group_count_as_one",),
    ),
    Defect(
        "one-sided", "the permutation test is two-sided", "medseg/metrics/paired_draws.py",
        "(np.abs(exchanged) < abs(observed) - _SLACK)", "(exchanged < observed - _SLACK)",
        (f"{DRAWS}::test_p_is_that_of_scipys_exact_permutation_test",),
    ),
    Defect(
        "plain-percentiles", "intervals of few groups are expanded", "medseg/metrics/paired_draws.py",
        "tail = 100 * stats.norm.cdf(-quantile)", "tail = 2.5",
        (f"{DRAWS}::test_intervals_and_detectable_differences_hold_what_they_say",),
    ),
    Defect(
        "false-structures-left-out", "a false structure enters the comparison", "medseg/metrics/paired.py",
        "return np.array([[by_row.get((case, name), np.nan) for name in names] for case in cases], dtype=np.float64)",
        "return np.array([[by_row.get((case, name)) or np.nan for name in names] for case in cases], dtype=np.float64)",
        (f"{PAIRED}::test_a_structure_that_only_one_of_them_finds_costs_it",),
    ),
    Defect(
        "ranks-reversed", "a smaller distance is the better rank", "medseg/metrics/metric.py",
        "return -values if self.larger_is_better else values", "return -values",
        (f"{PAIRED}::test_ranks_by_hand",),
    ),
    Defect(
        "worst-is-largest", "the worst group of a distance has the largest", "medseg/metrics/subgroups.py",
        "badness.argmax()", "badness.argmin()",
        (f"{PAIRED}::test_scores_of_a_group_are_those_of_its_cases_alone",),
    ),
    Defect(
        "regions-merged", "classes that share values are judged as regions", "medseg/evaluation/label_table.py",
        "    if not _overlap(names):\n", "    if True:\n",
        (f"{REGIONS}::test_lists_that_share_values_are_regions_as_in_a_dataset_json",
         f"{REGIONS}::test_region_scores_worked_by_hand"),
    ),
    Defect(
        "regions-left-out-of-the-command", "the command after a prediction names regions",
        "medseg/prediction/predict.py",
        "meant |= {r.name: tuple(v for member in r.members for v in raw[member]) for r in labels.regions}",
        "meant |= {}",
        (f"{REGIONS}::test_the_command_after_a_prediction_names_the_regions",),
    ),
    Defect(
        "evaluation-not-reordered", "files in another axis order are the same cells", "medseg/evaluation/cells.py",
        "source = opened if expected is None else on_axes_of(opened, expected)", "source = opened",
        (f"{EVALUATION}::test_files_in_another_axis_order_are_the_same_cells",),
    ),
    Defect(
        "evaluation-shift-accepted", "a prediction on a shifted grid is refused", "medseg/evaluation/cells.py",
        "    if offset <= tolerance:\n", "    if offset <= max(1, tolerance):\n",
        (f"{EVALUATION}::test_shifted_grid",),
    ),
    Defect(
        "evaluation-tolerance-not-capped", "an evaluation takes no tolerance above a voxel",
        "medseg/evaluation/options.py",
        '        checked_tolerance(self.grid_tolerance, "grid_tolerance")\n', "",
        (f"{EVALUATION}::test_tolerances_above_a_voxel_are_refused",),
    ),
    Defect(
        "orphans-passed-over", "labels without a prediction are refused", "medseg/evaluation/pairs.py",
        'if orphans and missing == "error":', "if False:",
        (f"{EVALUATION}::test_orphans",),
    ),
    Defect(
        "unpaired-images-passed-over", "images without a label are refused", "medseg/data/layout/patterns.py",
        "            _check_paired(root, first, files, image_key, key)\n", "            pass\n",
        ("tests/data/layout/test_patterns.py::test_a_case_that_lacks_a_file_is_named",),
    ),
    Defect(
        "labels-turned-wrongly", "{0: background} is turned round", "medseg/labels/declared.py",
        "return {name: int(value) for value, name in labels.items()}",
        "return {name: i for i, name in enumerate(labels.values())}",
        ("tests/test_labels.py::test_values_with_names_are_turned_round",),
    ),
    Defect(
        "text-is-no-value", "a value written as text is a value", "medseg/labels/declared.py",
        "return int(value) if isinstance(value, str) or int(value) == value else None",
        "return int(value) if not isinstance(value, str) and int(value) == value else None",
        ("tests/test_labels.py::test_text_of_a_number_is_a_value",),
    ),
    Defect(
        "metric-names-late", "names of metrics are checked before data is read", "medseg/factory/settings.py",
        '        with _one_line("metric"):\n            instantiate(cfg.metric)(labels=spec.labels)\n', "",
        ("tests/factory/test_settings.py::test_training_ends_before_a_case_is_opened",),
    ),
    Defect(
        "settings-checked-late", "settings are checked before a case is opened", "medseg/factory/run.py",
        "    check_parts(cfg, source.spec, build_transform, labelled=not pretrains)\n", "",
        ("tests/factory/test_settings.py::test_training_ends_before_a_case_is_opened",),
    ),
    Defect(
        "mappings-stay-closed", "open mappings take names", "medseg/hydra_app/overrides.py",
        'return [f"++{word}" if (key := mappings[word]) and _is_open(cfg, key) else word for word in words]',
        "return list(words)",
        ("tests/hydra_app/test_overrides.py::test_every_open_mapping_takes_names",),
    ),
    Defect(
        "files-joined-of-old", "a file that changed is read again", "medseg/hydra_app/caching.py",
        "result.state = (*key, *state)", "result.state = key",
        ("tests/hydra_app/test_caching.py::test_a_file_that_changed_is_read_again",),
    ),
    Defect(
        "store-of-old", "a configuration stored later is seen", "medseg/hydra_app/caching.py",
        "        results.clear()\n", "",
        ("tests/hydra_app/test_caching.py::test_what_is_stored_later_is_seen",),
    ),
    Defect(
        "choices-never-told", "a list of defaults may name a choice", "medseg/hydra_app/caching.py",
        "if any(not entry.is_self() and entry.is_interpolation() for entry in entries):", "if not entries:",
        ("tests/hydra_app/test_caching.py::test_a_list_of_defaults_may_name_a_choice",),
    ),
    Defect(
        "all-mappings-open", "a misspelt key is refused", "medseg/hydra_app/overrides.py",
        "return above if above.rpartition(\".\")[2] in open_names else None", "return above",
        ("tests/hydra_app/test_overrides.py::test_other_mappings_stay_closed",),
    ),
    Defect(
        "nearest-name-not-told", "a misspelt key is told the nearest name", "medseg/hydra_app/explain.py",
        "near = near or similar(name, names)", "near = near or []",
        ("tests/hydra_app/test_overrides.py::test_other_mappings_stay_closed",),
    ),
    Defect(
        "word-for-a-number", "a word in place of a number is refused", "medseg/hydra_app/app.py",
        "            check_numbers(cfg, HydraConfig.get().overrides.task, config_name)\n", "",
        ("tests/hydra_app/test_app.py::test_misspelt_configuration_is_one_line_with_the_right_name",),
    ),
    Defect(
        "failed-job-ends-the-sweep", "-m goes on after a job that failed", "medseg/hydra_app/app.py",
        'if hydra_config.mode != RunMode.MULTIRUN or not', 'if hydra_config.mode == RunMode.MULTIRUN or not',
        ("tests/hydra_app/test_app.py::test_a_failed_job_does_not_end_the_others",),
    ),
    Defect(
        "failed-sweep-ends-with-0", "-m ends with 2 if a job failed", "medseg/hydra_app/app.py",
        "    if failed:\n        _exit_with_error(", "    if failed:\n        print(",
        ("tests/hydra_app/test_app.py::test_a_failed_job_does_not_end_the_others",),
    ),
    Defect(
        "full-disk-traceback", "a full disk is one line", "medseg/runtime/disk.py",
        'errno.ENOSPC: "no space', '-errno.ENOSPC: "no space',
        ("tests/runtime/test_disk.py",),
    ),
    Defect(
        "doctor-ends-with-0", "medseg-check ends with 1 if anything is wrong", "medseg/cli/check.py",
        "    if wrong(findings):\n        sys.exit(1)\n", "    if not findings:\n        sys.exit(1)\n",
        ("tests/cli/test_check.py::test_command_ends_with_1_if_anything_is_wrong_and_writes_json",),
    ),
    Defect(
        "doctor-notes-are-wrong", "a note is nothing wrong", "medseg/doctor/finding.py",
        'return any(finding.severity != "note" for finding in findings)', "return bool(findings)",
        (f"{DOCTOR}/test_finding.py::test_notes_are_nothing_wrong",),
    ),
    Defect(
        "doctor-constant-channel", "the doctor finds a constant channel", "medseg/doctor/examine.py",
        "shapes.balance, channels.constant,", "shapes.balance,",
        (f"{DOCTOR}/checks/test_channels.py::test_constant_channel_is_a_warning",),
    ),
    Defect(
        "doctor-duplicate-in-the-test-set", "a case that is also in the test set is an error",
        "medseg/doctor/checks/duplicates.py",
        "crossing = len({facts.test for facts in group}) > 1", "crossing = all(facts.test for facts in group)",
        (f"{DOCTOR}/checks/test_duplicates.py::test_case_that_is_also_in_the_test_set_is_an_error",),
    ),
    Defect(
        "doctor-swapped-sides", "the doctor finds left on the right", "medseg/doctor/checks/sides.py",
        "(wrong if sum(offsets) > 0 else right).append(facts)", "(wrong if sum(offsets) < 0 else right).append(facts)",
        (f"{DOCTOR}/checks/test_sides.py::test_case_with_left_on_the_right_is_a_warning",),
    ),
    Defect(
        "doctor-unknown-values", "the doctor finds values outside the table", "medseg/doctor/checks/labels.py",
        "unknown = {v: n for v, n in whole.items() if v not in declared}",
        "unknown = {v: n for v, n in whole.items() if v < 0}",
        (f"{DOCTOR}/checks/test_labels.py::test_value_outside_the_table_is_shown_with_its_histogram",),
    ),
    Defect(
        "doctor-shape-of-a-label", "the doctor finds a label of another shape", "medseg/doctor/checks/grids.py",
        "        yield _other_shape(pair)\n", "        return\n",
        (f"{DOCTOR}/checks/test_grids.py::test_label_of_another_shape_is_an_error",),
    ),
    Defect(
        "doctor-refusals-lost", "what a training would refuse is an error of the doctor", "medseg/doctor/examine.py",
        "    findings += files.refused(survey, explained)\n", "",
        (f"{DOCTOR}/checks/test_files.py::test_what_no_check_knows_is_told_as_the_training_would",),
    ),
    Defect(
        "doctor-fixes-the-source", "fix=true never writes into the dataset", "medseg/doctor/fix.py",
        "    if target.resolve().is_relative_to(root.resolve()):\n", "    if target == root:\n",
        (f"{DOCTOR}/test_fix.py",),
    ),
    Defect(
        "doctor-stops-at-a-broken-file", "the doctor goes on behind a broken file", "medseg/doctor/survey.py",
        "_DAMAGE = (InputError, OSError, ValueError, EOFError)", "_DAMAGE = (OSError, EOFError)",
        (f"{DOCTOR}/checks/test_files.py::test_broken_files_are_findings_and_the_others_are_examined",),
    ),
    Defect(
        "small-lesions-count", "lesions below the least volume do not count", "medseg/metrics/objects.py",
        "counted = overlaps.label_cells >= least_cells", "counted = overlaps.label_cells >= 0",
        (f"{LESIONS}::test_small_lesions_do_not_count_neither_way",),
    ),
    Defect(
        "lesions-of-booleans", "components are those of scipy", "medseg/metrics/objects.py",
        "np.ascontiguousarray(mask[box], dtype=np.uint8)", "np.ascontiguousarray(mask[box])",
        (f"{LESIONS}::test_objects_are_those_of_scipy",),
    ),
    Defect(
        "lesion-matched-twice", "above an IoU each lesion matches once", "medseg/metrics/objects.py",
        "if enough and label not in labels and pred not in preds:", "if enough:",
        (f"{LESIONS}::test_one_to_one_above_an_iou_worked_by_hand",),
    ),
    Defect(
        "false-lesions-free", "false lesions count in the Dice of lesions", "medseg/metrics/lesion_dice.py",
        "lesions.counted.sum() + lesions.false.sum()", "lesions.counted.sum()",
        (f"{LESIONS}::test_worked_by_hand",),
    ),
    Defect(
        "missed-case-left-out", "a case without objects on one side costs 0", "medseg/metrics/object_metric.py",
        "np.where(np.asarray(some) > 0, value, np.nan)", "np.where(np.asarray(whole) > 0, value, np.nan)",
        (f"{LESIONS}::test_good_missed_and_false_are_no_mean_of_the_good_one_alone",),
    ),
    Defect(
        "details-of-the-last-case", "details are of all cases", "medseg/metrics/pooled.py",
        "for record in records]).sum(axis=0)", "for record in records])[-1]",
        (f"{LESIONS}::test_sensitivity_by_size_stands_in_the_details",),
    ),
    Defect(
        "pq-from-one-half", "an IoU of one half is no match", "medseg/metrics/panoptic.py",
        "iou=_IOU, strict=True", "iou=_IOU", (f"{INSTANCES}::test_worked_by_hand",),
    ),
    Defect(
        "aji-without-false", "instances without a partner count in AJI", "medseg/metrics/aji.py",
        " + pred_cells[other].sum()", "", (f"{INSTANCES}::test_what_merges_and_what_splits",),
    ),
    Defect(
        "cldice-one-way", "clDice has both shares", "medseg/metrics/cldice.py",
        "(of_label & pred).sum(), of_label.sum()", "(of_pred & label).sum(), of_pred.sum()",
        ("tests/metrics/test_cldice.py::test_worked_by_hand",),
    ),
    Defect(
        "masd-over-cells", "both surfaces weigh the same in MASD", "medseg/metrics/masd.py",
        "float(sum(directed.mean() for directed in distances) / 2)",
        "float(sum(directed.sum() for directed in distances) / sum(map(len, distances)))",
        ("tests/metrics/test_surface.py::test_a_large_surface_weighs_more_in_the_mean_over_cells_alone",),
    ),
    Defect(
        "bias-is-a-criterion", "no selection is made by a signed metric", "medseg/selection/predictions.py",
        " and metric.larger_is_better is not None", "", ("tests/metrics/test_volumes.py::test_a_bias_is_no_criterion",),
    ),
    Defect(
        "ece-of-empty-bins", "bins weigh by their cells", "medseg/metrics/probabilities.py",
        "gap = np.abs(table[..., 1] - table[..., 2]).sum(axis=-1)",
        "gap = np.abs((table[..., 1] - table[..., 2]).sum(axis=-1))",
        (f"{CALIBRATION}::test_worked_by_hand", f"{CALIBRATION}::test_equals_torchmetrics_and_torch"),
    ),
    Defect(
        "scores-as-probabilities", "probabilities sum to one", "medseg/metrics/probabilities.py",
        "    if gap > _TOLERANCE:\n", "    if False:\n",
        (f"{CALIBRATION}::test_what_are_no_probabilities_is_refused_in_one_line",),
    ),
    Defect(
        "hidden-probability-lost", "the probability of unknown classes is the background's",
        "medseg/metrics/probabilities.py",
        "[output, *(hidden if output == 0 else [])]", "[output]",
        (f"{CALIBRATION}::test_a_class_that_is_not_annotated_counts_as_the_background",),
    ),
)
# fmt: on
