"""What is read from nnU-Net's plans, of every version of nnU-Net v2."""

import pytest

from medseg.errors import InputError
from medseg.weights.nnunet_plans import plans_of, turned
from tests import mutations, nnunet_files
from tests.nnunet_files import PLAIN, RESIDUAL

PLANS = nnunet_files.plans_of(PLAIN)
OLD = {
    "batch_size": 2, "patch_size": [8, 16, 20], "spacing": [2.5, 1.0, 0.5], "use_mask_for_norm": [True],
    "normalization_schemes": ["ZScoreNormalization"], "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4,
    "unet_max_num_features": 8, "n_conv_per_stage_encoder": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
    "num_pool_per_axis": [1, 2, 2], "pool_op_kernel_sizes": [list(s) for s in PLAIN.strides],
    "conv_kernel_sizes": [list(k) for k in PLAIN.kernels],
}  # fmt: skip
"""A configuration of nnU-Net before 2.3, as TotalSegmentator's have it."""


@pytest.mark.parametrize("shape", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_the_shape_of_the_network(shape: nnunet_files.Shape) -> None:
    geometry = plans_of(nnunet_files.plans_of(shape), "3d_fullres").geometry
    assert geometry is not None
    assert {name: getattr(geometry, name) for name in vars(geometry)} == {
        name: getattr(shape, name) for name in vars(geometry)
    }


def test_old_plans_say_the_same() -> None:
    old = plans_of({"configurations": {"3d_fullres": OLD}}, "3d_fullres")
    assert old.geometry == plans_of(PLANS, "3d_fullres").geometry
    assert old.masked
    assert old.order == (2, 1, 0)


def test_a_configuration_inherits() -> None:
    own = PLANS["configurations"] | {"mine": {"inherits_from": "3d_fullres", "batch_size": 7}}
    plans = plans_of(PLANS | {"configurations": own}, "mine")
    assert (plans.batch_size, plans.patch) == (7, (8, 16, 20))
    own["loop"] = {"inherits_from": "loop"}
    with pytest.raises(InputError, match="there is no configuration loop"):
        plans_of(PLANS | {"configurations": own}, "loop")


def test_axes_by_hand() -> None:
    # x was the coarsest: nnU-Net puts it first, z and y follow. Spacing of x, y, z: 3.0, 0.5, 1.0.
    plans = PLANS | {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    order = plans_of(plans, "3d_fullres").order
    assert turned((3.0, 1.0, 0.5), order, 3, 0.0) == (3.0, 0.5, 1.0)
    assert turned((1.0, 0.5), order, 3, 3.0) == (3.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "sees the classes of 3d_lowres, .* choose 3d_fullres or 3d_lowres"),
        ({"normalization_schemes": ["MyNormalization"]}, "normalization_schemes=MyNormalization: expected one of CT"),
        ({"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [True, False]}, "differs between"),
        ({"spacing": [1.0]}, "spacing=.* expected a list of 2 or 3"),
    ],
)
def test_what_medseg_has_no_like_of_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plans_of(nnunet_files.plans_of(PLAIN, **changes), "3d_fullres")
    with pytest.raises(InputError, match="expected an order of the axes"):
        plans_of(PLANS | {"transpose_backward": [0, 0, 1]}, "3d_fullres")


@pytest.mark.parametrize("stored", [PLANS, {"configurations": {"3d_fullres": OLD}}], ids=["2.8", "2.2"])
def test_every_value_that_is_changed_is_read_or_refused_in_one_line(stored: dict[str, object]) -> None:
    plans_of(stored, "3d_fullres")
    refused = 0
    for at in mutations.places(stored):
        for other in mutations.OTHERS:
            try:
                plans_of(mutations.changed(stored, at, other), "3d_fullres")
            except InputError as error:
                refused += 1
                assert len(str(error).splitlines()) == 1  # noqa: PT017
    assert refused > 50
