"""Defects in encoders with a token for each group of bands: which band is whose, dates, places, and their files."""

from defects import Defect

FOLDER = "tests/models/earth"
GROUPS, DATED = f"{FOLDER}/test_groups.py", f"{FOLDER}/test_dated_vit.py"
FILES = "tests/models/timm/test_satellite_files.py"

# fmt: off
TABLE = (
    Defect(
        "any-band-is-near", "a band far from all others is refused", "medseg/models/earth/groups.py",
        "return i if gap <= _FAR else None", "return i",
        (f"{GROUPS}::test_other_channels_are_refused_by_name",),
    ),
    Defect(
        "scores-as-they-are", "channels are mapped to what weights know", "medseg/models/earth/grouped_vit.py",
        "return image / 4 + 0.5", "return image",
        (f"{FOLDER}/test_galileo.py::test_the_index_keeps_its_values_and_the_rest_is_mapped",),
    ),
    Defect(
        "missing-dates-seen", "tokens of missing dates are hidden", "medseg/models/earth/dated_vit.py",
        "tokens = block(tokens, places, mask)", "tokens = block(tokens, places, None)",
        (f"{DATED}::test_what_stands_in_a_missing_date_does_not_matter",),
    ),
    Defect(
        "terrain-of-every-date", "static groups are seen once", "medseg/models/earth/dated_vit.py",
        "first if name in self.static else present", "present",
        (f"{DATED}::test_terrain_is_that_of_the_first_date_that_is_there",),
    ),
    Defect(
        "sensors-unequal", "sensors of OlmoEarth count the same", "medseg/models/earth/olmoearth.py",
        "for one in dict.fromkeys(sensors)]", "for one in sensors]",
        (f"{FOLDER}/test_olmoearth.py::test_feature_is_the_mean_over_tokens_of_a_sensor_then_over_sensors",),
    ),
    Defect(
        "groups-count-as-deeper", "kernels of absent groups are no larger network", "medseg/models/earth/satmae.py",
        'return name.startswith("patch_embed.") or super().left_out(name)', "return super().left_out(name)",
        (f"{FOLDER}/test_satmae.py::test_groups_without_a_channel_are_no_sign_of_a_larger_network",),
    ),
    Defect(
        "lone-bands-too-weak", "a cube that lacks bands is multiplied", "medseg/models/earth/spectralgpt.py",
        "CUBE / taken[place // CUBE] / bands.count(place)", "1 / bands.count(place)",
        (f"{FOLDER}/test_spectralgpt.py::test_one_band_of_a_cube_counts_three_times_and_two_in_a_place_are_averaged",),
    ),
    Defect(
        "first-network-of-a-file", "of two networks that of the sensor is taken", "medseg/weights/load.py",
        "(name not in stems or list(shapes[partner][1:2]) == [count])", "True",
        (f"{FILES}::test_of_the_two_networks_of_decur_that_of_the_sensor_is_taken",),
    ),
    Defect(
        "clip-without-a-warning", "a CLIP in a network without norm_pre is warned of", "medseg/models/timm/encoder.py",
        "warnings=(*report.warnings, line)", "warnings=report.warnings",
        (f"{FILES}::test_clip_in_a_network_without_its_first_normalisation_is_warned_of",),
    ),
)
