"""Changes of weights by a few numbers: SVFit (singular values) and NOLA (sums of random matrices)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medseg.errors import InputError
from medseg.finetuning.lora import check_targets, layers_of
from medseg.finetuning.strategy import Tuning, part_of


class _Reparametrised(Tuning):
    """Weights of chosen layers become functions of a few new parameters; see its subclasses."""

    keeps = True

    def __init__(
        self, *, rank: int = 8, targets: Sequence[str] = ("attention", "mlp", "convolution"), **pace: float
    ) -> None:
        super().__init__(**pace)
        check_targets(targets)
        if rank < 1:
            raise InputError(f"finetuning.rank={rank}: expected 1 or more")
        self.rank, self.targets = rank, tuple(targets)

    def change(self, network: nn.Module) -> None:
        """Put the change on the weight of each layer."""
        part = part_of(network)
        for number, name in enumerate(layers_of(part, self.targets)):
            layer = part.get_submodule(name)
            parametrize.register_parametrization(layer, "weight", self.of(layer.get_parameter("weight"), number))

    @abstractmethod
    def of(self, weight: Tensor, number: int) -> nn.Module:
        """The change of one weight.

        Args:
            weight: ``[o, ...]``.
            number: Number of the layer, for seeds.
        """


class SvFit(_Reparametrised):
    """The largest singular values of each weight learn; its singular vectors stay.

    W = U S V^T of the weight as a matrix ``[o, rest]``; the first ``rank`` values of S are parameters.

    References:
        Sun et al., SVFit: Parameter-Efficient Fine-Tuning of Large Pre-Trained Models Using Singular Values, 2024.
    """

    def of(self, weight: Tensor, number: int) -> nn.Module:
        """Its decomposition."""
        return Spectrum(weight.detach(), self.rank)


class Nola(_Reparametrised):
    """A low-rank change B A, whose factors are sums of fixed random matrices; the sums' coefficients learn.

    A = sum_i a_i A_i and B = sum_i b_i B_i over ``bases`` matrices each, drawn from the number of the layer and
    ``seed``. They are not stored: a checkpoint holds the coefficients. B starts at zero.

    Args:
        rank: Rank of the change.
        bases: Matrices in each sum.
        seed: Random seed of the matrices.
        targets: See ``Lora``.
        pace: Settings of every ``Tuning``.

    References:
        Koohpayegani et al., NOLA: Compressing LoRA using Linear Combination of Random Basis, 2024.
    """

    def __init__(
        self,
        *,
        rank: int = 8,
        bases: int = 64,
        seed: int = 0,
        targets: Sequence[str] = ("attention", "mlp", "convolution"),
        **pace: float,
    ) -> None:
        super().__init__(rank=rank, targets=targets, **pace)
        if bases < 1:
            raise InputError(f"finetuning.bases={bases}: expected 1 or more")
        self.bases, self.seed = bases, seed

    def of(self, weight: Tensor, number: int) -> nn.Module:
        """Coefficients of its own bases."""
        return RandomSum(weight.shape, self.rank, self.bases, seed=1000003 * self.seed + number)


class Spectrum(nn.Module):
    """The weight with its first singular values replaced by parameters, which start at them.

    Args:
        weight: To decompose.
        rank: Number of values.
    """

    left: Tensor
    right: Tensor
    start: Tensor

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        left, values, right = torch.linalg.svd(weight.float().flatten(1), full_matrices=False)
        rank = min(rank, len(values))
        self.register_buffer("left", left[:, :rank].contiguous())
        self.register_buffer("right", right[:rank].contiguous())
        self.register_buffer("start", values[:rank].clone())
        self.values = nn.Parameter(values[:rank].clone())

    def forward(self, weight: Float[Tensor, "o *k"]) -> Float[Tensor, "o *k"]:
        """The weight plus U (s - s_0) V^T."""
        change = (self.left * (self.values - self.start)) @ self.right
        return weight + change.view_as(weight).to(weight.dtype)


class RandomSum(nn.Module):
    """The weight plus B A, sums of random matrices of unit scale.

    Args:
        shape: Shape of the weight.
        rank: Rank of the change.
        bases: Matrices in each sum.
        seed: Random seed of the matrices.
    """

    down: Tensor
    up: Tensor

    def __init__(self, shape: Sequence[int], rank: int, bases: int, *, seed: int) -> None:
        super().__init__()
        out, rest = shape[0], int(torch.Size(shape[1:]).numel())
        random = torch.Generator().manual_seed(seed)
        down = torch.randn(bases, rank, rest, generator=random) / (bases * rest) ** 0.5
        up = torch.randn(bases, out, rank, generator=random) / (bases * rank) ** 0.5
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)
        self.a = nn.Parameter(torch.ones(bases))
        self.b = nn.Parameter(torch.zeros(bases))

    def forward(self, weight: Float[Tensor, "o *k"]) -> Float[Tensor, "o *k"]:
        """The changed weight."""
        down = torch.einsum("n,nri->ri", self.a, self.down)
        up = torch.einsum("n,nor->or", self.b, self.up)
        return weight + (up @ down).view_as(weight).to(weight.dtype)
