from medseg.factory.online import online
from medseg.hydra_app.compose import compose


def test_several_loggers_are_chosen_at_once() -> None:
    cfg = compose("train", ["logger=[wandb,tensorboard]", "logger.wandb.offline=false"])
    assert list(cfg.logger) == ["wandb", "tensorboard"]
    assert online(cfg)
    assert not online(compose("train", ["logger=[wandb,tensorboard]"]))
    assert not online(compose("train", ["logger=csv"]))
