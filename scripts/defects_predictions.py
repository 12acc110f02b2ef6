"""Defects in predictions: what is kept, what belongs to which checkpoint, on which grid."""

from defects import Defect

RECORD, JOBS = "tests/prediction/test_record.py", "tests/prediction/test_jobs.py"

# fmt: off
TABLE = (
    Defect(
        "stale-prediction-kept", "files of another checkpoint are not kept", "medseg/prediction/record.py",
        'if entry["origin"] != self.origin.key:\n            maker', 'if not entry["origin"]:\n            maker',
        (f"{JOBS}::test_a_newer_checkpoint_never_keeps_older_files",),
    ),
    Defect(
        "settings-not-in-the-origin", "files with other settings are not kept", "medseg/prediction/record.py",
        "json.dumps([self.checkpoint, self.settings], sort_keys=True)", "json.dumps([self.checkpoint], sort_keys=True)",
        (f"{RECORD}::test_another_origin_is_a_conflict",),
    ),
    Defect(
        "changed-images-kept", "files of images that changed are not kept", "medseg/prediction/record.py",
        '        if not _same(entry["images"], images):\n            return OTHER_IMAGES\n', "",
        (f"{RECORD}::test_what_was_changed_since_is_a_conflict",),
    ),
    Defect(
        "edited-files-kept", "files that were edited are not taken for the prediction", "medseg/prediction/record.py",
        'if known["sha256"] != digest_of(self.folder / name):', "if False:",
        (f"{RECORD}::test_what_was_changed_since_is_a_conflict",),
    ),
    Defect(
        "unfinished-files-trusted", "files of a killed command are not trusted", "medseg/prediction/record.py",
        'entry | {"unfinished": sorted(set(outputs) - set(kept))}', 'entry | {"unfinished": []}',
        (f"{RECORD}::test_files_of_a_killed_command_are_not_trusted_and_no_conflict",),
    ),
    Defect(
        "old-polygons-stay", "polygons of old labels do not stay", "medseg/prediction/record.py",
        "                (self.folder / old).unlink(missing_ok=True)\n", "                pass\n",
        (f"{JOBS}::test_overwriting_leaves_no_polygons_of_the_old_labels",),
    ),
    Defect(
        "slices-not-counted", "every slice of a series counts", "medseg/prediction/record.py",
        "found += sorted(path for path in image.iterdir() if path.is_file())", "found += sorted(image.iterdir())[:1]",
        (f"{RECORD}::test_every_slice_and_detached_file_counts",),
    ),
    Defect(
        "record-of-one-process", "two commands fill one folder", "medseg/prediction/journal.py",
        "        if seen != self._seen:\n", '        if "nothing" in self._seen:\n',
        ("tests/prediction/test_journal.py::test_processes_that_share_a_file_see_what_the_others_did",),
    ),
    Defect(
        "cut-line-kept", "what a kill left of a line is cut off", "medseg/prediction/journal.py",
        "                file.truncate(self._offset)  # what a kill left of a line\n", "",
        ("tests/prediction/test_journal.py::test_a_line_that_a_kill_cut_is_left_out_and_overwritten",),
    ),
    Defect(
        "polygons-not-completed", "a killed command's polygons are written by the next", "medseg/prediction/jobs.py",
        "if overwrite or set(request.outputs(job.label)) - job.finding.valid]",
        'if overwrite or "labels" not in job.finding.valid]',
        (f"{JOBS}::test_a_prediction_killed_before_its_polygons_writes_them",),
    ),
    Defect(
        "area-not-an-option", "polygons of another least area are written anew", "medseg/prediction/jobs.py",
        'return {"polygons": {**settings, ', 'return {"polygons": {',
        (f"{JOBS}::test_outputs_can_be_added_to_a_finished_folder",),
    ),
    Defect(
        "damaged-image-ends-all", "a damaged image does not stop the others", "medseg/prediction/jobs.py",
        "                    self._fail(job, made.reason)\n",
        "                    self._fail(job, made.reason)\n                    self._waiting.clear()\n",
        (f"{JOBS}::test_a_damaged_image_does_not_stop_the_others",),
    ),
    Defect(
        "conflicts-not-checked", "medseg-predict refuses files that it would not write", "medseg/prediction/predict.py",
        "        check_conflicts(jobs, target)\n", "        pass\n",
        ("tests/prediction/test_bad_input.py::test_files_of_an_older_checkpoint_are_not_kept",),
    ),
    Defect(
        "digest-without-weights", "checkpoints of other weights differ", "medseg/checkpoint.py",
        "            total.update(weights.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)\n", "",
        ("tests/prediction/test_bad_input.py::test_files_of_an_older_checkpoint_are_not_kept",
         "tests/prediction/test_record.py"),
    ),
    Defect(
        "image-replaced", "a label file never replaces its image", "medseg/prediction/targets.py",
        "if (folder / label).resolve() in {path.resolve() for path in case.images}:", "if False:",
        ("tests/prediction/test_targets.py",
        "tests/prediction/test_bad_input.py::test_output_in_the_folder_of_the_images"),
    ),
    Defect(
        "grid-not-restored", "a label lies on the very cells of its image", "medseg/inference/case_logits.py",
        "return np.ascontiguousarray(reorient_back(whole, self.axes, self.flips))",
        "return np.ascontiguousarray(whole)",
        ("tests/inference/test_predictor.py::test_right_is_the_right_of_the_patient",
         "tests/inference/test_predictor.py::test_label_lies_on_the_very_cells_of_the_image"),
    ),
    Defect(
        "crop-not-pasted-back", "what preprocessing cropped is pasted back", "medseg/inference/case_logits.py",
        "        whole[self.box.slices] = np.moveaxis(cells, 0, self.axis)\n",
        "        whole[tuple(slice(n) for n in self.box.shape)] = np.moveaxis(cells, 0, self.axis)\n",
        ("tests/data/preprocessing/test_preprocess.py::test_crop_to_content_and_paste_back",),
    ),
    Defect(
        "weights-not-loaded", "a checkpoint's weights predict", "medseg/factory/stored.py",
        "        net.load_state_dict(dict(state))\n", "        dict(state)\n",
        ("tests/training/test_train.py::test_prediction_of_files_equals_the_judgement_of_the_run",),
    ),
    Defect(
        "nan-network-predicts", "a network that is not finite is named", "medseg/inference/case_logits.py",
        "if not torch.isfinite(slab.logits.sum()):", "if torch.isinf(slab.logits).any():",
        ("tests/inference/test_predictor.py::test_network_that_is_not_finite_is_named_and_not_the_data",),
    ),
    Defect(
        "rows-dropped-early", "rows are resampled as whole images are", "medseg/inference/rows.py",
        "min(past, int(index[done].min()))", "int(index[done].min())",
        ("tests/inference/test_rows.py::test_rows_are_resampled_as_whole_images_are",),
    ),
    Defect(
        "ensemble-of-the-first", "probabilities of members are averaged", "medseg/inference/rows.py",
        "mean = torch.stack(probs).mean(0)", "mean = probs[0]",
        ("tests/inference/test_rows.py::test_probabilities_are_averaged_whatever_rows_come_together",),
    ),
    Defect(
        "members-of-other-classes", "members of an ensemble have the same classes", "medseg/inference/ensemble.py",
        "        if own != other:\n", '        if own != other and name == "axes":\n',
        ("tests/inference/test_ensemble.py::test_members_of_other_channels_or_classes_are_refused",),
    ),
    Defect(
        "selection-of-other-weights", "a selection holds for its checkpoints alone", "medseg/prediction/checkpoints.py",
        "if expected is not None and loaded.digest != expected:", "if expected is not None and not loaded.digest:",
        ("tests/prediction/test_ensembles.py::test_a_selection_made_for_another_checkpoint_is_refused",),
    ),
    Defect(
        "scene-not-post-processed", "scenes are post-processed as arrays are", "medseg/prediction/file_predictor.py",
        "        if self.arrays.postprocess is not None:\n", "        if self.arrays.postprocess is None:\n",
        ("tests/prediction/test_ensembles.py::test_a_selection_says_members_and_post_processing",),
    ),
    Defect(
        "runner-other-spline", "the exported runner resamples as medseg", "medseg/export/runner.py",
        "_POLE = 3**0.5 - 2", "_POLE = 3**0.5 - 1.99",
        ("tests/export/test_runner.py::test_resampling_is_that_of_scipy",),
    ),
    Defect(
        "runner-sides-not-exchanged", "the exported runner exchanges left and right in mirrors",
        "medseg/export/runner.py",
        'logits[:, swap] if swap and tiling["lateral_axis"] in subset else logits', "logits",
        ("tests/export/test_runner.py::test_an_oblique_volume_is_that_of_medseg",),
    ),
    Defect(
        "export-without-parity", "an export that predicts otherwise is refused", "medseg/export/parity.py",
        "    if worst.largest_difference > tolerance:\n", "    if worst.largest_difference > 1:\n",
        ("tests/export/test_export.py::test_a_difference_above_the_tolerance_leaves_nothing",),
    ),
    Defect(
        "names-by-final-test", "final scores on validation cases are not called test", "medseg/training/tracking.py",
        'return "test" if result["policy"]["cases"] == TEST_SET else "val_final"', 'return "test"',
        ("tests/training/test_tracking.py::test_final_scores_are_named_after_the_cases_that_they_are_of",),
    ),
    Defect(
        "cascade-sides-in-training", "left and right of a first stage are exchanged in mirror images",
        "medseg/transforms/compose.py",
        "        self._spatial.exchange_sides(numbers, params[spatial][\"flip\"])\n", "",
        ("tests/transforms/test_class_channel.py::"
         "test_a_mirror_across_the_body_exchanges_the_sides_of_class_numbers_exactly",),
    ),
    Defect(
        "cascade-sides-at-test-time", "and at test time", "medseg/inference/flips.py",
        "            if mirror_classes and lateral_axis in subset:\n", "            if False:\n",
        ("tests/inference/test_cascade.py::test_a_mirror_across_the_body_exchanges_the_sides_that_the_network_sees",),
    ),
    Defect(
        "cascade-classes-interpolated", "class numbers are resampled as a label",
        "medseg/data/preprocessing/preprocess.py",
        "        if self.rules[-1].scheme != CLASSES:\n", "        if True:\n",
        ("tests/data/preprocessing/test_preprocess.py::"
         "test_class_numbers_are_resampled_as_the_label_and_never_between_classes",),
    ),
    Defect(
        "cascade-seen-cases", "a first network that saw the validation cases is refused", "medseg/factory/run.py",
        "    first.check_unseen(cases.val)\n", "",
        ("tests/sweeps/test_cascade.py::test_a_first_stage_that_does_not_fit_is_refused",),
    ),
)
# fmt: on
