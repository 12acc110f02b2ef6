import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet

ANISOTROPIC = ModelSpec(
    in_channels=2,
    out_channels=3,
    patch_shape=(8, 16, 16),
    spacing=(5.0, 1.0, 1.0),
    kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
)


def isotropic(ndim: int, stages: int, patch: int = 16, in_channels: int = 1, out_channels: int = 2) -> ModelSpec:
    return ModelSpec(
        in_channels=in_channels,
        out_channels=out_channels,
        patch_shape=(patch,) * ndim,
        spacing=(1.0,) * ndim,
        kernels=((3,) * ndim,) * stages,
        strides=((1,) * ndim,) + ((2,) * ndim,) * (stages - 1),
    )


def test_stages_follow_kernels_and_strides():
    network, image = UNet(ANISOTROPIC, base_features=4).eval(), torch.zeros(1, 2, 8, 16, 16)
    shapes, feature = [], image
    for stage in network.encoder:
        feature = stage(feature)
        shapes.append(tuple(feature.shape[1:]))
    assert shapes == [(4, 8, 16, 16), (8, 8, 8, 8), (16, 4, 4, 4)]
    kernels = [{m.kernel_size for m in stage.modules() if isinstance(m, nn.Conv3d)} for stage in network.encoder]
    assert kernels == [{(1, 3, 3)}, {(1, 3, 3)}, {(3, 3, 3)}]
    assert network.divisor == (2, 4, 4)


def test_first_stage_does_not_look_across_the_coarse_axis():
    stage = UNet(ANISOTROPIC, base_features=4).encoder[0][0][0]  # the convolution, before any normalisation
    image = torch.zeros(1, 2, 8, 16, 16)
    image[:, :, 4] = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    touched = stage(image).abs().sum(dim=(0, 1, 3, 4)) > 0
    assert touched.tolist() == [a == 4 for a in range(8)]


def test_deep_supervision_lists_each_decoder_stage_fine_to_coarse():
    network, image = UNet(ANISOTROPIC, base_features=4).train(), torch.zeros(1, 2, 8, 16, 16)
    assert [tuple(level.shape) for level in network(image)] == [(1, 3, 8, 16, 16), (1, 3, 8, 8, 8)]
    assert network.eval()(image).shape == (1, 3, 8, 16, 16)
    alone = UNet(ANISOTROPIC, base_features=4, deep_supervision=False).train()
    assert alone(image).shape == (1, 3, 8, 16, 16)


def test_parameters_of_a_plain_network_by_hand():
    # Two stages of 2 and 4 channels, two convolutions each, in two dimensions; no biases but norm's.
    fine = (1 * 2 * 9 + 2 * 2) + (2 * 2 * 9 + 2 * 2)
    coarse = (2 * 4 * 9 + 2 * 4) + (4 * 4 * 9 + 2 * 4)
    up = 4 * 2 * 4 + 2
    decoder = (4 * 2 * 9 + 2 * 2) + (2 * 2 * 9 + 2 * 2)
    head = 2 * 2 + 2
    assert fine + coarse + up + decoder + head == 450
    network = UNet(isotropic(2, 2), base_features=2)
    assert sum(p.numel() for p in network.parameters()) == 450


def test_parameters_of_a_residual_network_by_hand():
    stem = 1 * 2 * 9 + 2 * 2
    fine = 2 * (2 * 2 * 9 + 2 * 2)
    coarse = (2 * 4 * 9 + 8) + (4 * 4 * 9 + 8) + (2 * 4 + 8) + 2 * (4 * 4 * 9 + 8)  # the first widens its shortcut
    up, decoder, head = 4 * 2 * 4 + 2, 4 * 2 * 9 + 2 * 2, 2 * 2 + 2
    network = UNet(isotropic(2, 2), base_features=2, residual=True, encoder_blocks=(1, 2), decoder_blocks=(1,))
    assert sum(p.numel() for p in network.parameters()) == stem + fine + coarse + up + decoder + head


def test_parameters_equal_those_of_dynunet():
    from monai.networks.nets.dynunet import DynUNet

    about = isotropic(3, 4)
    other = DynUNet(
        3, 1, 2, about.kernels, about.strides, about.strides[1:], filters=[4, 8, 16, 24], deep_supervision=True,
        deep_supr_num=2, trans_bias=True,
    )  # fmt: skip
    ours = UNet(about, base_features=4, max_features=24)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in other.parameters())


@pytest.mark.parametrize("ndim, most", [(2, 512), (3, 320)])
def test_features_double_up_to_their_bound(ndim, most):
    with torch.device("meta"):
        network = UNet(isotropic(ndim, 6, patch=128))
    assert [stage[0][0].out_channels for stage in network.encoder] == [32, 64, 128, 256, min(512, most), most]


@pytest.mark.parametrize("norm, lost", [("instance", True), ("batch", False), ("group", True)])
@pytest.mark.parametrize("residual", [False, True])
def test_only_over_the_batch_it_is_remembered_how_bright_a_patch_is(norm, lost, residual):
    network = UNet(isotropic(2, 3), base_features=4, norm=norm, residual=residual).eval()
    dark, bright = torch.full((1, 1, 16, 16), 50.0), torch.full((1, 1, 16, 16), 200.0)
    inside = (slice(None), slice(None), slice(6, 10), slice(6, 10))  # where padding is not seen
    first = network.stem if residual else network.encoder[0]
    with torch.no_grad():
        assert torch.allclose(first(dark)[inside], first(bright)[inside], atol=0.1) == lost
    assert network.train()(torch.rand(2, 1, 16, 16))[0].isfinite().all()


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match=r"model\.norm=layer: expected one of instance, batch, group"):
        UNet(isotropic(2, 3), norm="layer")


def test_blocks_repeat_their_last_number():
    network = UNet(isotropic(2, 4), base_features=2, encoder_blocks=(1, 3), decoder_blocks=(2, 1))
    assert [len(stage) for stage in network.encoder] == [1, 3, 3, 3]
    assert [len(stage) for stage in network.decoder] == [2, 1, 1]


def test_residual_blocks_start_as_their_shortcut():
    block = UNet(isotropic(2, 2), base_features=4, residual=True).encoder[0][0]
    feature = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(feature), nn.functional.leaky_relu(feature, 0.01))


def test_initial_weights_keep_the_variance():
    torch.manual_seed(0)
    with torch.no_grad():
        weight = UNet(isotropic(3, 2), base_features=32).encoder[1][1][0].weight  # 64 -> 64 channels
    assert weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (64 * 27)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("residual", [False, True])
def test_overfits_one_image(residual):
    torch.manual_seed(0)
    network = UNet(isotropic(3, 3), base_features=8, residual=residual, encoder_blocks=(1,), decoder_blocks=(1,))
    image = torch.randn(1, 1, 16, 16, 16)
    cells = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    label = ((cells - 7.5).square().sum(dim=0) < 36).long()[None]  # a ball that the noise does not show
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(image)[0], label).backward()
        optimizer.step()
    pred = network.eval()(image).argmax(dim=1)
    dice = 2 * (pred * label).sum() / (pred.sum() + label.sum())
    assert dice > 0.95


def test_a_single_cell_at_the_bottleneck_is_refused():
    with pytest.raises(InputError, match=r"two or more of them; pad to \(4, 8\)"):
        UNet(isotropic(2, 3))(torch.zeros(1, 1, 4, 4))


def test_one_stage_is_refused():
    with pytest.raises(InputError, match="got 1 stages"):
        UNet(isotropic(2, 1))
