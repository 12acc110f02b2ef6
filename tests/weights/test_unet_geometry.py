"""The settings of ``model`` that a shape is named by give exactly this shape."""

import pytest

from medseg.hydra_app.compose import compose
from medseg.weights.unet_geometry import UNetGeometry

CASES = [
    (False, (32, 64, 128), (2, 2, 2), (2, 2)),
    (False, (32, 64, 128, 256, 320, 320), (2,) * 6, (2,) * 5),
    (False, (16, 32, 48, 48), (1, 2, 3, 3), (1, 2, 2)),
    (True, (32, 64, 128, 256, 512, 512), (1, 3, 4, 6, 6, 6), (1,) * 5),
    (True, (32, 64, 64), (1, 1, 1), (2, 1)),
]


def repeated(numbers: list[int], length: int) -> tuple[int, ...]:
    return tuple(numbers[min(i, len(numbers) - 1)] for i in range(length))


@pytest.mark.parametrize(("residual", "features", "encoder", "decoder"), CASES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_overrides_give_the_shape(
    residual: bool, features: tuple[int, ...], encoder: tuple[int, ...], decoder: tuple[int, ...], ndim: int
) -> None:
    n = len(features)
    overrides = UNetGeometry(residual, features, ((3,) * ndim,) * n, ((2,) * ndim,) * n, encoder, decoder).overrides(
        ndim
    )
    assert overrides is not None
    model = compose("train", overrides.split()).model
    most = model.max_features or {2: 512, 3: 320}[ndim]
    assert tuple(min(model.base_features * 2**i, most) for i in range(n)) == features
    assert model.residual == residual
    assert repeated(model.encoder_blocks, n) == encoder
    assert repeated(model.decoder_blocks, n - 1) == decoder


def test_usual_shapes_need_no_settings_beyond_the_option() -> None:
    residual, features, encoder, decoder = CASES[1]
    shape = UNetGeometry(residual, features, ((3, 3, 3),) * 6, ((2, 2, 2),) * 6, encoder, decoder)
    assert shape.overrides(3) == "model=unet"
