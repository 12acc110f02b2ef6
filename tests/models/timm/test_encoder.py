"""One network of each family of timm beside timm's own forward pass, with weights as timm writes them."""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.decoders.neck import to_grid
from medseg.models.encoders.encoder import check_features
from medseg.models.network import ModelSpec
from medseg.models.timm import hub, probe
from medseg.models.timm.encoder import Timm
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained

VIT = {"embed_dim": 48, "depth": 4, "num_heads": 3}
SWIN = {"embed_dim": 24, "depths": [1, 1, 2, 1]}
QUICK = {
    "resnet": ("resnet10t", {}),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "mobilenet_v4": ("mobilenetv4_conv_small_035", {}),
    "mae": ("vit_base_patch16_224.mae", VIT),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", VIT),
    "dinov3": ("vit_small_patch16_dinov3", VIT),
    "sam": ("samvit_base_patch16_224", {**VIT, "global_attn_indexes": [1, 3]}),
    "hiera": ("hiera_tiny_224", {"embed_dim": 24}),
}
"""Of each family: the smallest network, and settings that make it smaller."""
LARGER = {
    "convnext": ("convnext_atto", {}),
    "convnext_v2": ("convnextv2_atto", {}),
    "swin_v2": ("swinv2_tiny_window8_256", SWIN),
    "swin_v2_cr": ("swinv2_cr_tiny_ns_224", SWIN),
    "maxvit": ("maxvit_rmlp_pico_rw_256", {}),
    "pvt_v2": ("pvt_v2_b0", {}),
    "focalnet": ("focalnet_tiny_srf", {}),
    "gcvit": ("gcvit_xxtiny", {}),
    "mambaout": ("mambaout_femto", {}),
    "halonet": ("halonet26t", {}),
    "volo": ("volo_d1_224", {}),
    "mobilenet_v2": ("mobilenetv2_035", {}),
    "mobilenet_v3": ("mobilenetv3_small_050", {}),
    "mnasnet": ("mnasnet_small", {}),
    "efficientformer": ("efficientformer_l1", {}),
    "efficientformer_v2": ("efficientformerv2_s0", {}),
    "next_vit": ("nextvit_small", {}),
    "poolformer": ("poolformer_s12", {}),
    "poolformer_v2": ("poolformerv2_s12", {}),
    "fastvit": ("fastvit_t8", {}),
    "mobileclip": ("fastvit_mci0", {}),
    "mobileclip_vit": ("vit_base_mci_224", {"depth": 2}),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", VIT),
    "clip": ("vit_base_patch32_clip_224", VIT),
    "siglip": ("vit_base_patch16_siglip_224", VIT),
    "eva02": ("eva02_tiny_patch14_224", {"depth": 4}),
    "beit": ("beit_base_patch16_224", VIT),
    "sam2_hiera": ("sam2_hiera_tiny", {"embed_dim": 24}),
}
ALL = [pytest.param(key, id=key) for key in QUICK]
ALL += [pytest.param(key, id=key, marks=pytest.mark.slow) for key in LARGER]
FAMILIES = QUICK | LARGER
RGB = (Channel("R"), Channel("G"), Channel("B"))


def spec(n: int = 3, patch: tuple[int, ...] = (64, 96)) -> ModelSpec:
    channels = RGB if n == 3 else tuple(Channel(f"band{i}") for i in range(n))
    return ModelSpec(
        in_channels=n, out_channels=2, patch_shape=patch, spacing=(1.0, 1.0), kernels=(), strides=(), channels=channels
    )


def shaken(net: nn.Module) -> nn.Module:
    """With no parameter at zero, and running statistics of their own: nothing is hidden by how it starts."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if tensor.is_floating_point() and ("running" in name or isinstance(tensor, nn.Parameter)):
                tensor += 0.04 * torch.rand(tensor.shape, generator=generator) - 0.02
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timm")


def upstream(family: str, folder: Path) -> tuple[nn.Module, Path, tuple[int, ...]]:
    """The whole classifier of timm, the file of it, and the size that it is built for."""
    name, settings = FAMILIES[family]
    torch.manual_seed(0)
    net = shaken(timm.create_model(name, pretrained=False, **settings)).eval()
    file = folder / f"{family}.safetensors"
    if not file.exists():
        save_file({key: tensor.contiguous() for key, tensor in net.state_dict().items()}, file)
    return net, file, (224, 224) if family == "sam2_hiera" else tuple(net.pretrained_cfg["input_size"][1:])


def picture(size: tuple[int, ...], n: int = 3) -> Tensor:
    return torch.randn(1, n, *size, generator=torch.Generator().manual_seed(1))


def grids(encoder: Timm, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        given = encoder.eval()(image)
    return [to_grid(t, f, image.shape[2:]) for t, f in zip(given, encoder.features, strict=True)]


def assert_close(given: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(given, expected, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one / scale, other / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ALL)
def test_a_checkpoint_of_timm_gives_the_features_of_timm(family: str, folder: Path) -> None:
    net, file, size = upstream(family, folder)
    name, settings = FAMILIES[family]
    build = partial(Timm, name=name, settings=settings, weights=str(file))
    encoder = build(spec(patch=size))
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1.0
    indices = [int(i) for i in encoder.indices]
    with torch.no_grad():
        image = picture(size)
        given = net.forward_intermediates(image, indices=indices, norm=encoder.norm, intermediates_only=True)
        grey = picture(size, 1)
        of_grey = net.forward_intermediates(
            grey.expand(1, 3, -1, -1), indices=indices, norm=encoder.norm, intermediates_only=True
        )
    assert all(g.std() > 0 for g in given)
    assert_close(grids(encoder, image), given)
    for n in (5,) if family in QUICK else (2, 5, 13):
        other = build(spec(n, patch=size), adapt="mean")
        adapted = other.initialise()
        assert adapted is not None
        assert adapted.share > 0.9
        assert_close(grids(other, grey.expand(1, n, -1, -1)), of_grey)


@pytest.mark.parametrize("family", ALL)
def test_images_that_are_not_square(family: str) -> None:
    name, settings = FAMILIES[family]
    encoder = Timm(spec(5), name=name, settings=settings).eval()
    shape = encoder.fixed_shape or tuple(d * (2 * (64 // d) or 1) for d in encoder.divisor[:1]) + encoder.divisor[1:]
    check_features(encoder, 5, shape)
    image = picture(shape, 5)
    given = grids(encoder, image)
    assert [tuple(g.shape[1:]) for g in given] == [
        (f.channels, *(s // d for s, d in zip(shape, f.stride, strict=True))) for f in encoder.features
    ]
    if encoder.fixed_shape is None:
        # A convolution of torch 2.15 to a single column gives NaN in bfloat16 on CPUs with AMX (memory never written).
        image = picture((shape[0], 2 * shape[1]), 5)
        given = grids(encoder, image)
    with torch.autocast("cpu", torch.bfloat16):
        short = grids(encoder, image)
    for half, full in zip(short, given, strict=True):
        assert half.shape == full.shape
        assert (half.float() - full).square().mean().sqrt() < 0.1 * full.std()


@pytest.mark.parametrize(
    "name, strides",
    [
        ("resnet10t", (2, 4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", (4, 8, 16, 32)),
        ("volo_d1_224", (8, 16)),
        ("vit_tiny_patch16_224", (16, 16, 16, 16)),
        ("vit_small_patch14_dinov2", (14, 14, 14, 14)),
    ],
)
def test_strides_are_those_of_the_papers(name: str, strides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        encoder = Timm(spec(patch=(224, 224)), name=name)
    assert [f.stride for f in encoder.features] == [(s, s) for s in strides]


def test_a_plain_transformer_gives_four_depths_and_class_and_register_tokens_ahead() -> None:
    with torch.device("meta"):
        encoder = Timm(spec(patch=(56, 56)), name="vit_small_patch14_reg4_dinov2")
        shallow = Timm(spec(), name="vit_tiny_patch16_224", indices=[-9, 6])
    assert encoder.indices == (2, 5, 8, 11)
    assert encoder.norm
    assert [(f.tokens, f.prefix) for f in encoder.features] == [(True, 5)] * 4
    assert shallow.indices == (3, 6)
    assert len(shallow.net.blocks) == 7  # what lies behind the last feature is left out


def test_strides_and_divisor_end_with_the_last_feature() -> None:
    encoder = Timm(spec(), name="resnet10t", indices=[1, 2])
    assert encoder.divisor == (8, 8)
    assert not any(key.startswith(("layer3", "layer4", "fc")) for key in encoder.trunk.state_dict())


def test_the_files_of_features_only_and_of_the_authors_load_too(tmp_path: Path) -> None:
    net = shaken(timm.create_model("resnet10t", features_only=True))
    torch.save({"state_dict": net.state_dict()}, tmp_path / "features.pth")
    encoder = Timm(spec(), name="resnet10t", weights=str(tmp_path / "features.pth"))
    assert encoder.initialise().share == 1.0  # type: ignore[union-attr]
    with torch.no_grad():
        assert_close(encoder.eval()(picture((64, 96))), net.eval()(picture((64, 96))))
    dino = {**VIT, "img_size": 56}
    whole = shaken(timm.create_model("vit_small_patch14_reg4_dinov2", **dino))
    state = dict(whole.state_dict())
    with torch.no_grad():  # Meta's names: one table of positions with the class token's, registers, a mask token
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.cat((torch.full((1, 1, 48), 0.1), state["pos_embed"]), dim=1)
        state["cls_token"] = state["cls_token"] - 0.1
        state["mask_token"] = torch.zeros(1, 48)
    torch.save(state, tmp_path / "meta.pth")
    encoder = Timm(
        spec(patch=(56, 56)),
        name="vit_small_patch14_reg4_dinov2",
        settings=dino,
        weights=str(tmp_path / "meta.pth"),
    )
    assert encoder.initialise().share == 1.0  # type: ignore[union-attr]
    expected = whole.eval().forward_intermediates(
        picture((56, 56)), indices=[0, 1, 2, 3], norm=True, intermediates_only=True
    )
    assert_close(grids(encoder, picture((56, 56))), [g.detach() for g in expected])


def test_positions_are_resampled_for_a_network_that_is_built_for_the_patch(folder: Path) -> None:
    _, file, _ = upstream("hiera", folder)
    name, settings = FAMILIES["hiera"]
    encoder = Timm(spec(), name=name, settings=settings, weights=str(file))
    report = encoder.initialise()
    assert report is not None
    assert encoder.fixed_shape == (64, 96)
    assert report.share == 1.0
    assert [row.note for row in report.rows if row.how == "adapted"] == ["positions 56x56 (taken as square) -> 16x24"]


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"name": "resnet5O"}, r"resnet5O is no network of timm; the nearest are resnet50"),
        ({"name": "resnet50.a9_in1k"}, r"resnet50 has no weights tagged a9_in1k; there are .*resnet50\.a1_in1k"),
        (
            {"name": "resnet10t", "indices": [1, 7]},
            r"indices=\[1, 7\]: resnet10t has 5 features; expected some of 0 to 4",
        ),
        ({"name": "resnet10t", "indices": [2, 1]}, r"expected some of 0 to 4, rising"),
        ({"name": "vit_tiny_patch16_224", "indices": [12]}, r"has 12 features; expected some of 0 to 11"),
        ({"name": "pit_ti_224"}, r"pit_ti_224 gives no features on whole strides"),
        ({"name": "resnet10t", "settings": {"widht": 2}}, r"resnet10t can't be built with settings=.*'widht'"),
        ({"name": "resnet10t", "norm": "yes"}, r"norm=yes: expected true, false or auto"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(settings: dict, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        Timm(spec(), **settings)
    assert "\n" not in str(caught.value)


def test_a_network_without_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(nn.Module):
        pass

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Blind())
    with pytest.raises(InputError, match="resnet14t yields no features, only classes; choose"):
        Timm(spec(), name="resnet14t")  # no other test asks for it: what was found is remembered


def test_volumes_are_refused() -> None:
    about = ModelSpec(
        in_channels=1, out_channels=2, patch_shape=(32, 32, 32), spacing=(1.0,) * 3, kernels=(), strides=()
    )
    with pytest.raises(InputError, match="2 spatial axes"):
        Timm(about, name="resnet10t")


def test_pretrained_are_those_of_the_tag_with_what_their_images_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, _, _ = upstream("mae", folder)
    asked = []

    def found(source: str) -> Pretrained:
        asked.append(source)
        return Pretrained(net.state_dict(), source)

    monkeypatch.setattr(hub, "read", found)
    name, settings = FAMILIES["mae"]
    encoder = Timm(spec(), name=name, settings=settings, weights="pretrained")
    assert asked == []  # building never reads weights
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1.0
    assert asked == ["hf-hub:timm/vit_base_patch16_224.mae"]
    fetched = encoder.fetch("pretrained")
    assert [c.wavelength_nm for c in fetched.channels] == [640.0, 550.0, 470.0]
    assert (fetched.mean, fetched.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert fetched.scale == 255.0


def test_pretrained_from_the_address_of_the_authors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, _, _ = upstream("resnet", folder)
    told = timm.get_pretrained_cfg("resnet10t")
    told.hf_hub_id, told.url = None, "https://example.org/resnet10t.pth"
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: told)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: net.state_dict())
    assert hub.fetch("resnet10t").state.keys() == net.state_dict().keys()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(
        InputError, match=r"resnet10t\.pth can't be downloaded \(OSError\); .*model\.encoder\.weights=FILE"
    ):
        hub.fetch("resnet10t")


def test_without_a_network_the_line_names_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    encoder = Timm(spec(), name="resnet10t", weights="pretrained")
    with pytest.raises(InputError, match=r"timm/resnet10t\.c3_in1k can't be reached; .*model\.encoder\.weights=FILE"):
        encoder.initialise()


def test_weights_that_timm_does_not_have_are_refused() -> None:
    encoder = Timm(spec(), name="mobilenetv2_035", weights="pretrained")
    with pytest.raises(InputError, match=r"timm has no weights of mobilenetv2_035; .*model\.encoder\.weights=FILE"):
        encoder.initialise()


def test_features_are_found_once_for_the_same_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Timm(spec(), name="resnet10t")
    asked: list[tuple[int, ...]] = []
    found = probe._probed
    monkeypatch.setattr(probe, "_probed", lambda spec, *rest: asked.append(spec.patch_shape) or found(spec, *rest))
    again = Timm(spec(), name="resnet10t")
    assert asked == []
    assert again.features == first.features
    other = Timm(spec(patch=(96, 160)), name="resnet10t", indices=[1, 2])
    assert asked == [(96, 160)]
    assert len(other.features) == 2
