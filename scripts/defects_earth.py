"""Defects in encoders of satellite images: positions, dates, what is missing, and which kernel is whose."""

from defects import Defect

PRITHVI, TERRAMIND = "tests/models/earth/test_prithvi.py", "tests/models/earth/test_terramind.py"
CLAY, TERRATORCH = "tests/models/earth/test_clay.py", "tests/models/terratorch/test_encoder.py"

# fmt: off
TABLE = (
    Defect(
        "missing-dates-attended", "tokens of missing dates are hidden", "medseg/models/earth/prithvi.py",
        "tokens = block(tokens, attn_mask=mask)", "tokens = block(tokens)",
        (f"{PRITHVI}::test_a_missing_date_is_as_if_it_had_not_been",),
    ),
    Defect(
        "place-the-other-way-round", "latitude is encoded before longitude", "medseg/models/earth/prithvi.py",
        "for degrees in (latitude, longitude)]", "for degrees in (longitude, latitude)]",
        (f"{PRITHVI}::test_date_and_place_add_their_sines",),
    ),
    Defect(
        "leap-days-forgotten", "the day of the year counts leap days", "medseg/models/earth/dates.py",
        "from_march + 60 + leap)", "from_march + 60)",
        ("tests/models/earth/test_dates.py",),
    ),
    Defect(
        "patches-of-channels-first", "TerraMind: channels come last in patches", "medseg/models/earth/terramind.py",
        'stem_layout = "last"', 'stem_layout = "first"',
        (f"{TERRAMIND}::test_bands_are_copied_by_name_and_the_rest_scaled",),
    ),
    Defect(
        "columns-before-rows", "positions of TerraMind have rows first", "medseg/models/earth/terramind.py",
        ".roll(width // 2, dims=1)", "",
        (f"{TERRAMIND}::test_positions_are_sines_of_row_and_column",),
    ),
    Defect(
        "cells-without-size", "positions of Clay are in metres", "medseg/models/earth/clay.py",
        "omega * cell)", "omega)",
        (f"{CLAY}::test_positions_are_sines_of_metres",),
    ),
    Defect(
        "midnight-for-unknown-hours", "a whole day does not tell the hour", "medseg/models/earth/clay.py",
        "int(day % 1 * 24) / 24 if day % 1 else None", "int(day % 1 * 24) / 24",
        (f"{CLAY}::test_weeks_are_those_of_the_calendar",),
    ),
    Defect(
        "copies-run-the-original", "a copied backbone runs itself", "medseg/models/terratorch/registry.py",
        'vars(net)["forward"] = net.forward_features', "pass",
        (f"{TERRATORCH}::test_a_copy_runs_itself",),
    ),
    Defect(
        "days-kept-from-the-encoder", "temporal=native passes on the days", "medseg/models/temporal/native.py",
        "present=there, days=days)", "present=there, days=None)",
        ("tests/models/temporal/test_network.py::test_native_tells_days_apart",),
    ),
)
