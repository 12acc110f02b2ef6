"""Defects in what the package claims about augmentation, sides, losses, scores, maps and comparisons."""

from defects import Defect

# fmt: off
TABLE = (
    Defect(
        "sampling-stateful", "patches are a function of seed, step and sample", "medseg/data/sampling/patch_dataset.py",
        "rng = np.random.default_rng([self.seed, 1, step, sample])", "rng = np.random.default_rng()",
        ("tests/data/sampling/test_patch_dataset.py::test_any_window_can_be_had_again_without_those_before",),
    ),
    Defect(
        "augmentation-stateful", "augmentation is a function of the sample's key", "medseg/transforms/compose.py",
        "return [np.random.default_rng(np.random.SeedSequence(row, spawn_key=(position,))) for row in words]",
        "return [np.random.default_rng() for row in words]",
        ("tests/transforms/test_compose.py::TestEveryTransform::test_a_key_decides_everything",),
    ),
    Defect(
        "batch-outside-of-key", "transforms of a place in the list draw apart", "medseg/transforms/compose.py",
        "spawn_key=(position,)", "spawn_key=(0,)",
        ("tests/transforms/test_compose.py::test_every_number_of_a_key_counts_and_so_does_the_place",),
    ),
    Defect(
        "average-not-restored", "a resumed training goes on with its averaged weights", "medseg/callbacks/ema.py",
        "    @torch.no_grad()\n    def _average(",
        "    def on_load_checkpoint(self, *given: Any) -> None:\n        pass\n\n"
        "    @torch.no_grad()\n    def _average(",
        ("tests/training/test_train.py::test_resumed_training_equals_an_uninterrupted_one",),
    ),
    Defect(
        "dropout-not-reseeded", "dropout is a function of seed and step", "medseg/methods/method.py",
        "torch.manual_seed(int(key.generate_state(1)[0]))", "_ = key",
        ("tests/methods/test_supervised.py::test_randomness_inside_the_network_is_a_function_of_seed_and_step",),
    ),
    Defect(
        "ignore-in-the-loss", "ignored cells do not count in a loss", "medseg/losses/targets.py",
        "return valid & (label != IGNORE)", "return valid",
        ("tests/losses/test_invariants.py::test_a_margin_that_does_not_count_changes_nothing",),
    ),
    Defect(
        "dice-keeps-the-uncounted", "uncounted cells leave Dice's denominator", "medseg/losses/overlap.py",
        "    prob = prob * counted[:, None]\n", "",
        ("tests/losses/test_invariants.py::test_a_margin_that_does_not_count_changes_nothing",),
    ),
    Defect(
        "validity-in-the-scores", "invalid cells do not score", "medseg/metrics/structure.py",
        "counted = valid & (label != IGNORE)", "counted = label != IGNORE",
        ("tests/metrics/test_accumulate.py::test_uncounted_cells_do_not_count",),
    ),
    Defect(
        "validity-in-the-judgement", "invalid cells of a scene do not score at the end",
        "medseg/training/final_scores.py",
        "predicted.index, predicted.label, predicted.valid, prob",
        "predicted.index, predicted.label, np.ones_like(predicted.valid), prob",
        ("tests/training/test_final_scores.py",),
    ),
    Defect(
        "mirror-keeps-sides", "a mirrored left kidney is learned as a right one", "medseg/transforms/spatial.py",
        "label[i] = exchange(label[i], classes)", "label[i] = label[i]",
        ("tests/transforms/test_spatial.py::test_a_mirror_across_the_body_exchanges_left_and_right",),
    ),
    Defect(
        "test-mirror-keeps-sides", "mirrors at test time exchange the sides back", "medseg/inference/flips.py",
        "mirrored.append(logits[:, list(swap)] if swap and lateral_axis in subset else logits)",
        "mirrored.append(logits)",
        ("tests/inference/test_flips.py::test_lateral_mirror_exchanges_left_and_right_outputs",),
    ),
    Defect(
        "not-turned-to-the-patient", "right is the patient's right", "medseg/data/preprocessing/preprocess.py",
        "axes, flips = sample.grid.canonical()",
        "axes, flips = tuple(range(sample.grid.ndim)), (False,) * sample.grid.ndim",
        ("tests/inference/test_predictor.py::test_right_is_the_right_of_the_patient",),
    ),
    Defect(
        "lateral-axis-lost", "the axis across the body reaches the augmentation", "medseg/factory/transform.py",
        "        lateral_axis=allowed.lateral_axis,\n        mirror_classes",
        "        lateral_axis=None,\n        mirror_classes",
        ("tests/factory/test_mirrors.py::test_pairs_reach_the_training",),
    ),
    Defect(
        "mirror-classes-lost", "the label table's pairs reach the augmentation", "medseg/factory/transform.py",
        "mirror_classes=spec.labels.mirror(),", "mirror_classes=None,",
        ("tests/factory/test_mirrors.py::test_pairs_reach_the_training",),
    ),
    Defect(
        "test-swap-lost", "the label table's pairs reach the mirrors at test time", "medseg/factory/tiling.py",
        "swap=spec.labels.mirror_outputs() if sides else None,",
        "swap=None,",
        ("tests/factory/test_mirrors.py::test_mirrors_at_test_time_are_those_of_the_training",),
    ),
    Defect(
        "test-mirrors-all-axes", "test time mirrors along the axes of the training alone", "medseg/factory/tiling.py",
        "flips = allowed.axes if cfg.inference.flips else ()",
        "flips = tuple(range(spec.ndim)) if cfg.inference.flips else ()",
        ("tests/factory/test_mirrors.py::test_mirrors_at_test_time_are_those_of_the_training",),
    ),
    Defect(
        "mirror-not-switched-off", "a side without a partner forbids the lateral mirror",
        "medseg/transforms/mirrors.py",
        "return Mirrors(_without(axes, (lateral_axis,)), ", "return Mirrors(axes, ",
        ("tests/transforms/test_mirrors.py",),
    ),
    Defect(
        "mirror-of-an-unknown-axis", "an unknown axis across the body is not mirrored", "medseg/transforms/mirrors.py",
        "return Mirrors((), None, ", "return Mirrors(axes, None, ",
        ("tests/transforms/test_mirrors.py",),
    ),
    Defect(
        "sides-of-whole-names-only", "names with L and R are pairs", "medseg/labels/laterality.py",
        '"left", "l", "lh",', '"left", "lh",',
        ("tests/labels/test_laterality.py::test_pairs_are_found_by_their_names",),
    ),
    Defect(
        "pairs-not-found", "a label table finds left and right by its names", "medseg/labels/table.py",
        "indices, one_sided = detected(names, regions) if pairs is None else (declared_pairs(pairs, names), ())",
        "indices, one_sided = declared_pairs(pairs or (), names), ()",
        ("tests/labels/test_laterality.py::test_a_table_finds_its_pairs_unless_told",),
    ),
    Defect(
        "axis-across-not-stored", "a prediction mirrors as the training did", "medseg/factory/stored.py",
        '"data": {"lateral_axis": None if axis is None else whole(axis, "data.lateral_axis", 0, ndim - 1)},',
        '"data": {"lateral_axis": None},',
        ("tests/factory/test_mirrors.py::test_mirrors_at_test_time_are_those_of_the_training",),
    ),
    Defect(
        "turns-not-stored", "a prediction knows of the rotations of the training", "medseg/factory/stored.py",
        "    if transform.get(key) is None:\n", "    if True:\n",
        ("tests/factory/test_mirrors.py::test_mirrors_at_test_time_are_those_of_the_training",),
    ),
    Defect(
        "unlike-organs-paired", "chambers of the heart are no mirror images", "medseg/labels/laterality.py",
        "if len(left) == len(right) == 1 and not _unlike(key):", "if len(left) == len(right) == 1:",
        ("tests/labels/test_laterality.py::test_what_has_no_partner_is_one_sided",),
    ),
    Defect(
        "row-given-too-early", "a row of a map waits for every window that touches it",
        "medseg/inference/sliding_window.py",
        "            yield from blend.take(box.start[0])\n", "            yield from blend.take(box.start[0] + 1)\n",
        ("tests/inference/test_stream.py::test_equals_the_decision_in_memory_wherever_a_run_goes_on",),
    ),
    Defect(
        "ring-of-the-whole-image", "a map takes the memory of the rows of a window", "medseg/inference/stream.py",
        "self._rows = min(boxes[0].shape[0], shape[0]) if boxes else 0", "self._rows = shape[0]",
        ("tests/inference/test_stream.py::test_memory_is_the_rows_of_a_window_and_a_few_pieces",),
    ),
    Defect(
        "killed-map-forgotten", "a killed map goes on with its rows", "medseg/formats/sink.py",
        "if self._state() != state:", "if True:",
        ("tests/formats/test_sink.py::test_whole_rows_outlive_the_sink",),
    ),
    Defect(
        "rows-of-another-map-kept", "rows of another checkpoint are not gone on with", "medseg/formats/sink.py",
        'state = {"key": key, "shape"', 'state = {"shape"',
        ("tests/formats/test_sink.py::test_rows_of_something_else_are_thrown_away",),
    ),
    Defect(
        "copied-pixels-not-sought", "copied pixels are found", "medseg/data/splits/leakage.py",
        "further += _shared_pixels(train, held, open, tile, windows) if windows else []", "further += []",
        ("tests/data/splits/test_leakage.py::test_copied_pixels_are_found_wherever_the_tile_lies",),
    ),
    Defect(
        "shared-ground-not-sought", "shared ground is found", "medseg/data/splits/leakage.py",
        "    direct += shared_ground(train, val, lambda case: open(replace(case, label=None)).grid, test=test)\n", "",
        ("tests/data/splits/test_leakage.py::test_overlap_of_two_scenes_is_a_share_of_the_validation_footprint",),
    ),
    Defect(
        "leaks-not-asked-for", "a training warns of what validation shares with it", "medseg/training/train.py",
        "for line in split.leakage(parts[\"train\"], parts[\"val\"], run.dataset, **further):",
        "for line in ():",
        ("tests/factory/test_split.py::test_a_training_warns_of_a_group_on_both_sides",),
    ),
    Defect(
        "test-leaks-not-asked-for", "a training warns of what the test set shares with it", "medseg/training/train.py",
        "{\"test\": test, \"digests\": hashes.memory", "{\"digests\": hashes.memory",
        ("tests/factory/test_split.py::test_a_training_warns_of_copied_files_in_validation_and_test",),
    ),
    Defect(
        "groups-torn", "groups stay in one fold", "medseg/data/splits/folds.py",
        "if len(sizes) == len(cases) and strata", "if len(sizes) <= len(cases) and strata",
        ("tests/data/splits/test_folds.py::test_groups_never_straddle_and_are_balanced",),
    ),
    Defect(
        "buffer-not-kept", "blocks keep the buffer between them", "medseg/data/splits/blocks.py",
        "edges[i + 1] + i * buffer) for i", "edges[i + 1] + i * buffer + (buffer if i + 1 < count else 0)) for i",
        ("tests/data/splits/test_blocks.py::test_any_two_blocks_keep_the_buffer",),
    ),
    Defect(
        "missed-structure-is-free", "a missed structure costs the diagonal", "medseg/metrics/policy.py",
        "return cost.value(structure) if isinstance(cost, CaseCost) else cost",
        'return float("nan") if isinstance(cost, CaseCost) else cost',
        ("tests/metrics/test_accumulate.py::test_policy",),
    ),
    Defect(
        "interval-of-half", "intervals hold 95 %", "medseg/metrics/summary.py",
        "[2.5, 97.5]", "[25, 75]",
        ("tests/metrics/test_accumulate.py::test_interval_agrees_with_theory",),
    ),
    Defect(
        "all-cases-counted", "a mean says how many cases entered it", "medseg/metrics/summary.py",
        "entered = int((~np.isnan(values)).any(axis=1).sum())", "entered = len(values)",
        ("tests/metrics/test_accumulate.py::test_means_worked_by_hand",),
    ),
    Defect(
        "differences-not-paired", "differences of a sweep are of the same seed", "medseg/sweeps/compare.py",
        "arm[seed].score(metric) - base[seed].score(metric)", "arm[seed].score(metric) - base[seeds[0]].score(metric)",
        ("tests/sweeps/test_compare.py::test_differences_are_paired_by_seed_and_by_case",),
    ),
)
# fmt: on
