"""Defects in cases that lack channels: which are read, what scores say of them, masks of clouds."""

from defects import Defect

DATES = "tests/data/datasets/test_absent_dates.py"
EXPORT = "tests/export/test_masks.py"
JOINED = "tests/data/datasets/test_joined.py"
CHANNELS, MASKS = "tests/data/datasets/test_absent_channels.py", "tests/data/reading/test_masks.py"

# fmt: off
TABLE = (
    Defect(
        "missing-file-not-noted", "a case says of which channels it lacks the files", "medseg/data/layout/pairing.py",
        "lacking = () if None in files else tuple(sorted({*range(n_channels)} - {*there}))", "lacking = ()",
        (f"{CHANNELS}::test_a_case_without_the_file_or_band_of_a_channel_is_read_with_0",),
    ),
    Defect(
        "formula-without-its-band", "a formula is absent with any of its bands", "medseg/data/reading/channels.py",
        "lost = {name for name, formula in self._formulas.items() if not set(names).isdisjoint(formula.names)}",
        "lost = set()",
        (f"{CHANNELS}::test_a_formula_is_absent_with_any_of_its_bands",),
    ),
    Defect(
        "absent-bands-hide-dates", "a date that lacks a band has the others", "medseg/data/preprocessing/normalise.py",
        "yield np.isfinite(date[own]).all(axis=0) & counted & own.any()",
        "yield np.isfinite(date).all(axis=0) & counted & own.any()",
        (f"{CHANNELS}::test_absent_bands_of_dates_are_0_in_the_store",),
    ),
    Defect(
        "presence-of-dates-not-stored", "the store knows which bands a date has", "medseg/data/store/stored_case.py",
        '**({"present": sample.present.tolist()} if partly else {})', '**({} if partly else {})',
        (f"{CHANNELS}::test_absent_bands_of_dates_are_0_in_the_store",),
    ),
    Defect(
        "availability-of-all-cases", "means by availability are of their own cases", "medseg/metrics/accumulate.py",
        'part.rows = [row for row in self.rows if row["case"] in cases]', "part.rows = list(self.rows)",
        ("tests/training/test_availability.py::test_scores_by_available_channels",),
    ),
    Defect(
        "presence-of-class-numbers", "planes are those of the channels of files", "medseg/models/presence.py",
        "own = image[:, : self.count]", "own = image[:, -self.count :]",
        ("tests/models/test_presence.py::test_class_numbers_have_no_presence",),
    ),
    Defect(
        "masks-without-effect", "masked cells have no data on their date", "medseg/data/reading/channels.py",
        "valid &= known & ~self.reading.date_masks.hides(mask[0])", "valid &= known",
        (f"{MASKS}::test_masked_cells_of_a_date_have_no_data_there",),
    ),
    Defect(
        "masks-interpolated", "a mask of coarser cells counts by its nearest cell", "medseg/data/reading/open_case.py",
        'nearest = [self._on_grid(source, "nearest") for source in opened.sources]',
        'nearest = [self._on_grid(source, "linear") for source in opened.sources]',
        (f"{MASKS}::test_a_mask_of_coarser_cells_in_a_folder_of_its_own_takes_the_nearest_cell",),
    ),
    Defect(
        "probability-at-the-threshold", "a probability is above the threshold", "medseg/data/reading/masks.py",
        "hidden |= cells > self.above", "hidden |= cells >= self.above",
        (f"{MASKS}::test_a_mask_may_be_of_bits_or_a_probability",),
    ),
    Defect(
        "channel-of-another-part", "a part lacks the channels that only others have", "medseg/data/datasets/joined.py",
        "own.index(c.name) if c.name in own else None for", "own.index(c.name) if c.name in own else 0 for",
        (f"{JOINED}::test_a_part_lacks_the_channels_that_only_others_have",),
    ),
    Defect(
        "absent-in-part-is-present", "what a part does not have is not present", "medseg/data/datasets/joined.py",
        "axis=1, filling=False)", "axis=1, filling=True)",
        (f"{JOINED}::test_a_part_lacks_the_channels_that_only_others_have",),
    ),
    Defect(
        "groups-of-dates-mixed-up", "each date has the files of its own groups", "medseg/data/case.py",
        "        start = sum(self.per_date[:number])\n", "        start = sum(self.per_date[: number + 1]) - 1\n",
        (f"{DATES}::test_each_date_has_the_channels_of_its_files",),
    ),
    Defect(
        "grid-of-the-first-file", "the grid is that of the reference group", "medseg/data/reading/open_case.py",
        "first = min(files, key=lambda part: part.rank(reading.image_groups))",
        "first = files[0]",
        (f"{DATES}::test_the_grid_is_that_of_the_reference_wherever_a_date_has_it",),
    ),
    Defect(
        "groups-not-sorted-with-files", "files of dates keep their groups", "medseg/data/layout/dates.py",
        "tuple(case.image_groups[number] for number in order)", "case.image_groups",
        (f"{DATES}::test_files_of_dates_in_any_order_keep_their_groups",),
    ),
    Defect(
        "empty-dates-read", "a date without a channel is not read", "medseg/data/reading/open_case.py",
        "if not self.case.per_date or self._has_channels(i)", "if True",
        (f"{DATES}::test_dates_without_a_channel_are_not_read",),
    ),
    Defect(
        "absent-array-hides-date", "a date of an array that lacks a channel has the others",
        "medseg/inference/predictor.py", "np.isfinite(image) | ~planes", "np.isfinite(image)",
        (f"{DATES}::test_a_prediction_sees_nothing_of_the_absent_group_of_a_date",),
    ),
    Defect(
        "runner-without-mask", "the runner leaves masked cells out", "medseg/export/runner.py",
        '            valid &= ~hidden(scaled, self._reading["mask"])\n', "",
        (f"{EXPORT}::test_the_runner_masks_what_medseg_masks",),
    ),
    Defect(
        "drawn-mask-hides-nothing", "parity is measured with masked cells", "medseg/export/parity.py",
        "np.where(hidden, np.float32(hiding[0]), np.float32(shown))", "np.full(tuple(shape), np.float32(shown))",
        (f"{EXPORT}::test_the_drawn_mask_hides_some_cells",),
    ),
)
