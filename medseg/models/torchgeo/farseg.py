"""FarSeg: relates every cell to what the scene is, so that objects stand out; from torchgeo."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torchgeo.models import FarSeg as TorchgeoFarSeg

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.network import ModelSpec, Network


class FarSeg(Network):
    """A ResNet, a feature pyramid weighted by each cell's relation to the scene, a light decoder; 2D only.

    **Weights are random.** torchgeo's takes three bands; here the first convolution takes those of the
    data, with the initial variance that ResNet gives it. Logits come at a quarter of the resolution and
    are interpolated. The loss published with it is ``loss=foreground``.

    Args:
        spec: Data and plan; kernels and strides are not used.
        backbone: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``.

    Raises:
        InputError: Volumes, or another backbone.

    References:
        Zheng et al., Foreground-Aware Relation Network for Geospatial Object Segmentation, CVPR 2020.
    """

    ndims = (2,)

    def __init__(self, spec: ModelSpec, *, backbone: str = "resnet50") -> None:
        check_axes("FarSeg", self.ndims, spec)
        super().__init__(spec.in_channels, (32, 32), min_cells=2)
        try:
            net = TorchgeoFarSeg(backbone, classes=spec.out_channels, backbone_pretrained=False)
        except ValueError as error:
            raise InputError(
                f"model.backbone={backbone}: expected resnet18, resnet34, resnet50 or resnet101"
            ) from error
        stem = net.backbone.conv1
        net.backbone.conv1 = nn.Conv2d(spec.in_channels, stem.out_channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.backbone.fc = nn.Identity()  # never reached; DDP refuses idle parameters
        self.net = net

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        self.check(image)
        return self.net(image)
