"""nnU-Net's tensors in our U-Net: every tensor has its place, and the network computes the same."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.nnunet_plans import REVERSED, turned
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report
from tests import nnunet_files
from tests.nnunet_files import PLAIN, RESIDUAL, SLICES, Shape

IMAGES = replace(SLICES, residual=True, encoder_blocks=(1, 2, 2), decoder_blocks=(1, 1))


def network_for(shape: Shape, order: tuple[int, ...] = REVERSED, ndim: int = 3, **settings: object) -> UNet:
    """Our network of this shape, with the axes right, anterior, superior."""
    spec = ModelSpec(
        in_channels=shape.channels,
        out_channels=shape.classes,
        patch_shape=turned((8, 16, 16)[-shape.ndim :], order, ndim, 1),
        spacing=(1.0,) * ndim,
        kernels=tuple(turned(k, order, ndim, 1) for k in shape.kernels),
        strides=tuple(turned(s, order, ndim, 1) for s in shape.strides),
    )
    own = {
        "base_features": shape.features[0],
        "max_features": max(shape.features),
        "encoder_blocks": shape.encoder_blocks,
        "decoder_blocks": shape.decoder_blocks,
        "residual": shape.residual,
    }
    torch.manual_seed(9)
    return UNet(spec, **{**own, **settings})


def loaded(network: UNet, found: Pretrained, names: tuple[str, ...] = ("MR",)) -> Report:
    channels = [Channel(name) for name in names]
    return load(network, network.adopt(found), stem=network.stem_kernel, channels=channels)


def of_file(folder: Path, shape: Shape, order: tuple[int, ...] = (0, 1, 2)) -> Pretrained:
    """Weights as they are read from a checkpoint, of plans that exchange axes."""
    plans = nnunet_files.plans_of(shape) | {
        "transpose_forward": order,
        "transpose_backward": torch.tensor(order).argsort().tolist(),
    }
    torch.save(nnunet_files.checkpoint_of(shape, plans), folder / "checkpoint_final.pth")
    return read(folder / "checkpoint_final.pth")


def drawn(shape: Shape) -> Tensor:
    size = (2, shape.channels, *(4, 8, 12)[-shape.ndim :])
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [PLAIN, RESIDUAL], ids=["plain", "residual"])
@pytest.mark.parametrize("forward", [(0, 1, 2), (2, 0, 1)])
def test_volumes_have_the_logits_of_nnunet(tmp_path: Path, shape: Shape, forward: tuple[int, ...]) -> None:
    found = of_file(tmp_path, shape, forward)
    network = network_for(shape, found.order).eval()
    assert loaded(network, found).share == 1.0
    image = drawn(shape)
    axes = [2 + axis for axis in found.order]
    expected = nnunet_files.forward(nnunet_files.state_of(shape), shape, image).permute(0, 1, *axes)
    assert torch.allclose(network(image.permute(0, 1, *axes)), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [SLICES, IMAGES], ids=["plain", "residual"])
def test_slices_and_images_have_the_logits_of_nnunet(tmp_path: Path, shape: Shape) -> None:
    found, image = of_file(tmp_path, shape), drawn(shape)
    expected = nnunet_files.forward(nnunet_files.state_of(shape), shape, image)
    images = network_for(shape, ndim=2).eval()
    assert loaded(images, found).share == 1.0
    assert torch.allclose(images(image), expected, atol=1e-4)
    slices = network_for(shape).eval()  # of a volume: columns, rows, and one slice
    assert loaded(slices, found).share == 1.0
    assert torch.allclose(slices(image.transpose(2, 3)[..., None]), expected.transpose(2, 3)[..., None], atol=1e-4)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_wrapped_networks_and_one_output(prefix: str) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in nnunet_files.state_of(PLAIN).items()}
    network = network_for(PLAIN, deep_supervision=False)
    report = loaded(network, Pretrained(state, "f"))
    assert report.share == 1.0
    assert not report.named("unexpected")
    assert torch.equal(network.heads[0].weight, state[f"{prefix}decoder.seg_layers.1.weight"])


def test_the_mean_of_a_batch_takes_the_bias() -> None:
    state = {name: t for name, t in nnunet_files.state_of(SLICES).items() if ".all_modules." not in name}
    norms = [name for name in state if name.endswith(".norm.weight")]
    state |= {name.replace("weight", "running_mean"): torch.ones_like(state[name]) for name in norms}
    state |= {name.replace("weight", "running_var"): torch.full_like(state[name], 2.0) for name in norms}
    network = network_for(SLICES, ndim=2, norm="batch")
    assert loaded(network, Pretrained(state, "f")).share == 1.0
    assert torch.allclose(network.encoder[0][1][1].running_mean, 1 - state["encoder.stages.0.0.convs.1.conv.bias"])


def test_other_classes_leave_the_outputs_random_and_other_channels_adapt_the_stem() -> None:
    found = Pretrained(nnunet_files.state_of(PLAIN), "f", channels=(Channel("MR"),), order=REVERSED)
    network = network_for(replace(PLAIN, channels=2, classes=5))
    report = loaded(network, found, ("MR", "T2"))
    assert report.named("random") == [f"heads.{i}.{leaf}" for i in range(2) for leaf in ("weight", "bias")]
    assert report.named("adapted") == ["encoder.0.0.0.weight"]
    assert [channel for channel, _ in report.channels] == ["MR", "T2"]
    assert 0.9 < report.share < 1


def test_our_own_weights_stay_as_they_are() -> None:
    network = network_for(PLAIN)
    found = Pretrained(network.state_dict(), "f")
    assert network.adopt(found) is found


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (replace(PLAIN, strides=((1, 1, 1), (2, 2, 2), (2, 2, 2))), r"strides \[\[1,1,1\],\[2,2,1\],\[2,2,2\]\] in "
         r"the file, \[\[1,1,1\],\[2,2,2\],\[2,2,2\]\] here; set plan.file to the folder of the trained model"),
        (replace(PLAIN, features=(6, 12, 12)), r"features \[4,8,8\] in the file, \[6,12,12\] here; set model=unet "
         r"model.base_features=4 model.max_features=8$"),
        (RESIDUAL, r"residual False in the file, True here"),
    ],
)  # fmt: skip
def test_another_shape_is_refused_with_both_and_the_fix(own: Shape, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        network_for(own).adopt(Pretrained(nnunet_files.state_of(PLAIN), "f"))
    assert len(str(refused.value).splitlines()) == 1


def test_volumes_are_refused_for_images() -> None:
    with pytest.raises(InputError, match="it is for volumes, and the data are images"):
        network_for(SLICES, ndim=2).adopt(Pretrained(nnunet_files.state_of(PLAIN), "f"))


def test_features_that_do_not_double_have_no_setting() -> None:
    found = Pretrained(nnunet_files.state_of(replace(PLAIN, features=(4, 6, 12))), "f")
    with pytest.raises(InputError, match="no setting of model=unet has such features"):
        network_for(PLAIN).adopt(found)


def test_a_checkpoint_without_a_stage_is_refused() -> None:
    state = {name: t for name, t in nnunet_files.state_of(PLAIN).items() if "transpconvs.1" not in name}
    with pytest.raises(InputError, match=r"'decoder.transpconvs.1.weight' is missing"):
        network_for(PLAIN).adopt(Pretrained(state, "f"))


class Code:
    """A pickle that would write a folder when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return os.mkdir, (self.target,)


def test_code_in_the_pickle_is_refused_and_never_runs(tmp_path: Path) -> None:
    stored = nnunet_files.checkpoint_of(PLAIN)
    stored["init_args"]["plans"]["planner"] = Code(tmp_path / "ran")
    torch.save(stored, tmp_path / "checkpoint_final.pth")
    with pytest.raises(InputError, match=r"holds pickled code \(.*mkdir\), which medseg never executes") as refused:
        read(tmp_path / "checkpoint_final.pth")
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_channels_and_statistics_are_read_from_the_plans(tmp_path: Path) -> None:
    found = of_file(tmp_path, PLAIN)
    assert [c.name for c in found.channels] == ["MR"]
    assert (found.normalisation, found.order) == ("normalisation zscore", (2, 1, 0))
    stored = nnunet_files.checkpoint_of(PLAIN, nnunet_files.plans_of(PLAIN, normalization_schemes=["CTNormalization"]))
    torch.save(stored, tmp_path / "ct.pth")
    ct = read(tmp_path / "ct.pth")
    assert (ct.mean, ct.std, ct.scale) == ((100.0,), (40.0,), 1.0)
    stored["init_args"]["plans"] = {"configurations": 3}
    torch.save(stored, tmp_path / "damaged.pth")
    assert read(tmp_path / "damaged.pth").channels == ()


def test_folders_of_a_trained_model(tmp_path: Path) -> None:
    folder = nnunet_files.write_model(tmp_path, PLAIN)
    for place in (folder, folder / "fold_0"):
        assert read(place).state.keys() == nnunet_files.state_of(PLAIN).keys()
    (folder / "fold_0").rename(folder / "fold_3")
    nnunet_files.write_model(tmp_path / "other", PLAIN)
    (tmp_path / "other" / nnunet_files.FOLDER / "fold_0").rename(folder / "fold_0")
    with pytest.raises(InputError, match=r"holds 2 folds of nnU-Net: name the one that is meant, such as .*fold_0"):
        read(folder)
