"""Networks as ONNX files: their logits are those of the network, for any number of windows."""

from functools import partial
from pathlib import Path

import pytest
import torch

from medseg.errors import InputError
from medseg.export import networks, runner
from medseg.facts import Fact
from medseg.models.decoders.unet import UNet
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.fusion import CrossAttention
from medseg.models.encoders.joined import Joined
from medseg.models.timm.encoder import Timm
from tests.models.encoders.volumes import MODALITIES, noise, scrambled, spec
from tests.models.test_case_path import FACTS, WIDTH, spec_of, unet

onnxruntime = pytest.importorskip("onnxruntime")
RESNET = partial(Timm, name="test_resnet")


def joined(patch: int = 64, **settings: object) -> EncoderDecoder:
    branches = {"first": RESNET, "second": RESNET}
    channels = {"first": ["T1", "T1c"], "second": ["T2", "FLAIR"]}
    encoder = partial(Joined, branches=branches, channels=channels, fusion=CrossAttention, **settings)
    made = EncoderDecoder(spec((patch, patch), MODALITIES[4]), encoder=encoder, decoder=partial(UNet, base_features=4))
    return scrambled(made)  # type: ignore[return-value]


def test_joined_encoders_of_which_one_is_missing(tmp_path: Path) -> None:
    net = joined(resolution={"second": 2})
    networks.write_onnx(networks.traced(net, 4, (64, 64), "here"), tmp_path / "net.onnx", "here")
    run = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    image = noise(3, 4, 64, 64)
    image[1, 2:] = 0
    (logits,) = run.run(None, {"image": image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), net(image), rtol=1e-3, atol=1e-3)


def test_a_network_with_context_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"sees more than it gives logits of \(model\.encoder\.context\)"):
        networks.traced(joined(128, context={"second": 2}), 4, (128, 128), "here")


@pytest.mark.parametrize(("facts", "classes"), [(FACTS, 0), ((), 2), (FACTS, 2)])
def test_facts_are_a_second_input_and_the_class_of_a_case_a_second_output(
    tmp_path: Path, facts: tuple[Fact, ...], classes: int
) -> None:
    net = unet(spec_of(facts=facts, classes=classes), facts="film" if facts else None).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given = [torch.randn(3, 1, 16, 16), *([torch.randn(3, WIDTH)] if facts else [])]
    program = networks.traced(net, 1, (16, 16), "here", facts=WIDTH)
    networks.write_onnx(program, tmp_path / "net.onnx", "here")
    networks.write_pt2(program, tmp_path / "net.pt2")
    with torch.no_grad():
        outputs = net(*given, named=True)
    expected = [outputs["logits"], outputs["case_logits"]] if classes else [outputs]
    for name in ("net.onnx", "net.pt2"):
        run = runner.load_network(tmp_path / name)
        own = run(*(part.numpy() for part in given))
        assert len(own) == len(expected)
        for mine, theirs in zip(own, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(mine), theirs, rtol=1e-3, atol=1e-3)
