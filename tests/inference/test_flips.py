import torch

from medseg.inference.flips import flipped


def test_no_axes_is_the_network_itself() -> None:
    def network(image: torch.Tensor) -> torch.Tensor:
        return image

    assert flipped(network, ()) is network


def test_network_that_commutes_with_mirrors_is_unchanged() -> None:
    image = torch.randn(1, 2, 3, 4, 5)
    torch.testing.assert_close(flipped(lambda x: x * 2, (0, 1, 2))(image), image * 2)


def test_average_over_all_subsets_by_hand() -> None:
    def first_cell(image: torch.Tensor) -> torch.Tensor:  # does not commute: marks index 0 of the axis
        return torch.cat([torch.ones_like(image[..., :1]), torch.zeros_like(image[..., 1:])], dim=-1)

    logits = flipped(first_cell, (0,))(torch.zeros(1, 1, 4))
    assert logits.flatten().tolist() == [0.5, 0, 0, 0.5]


def test_lateral_mirror_exchanges_left_and_right_outputs() -> None:
    # Classes: background, left (lit in the first half), right (lit in the second half).
    def sided(image: torch.Tensor) -> torch.Tensor:
        half = image.shape[-1] // 2
        logits = torch.zeros(len(image), 3, image.shape[-1])
        logits[:, 1, :half], logits[:, 2, half:] = 1, 1
        return logits

    kept = flipped(sided, (0,), lateral_axis=0, swap=(0, 2, 1))(torch.zeros(1, 1, 4))
    torch.testing.assert_close(kept, sided(torch.zeros(1, 1, 4)))
    confused = flipped(sided, (0,))(torch.zeros(1, 1, 4))
    assert confused[0, 1].tolist() == [0.5] * 4
