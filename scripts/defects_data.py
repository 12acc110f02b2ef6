"""Defects in how files are read, placed, trusted and stored."""

from defects import Defect

HOSTILE, HEADER = "tests/formats/test_hostile.py", "tests/formats/test_itk_header.py"
SCENES, VOLUMES = "tests/data/reading/test_open_case_scenes.py", "tests/data/reading/test_open_case_volumes.py"
TRUST = "tests/factory/test_trust.py"
ABSENT = "tests/data/datasets/test_absent_groups.py"

# fmt: off
TABLE = (
    Defect(
        "trust-not-checked", "a stored configuration builds trusted classes alone", "medseg/prediction/restore.py",
        '    trusted.check(loaded.metadata.config, f"checkpoint={path}", trust)\n', "",
        (f"{TRUST}::test_other_classes_in_a_file_never_run",),
    ),
    Defect(
        "trust-of-the-top-alone", "nested classes are checked, too", "medseg/factory/trust.py",
        'if isinstance(node, Mapping) and "_target_" in node:\n                _check_target',
        'if key in PARTS and isinstance(node, Mapping) and "_target_" in node:\n                _check_target',
        (f"{TRUST}::test_other_classes_never_run",),
    ),
    Defect(
        "arguments-without-names", "_args_ of a stored configuration is refused", "medseg/factory/trust.py",
        '    "_partial_": (True, False),\n', '    "_partial_": (True, False),\n    "_args_": ([1],),\n',
        (f"{TRUST}::test_further_directives_are_refused",),
    ),
    Defect(
        "directives-not-checked", "words by which Hydra does more than build are refused", "medseg/factory/trust.py",
        "                _check_directives(node, key, source)\n", "                pass\n",
        (f"{TRUST}::test_arguments_without_names_are_refused_around_an_honest_class",
         f"{TRUST}::test_further_directives_are_refused"),
    ),
    Defect(
        "re-exports-allowed", "what a module of medseg imports is not trusted", "medseg/factory/trust.py",
        "return found if at == (place, name) else None", "return found",
        (f"{TRUST}::test_what_is_no_network_is_none",),
    ),
    Defect(
        "trust-by-prefix", "trust=[my] does not trust my_other", "medseg/factory/trust.py",
        'return any(path == name or path.startswith(f"{name}.") for name in trusted)',
        "return any(path.startswith(name) for name in trusted)",
        (f"{TRUST}::test_own_classes_need_trust",),
    ),
    Defect(
        "interpolations-resolved", "a stored configuration reads no environment", "medseg/factory/trust.py",
        'if isinstance(value, str) and "${" in value:', 'if isinstance(value, str) and value.startswith("${oc.env"):',
        (f"{TRUST}::test_interpolations_are_not_resolved",),
    ),
    Defect(
        "stored-file-names-loaded", "a stored configuration names no file to load", "medseg/factory/trust.py",
        'if name in _FILES and value not in (None, False, ""):', "if False:",
        (f"{TRUST}::test_settings_may_not_name_files_to_load",),
    ),
    Defect(
        "checkpoint-unpickled", "nothing in a checkpoint is unpickled", "medseg/checkpoint.py",
        "weights_only=True, mmap=True", "weights_only=False, mmap=True",
        ("tests/test_checkpoint.py::test_bad_checkpoints_are_refused",),
    ),
    Defect(
        "weights-unpickled", "nothing in a file of weights is unpickled", "medseg/weights/archive.py",
        'torch.load(path, map_location="cpu", weights_only=True)',
        'torch.load(path, map_location="cpu", weights_only=False)',
        ("tests/weights/test_archive.py::test_code_is_refused_and_never_runs",),
    ),
    Defect(
        "checksum-of-a-checkpoint", "a bit that flips in a checkpoint is noticed", "medseg/checkpoint.py",
        '    integrity.check(loaded, f"checkpoint={source}", needed)\n', "",
        ("tests/runtime/test_integrity.py::test_no_flipped_bit_changes_a_network_in_silence",),
    ),
    Defect(
        "checksum-of-an-optimiser", "a bit that flips in an optimiser's state is noticed", "medseg/checkpoint.py",
        '    integrity.check(held, f"checkpoint={path}")\n', "",
        ("tests/runtime/test_integrity.py::test_the_state_of_an_optimiser_is_checked_when_a_training_goes_on",),
    ),
    Defect(
        "checksum-not-written", "a checkpoint holds its checksums", "medseg/checkpoint.py",
        'integrity.add(held) if "medseg" in held else dict(held)', "held",
        ("tests/runtime/test_integrity.py", "tests/test_checkpoint.py"),
    ),
    Defect(
        "chunk-checksum", "a chunk of the store that was altered is refused", "medseg/data/store/checked_array.py",
        "if zlib.crc32(self._array.schunk.get_chunk(number)) != self._checksums[number]:", "if False:",
        ("tests/data/store/test_checked_array.py::test_only_chunks_that_a_window_touches_are_compared",),
    ),
    Defect(
        "facts-checksum", "what the store knows of a case has a checksum", "medseg/data/store/stored_case.py",
        'if stored.pop("crc32", None) != _checksum(stored):', 'if stored.pop("crc32", None) is None:',
        ("tests/data/store/test_stored_case.py::test_facts_that_are_altered_are_damage",),
    ),
    Defect(
        "damaged-entry-ends-training", "a damaged case of the store is prepared again", "medseg/data/datamodule.py",
        "            shutil.rmtree(folder)\n            return False\n", "            return True\n",
        ("tests/data/test_datamodule.py",),
    ),
    Defect(
        "companions-left-out", "the data file of a header is part of the key", "medseg/data/store/content_hash.py",
        "            yield from companions(part)\n", "",
        ("tests/data/store/test_content_hash.py::test_companions_count",),
    ),
    Defect(
        "quick-hash-left-out", "a file replaced at the same size and time is read again",
        "medseg/data/store/content_hash.py",
        ":{quick_hash(part)}", "",
        ("tests/data/store/test_content_hash.py::test_a_file_replaced_by_one_of_the_same_size_and_time",),
    ),
    Defect(
        "quick-hash-of-the-start", "the quick hash reads the end of a file", "medseg/data/store/content_hash.py",
        "stream.seek(number * (size - _BLOCK) // (_BLOCKS - 1))", "stream.seek(number * (size - _BLOCK) // _BLOCKS)",
        ("tests/data/store/test_content_hash.py::test_a_file_replaced_by_one_of_the_same_size_and_time",),
    ),
    Defect(
        "fifo-opened", "a named pipe is not waited for", "medseg/formats/read_write.py",
        "if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):", "if stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):",
        (f"{HOSTILE}::test_a_named_pipe_or_a_device_is_not_opened",),
    ),
    Defect(
        "bomb-expanded", "a decompression bomb is not expanded", "medseg/formats/sizes.py",
        "if compressed and promised > max(SUSPICIOUS_BYTES, SUSPICIOUS_RATIO * stored):",
        "if compressed and promised > SUSPICIOUS_BYTES * SUSPICIOUS_RATIO:",
        (f"{HOSTILE}::test_a_bomb_is_not_expanded",),
    ),
    Defect(
        "promise-not-checked", "a header may not promise more than is stored", "medseg/formats/sizes.py",
        "if not compressed and promised > stored:", "if not compressed and promised > 1000 * stored:",
        (f"{HOSTILE}::test_nifti_headers_are_held_to_the_file", "tests/formats/test_isolated.py"),
    ),
    Defect(
        "linked-crs-fetched", "a linked CRS is not fetched", "medseg/formats/vector_content.py",
        "if kind not in _CRS_KINDS or foreign:", "if foreign:",
        (f"{HOSTILE}::test_a_crs_that_is_linked_is_named",),
    ),
    Defect(
        "vector-by-content", "a vector file is opened by the driver of its suffix", "medseg/formats/vector_content.py",
        "    if not head.startswith(_MAGIC[kind]):\n", "    if not head:\n",
        (f"{HOSTILE}::test_no_vector_file_makes_a_request",),
    ),
    Defect(
        "itk-header-not-checked", "ITK never sees a header that ends it", "medseg/formats/itk_header.py",
        "    axes = _whole(fields, \"NDims\")\n    _check_axes(axes)\n", "    axes = _whole(fields, \"NDims\")\n",
        (f"{HEADER}::test_a_number_of_axes_that_ends_itk_is_refused",),
    ),
    Defect(
        "itk-not-isolated", "an unusual header is read in a process of its own", "medseg/formats/itk.py",
        "        if not header.ordinary:\n            isolated.probe(path)\n", "",
        (f"{HEADER}::test_an_unusual_header_is_read_in_a_process_of_its_own",),
    ),
    Defect(
        "data-file-anywhere", "the data file of a header lies in its folder", "medseg/formats/itk_header.py",
        r're.search(r"[/\\\x00-\x1f%]", name)', r're.search(r"[\x00-\x1f%]", name)',
        (f"{HEADER}::test_data_files_are_regular_files_of_the_same_folder",),
    ),
    Defect(
        "case-grows-without-limit", "a spacing that is off by orders of magnitude is refused",
        "medseg/geometry/resample.py",
        "if not cells <= max(MOST_CELLS, np.prod(source.shape, dtype=np.float64)):", "if not np.isfinite(cells):",
        ("tests/geometry/test_resample.py::test_a_case_may_shrink_from_any_size_and_grow_to_a_limit",),
    ),
    Defect(
        "tolerance-not-capped", "no tolerance accepts another place", "medseg/geometry/tolerance.py",
        "or not 0 <= value <= LARGEST_GRID_TOLERANCE:", "or not 0 <= value:",
        ("tests/geometry/test_tolerance.py::test_other_tolerances_are_refused",),
    ),
    Defect(
        "advice-beyond-a-voxel", "no message advises a tolerance above a voxel", "medseg/geometry/tolerance.py",
        "    if offset > LARGEST_GRID_TOLERANCE:\n", "    if offset > 100 * LARGEST_GRID_TOLERANCE:\n",
        ("tests/geometry/test_tolerance.py::test_what_is_advised_is_accepted_and_suffices",),
    ),
    Defect(
        "tolerance-not-told", "a tolerance that was needed is warned of", "medseg/data/reading/on_grid.py",
        "        if offset > GRID_TOLERANCE:\n", "        if offset > 1:\n",
        (f"{VOLUMES}::test_a_tolerance_above_the_default_that_is_needed_is_warned_of",),
    ),
    Defect(
        "label-not-reordered", "a label in another axis order is that of the image", "medseg/data/reading/on_grid.py",
        "turned = on_axes_of(source, reference)", "turned = source",
        (f"{VOLUMES}::test_a_label_in_any_axis_order_is_that_of_the_image",),
    ),
    Defect(
        "flips-not-undone", "windows of a flipped volume are the right ones", "medseg/formats/reoriented.py",
        "start[old] = cells - box.stop[new] if flip else box.start[new]", "start[old] = box.start[new]",
        ("tests/formats/test_reoriented.py", f"{VOLUMES}::test_a_label_in_any_axis_order_is_that_of_the_image"),
    ),
    Defect(
        "shifted-label-accepted", "a shifted label is refused", "medseg/data/reading/on_grid.py",
        "return offset <= self.reading.grid_tolerance\n",
        "return offset <= max(1, self.reading.grid_tolerance)\n",
        ("tests/data/test_dataset.py::test_shifted_label_is_refused_with_the_displacement_in_voxels",),
    ),
    Defect(
        "unknown-values-are-background", "values outside the label table are refused", "medseg/labels/lookup.py",
        "np.full(int(raw.max()) - low + 1, _UNKNOWN, dtype=np.int16)",
        "np.zeros(int(raw.max()) - low + 1, dtype=np.int16)",
        ("tests/test_labels.py::test_unknown_values_are_named_with_their_cells_and_the_way_out",),
    ),
    Defect(
        "missing-band-passed-over", "a band that a scene lacks is refused", "medseg/data/reading/channels.py",
        "        if missing:\n", "        if len(missing) == len(required):\n",
        (f"{SCENES}::test_missing_bands_are_refused",),
    ),
    Defect(
        "nodata-is-valid", "cells without data are not valid", "medseg/data/reading/channels.py",
        "                valid &= has_data\n", "                pass\n",
        (f"{SCENES}::test_nodata_and_nan_are_not_valid",),
    ),
    Defect(
        "first-bad-case-alone", "all bad cases are told at once", "medseg/data/problems.py",
        "        if len(self.found) == 1:\n", "        if self.found:\n",
        ("tests/prediction/test_bad_input.py::test_all_headers_that_are_wrong_are_told_at_once",),
    ),
    Defect(
        "problems-end-the-preparation", "all contents that are wrong are told at once", "medseg/data/datamodule.py",
        "                    problems.found[case.id] = outcome.reason\n",
        "                    raise InputError(outcome.reason)\n",
        ("tests/prediction/test_bad_input.py::test_all_contents_that_are_wrong_are_told_at_once",),
    ),
    Defect(
        "dropped-band-kept", "a band that is dropped is 0", "medseg/transforms/spectral.py",
        "return replace(batch, image=batch.image.masked_fill(gone, 0), present=present)",
        "return replace(batch, present=present)",
        ("tests/transforms/test_spectral.py",),
    ),
    Defect(
        "absent-dates-in-the-mean", "absent dates are not seen", "medseg/models/temporal/pools.py",
        "return feature.sum(1) / _widened(present, feature).sum(1).clamp(min=1)", "return feature.mean(1)",
        ("tests/models/temporal/test_network.py::test_a_single_date_among_missing_ones_is_the_network_without_time",),
    ),
    Defect(
        "absent-channels-normalised", "channels that a case lacks are 0 in the network's input",
        "medseg/data/preprocessing/normalise.py", "            target[...] = 0\n            continue\n",
        "            pass\n", (f"{ABSENT}::test_absent_channels_are_0_in_the_store_and_in_every_window",),
    ),
    Defect(
        "absent-channels-counted", "statistics leave channels out that a case lacks", "medseg/planning/fingerprint.py",
        "        drawn[~sample.has] = np.nan\n", "", (f"{ABSENT}::test_statistics_leave_absent_channels_out",),
    ),
    Defect(
        "formulas-outlive-their-groups", "a formula of several groups goes with each", "medseg/transforms/groups.py",
        "stays = ~(gone[:, None] & needs).any(2)", "stays = ~(gone[:, None] | ~needs).all(2)",
        ("tests/transforms/test_groups.py::test_a_group_goes_with_all_that_is_read_from_it",),
    ),
    Defect(
        "embeddings-without-sign", "embeddings keep their sign", "medseg/formats/embeddings.py",
        "return share * np.abs(share)", "return share * share",
        ("tests/formats/test_embeddings.py::test_alphaearth_by_hand",),
    ),
)
# fmt: on
