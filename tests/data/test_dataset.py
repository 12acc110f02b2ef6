from medseg.data.dataset import StepSampler


def test_each_epoch_goes_on_where_the_last_ended() -> None:
    now = {"epoch": 0}
    sampler = StepSampler(2, 3, epoch=lambda: now["epoch"])
    first = list(sampler)
    now["epoch"] = 1
    second = list(sampler)
    assert first == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)]]
    assert second == [[(2, 0), (2, 1), (2, 2)], [(3, 0), (3, 1), (3, 2)]]
    assert len(sampler) == 2


def test_ranks_share_the_samples_of_a_step() -> None:
    ranks = [list(StepSampler(1, 2, epoch=lambda: 4, rank=rank, world=2)) for rank in range(2)]
    assert ranks == [[[(4, 0), (4, 2)]], [[(4, 1), (4, 3)]]]
