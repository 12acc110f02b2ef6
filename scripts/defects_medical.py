"""Defects in how the checkpoints and plans of nnU-Net and other medical networks are read."""

from defects import Defect

NAMES, PLANS = "tests/weights/test_nnunet_names.py", "tests/weights/test_nnunet_plans.py"
VOLUMES = f"{NAMES}::test_volumes_have_the_logits_of_nnunet"

# fmt: off
TABLE = (
    Defect(
        "kernels-not-turned", "kernels of nnU-Net have the axes of medseg", "medseg/weights/nnunet_names.py",
        "kernel.permute(0, 1, *(2 + axis for axis in order))", "kernel",
        (VOLUMES,),
    ),
    Defect(
        "exchange-of-axes-forgotten", "axes that nnU-Net has exchanged are exchanged back",
        "medseg/weights/nnunet_plans.py",
        "return tuple(back[axis] for axis in REVERSED)", "return REVERSED",
        (VOLUMES, f"{PLANS}::test_axes_by_hand"),
    ),
    Defect(
        "bias-lost-ahead-of-batch-norm", "the mean of a batch takes the bias", "medseg/weights/nnunet_names.py",
        "tensor - means[name] if name in means else tensor", "tensor",
        (f"{NAMES}::test_the_mean_of_a_batch_takes_the_bias",),
    ),
    Defect(
        "other-shape-accepted", "a U-Net of another shape is refused", "medseg/weights/nnunet_names.py",
        "if differences := theirs.differences(own):", "if differences := theirs.differences(theirs):",
        (f"{NAMES}::test_another_shape_is_refused_with_both_and_the_fix",),
    ),
    Defect(
        "cascade-plan-accepted", "the second stage of a cascade is refused", "medseg/weights/nnunet_plans.py",
        'if held.get("previous_stage"):', 'if held.get("previous_stages"):',
        (f"{PLANS}::test_what_medseg_has_no_like_of_is_refused",),
    ),
    Defect(
        "percentiles-of-ct-lost", "CT is clipped as nnU-Net clipped it", "medseg/weights/nnunet_plans.py",
        '"low": "percentile_00_5", "high": "percentile_99_5"', '"low": "min", "high": "max"',
        ("tests/planning/test_nnunet.py::test_statistics_of_ct",),
    ),
    Defect(
        "features-not-turned-back", "features of Primus have the axes of the image", "medseg/models/encoders/primus.py",
        "last.unflatten(1, self.grid).permute(0, 3, 2, 1, 4).flatten(1, 3)", "last",
        ("tests/models/encoders/test_primus.py::test_the_network_sees_slices_rows_columns_and_features_come_back",),
    ),
)
