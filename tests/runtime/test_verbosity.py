"""Notes of libraries are left out while medseg works, and only then."""

import logging
import os
import warnings

import pytest

from medseg.runtime.verbosity import quiet_libraries

NOTES = logging.getLogger("lightning.pytorch")
MESSAGE = "The 'train_dataloader' does not have many workers which may be a bottleneck"


def test_notes_and_warnings_are_left_out_within_and_shown_afterwards(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NOTES, "propagate", True)
    monkeypatch.setattr(NOTES, "level", logging.INFO)
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    filters = warnings.filters[:]
    with quiet_libraries():
        NOTES.info("GPU available: False")
        NOTES.warning("a warning")
        warnings.warn(MESSAGE, UserWarning, stacklevel=1)
        assert os.environ["WANDB_SILENT"] == "true"
    assert [record.getMessage() for record in caplog.records] == ["a warning"]
    assert warnings.filters == filters
    assert "WANDB_SILENT" not in os.environ
    NOTES.info("GPU available: True")
    assert caplog.records[-1].getMessage() == "GPU available: True"
    with pytest.warns(UserWarning, match="many workers"):
        warnings.warn(MESSAGE, UserWarning, stacklevel=1)


def test_other_warnings_are_shown_within() -> None:
    with quiet_libraries(), pytest.warns(UserWarning, match="another"):
        warnings.warn("another", UserWarning, stacklevel=1)


def test_a_tracker_that_sends_scores_may_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    with quiet_libraries(tracker=True):
        assert "WANDB_SILENT" not in os.environ


def test_notes_of_a_checkpoint_are_left_out_too(caplog: pytest.LogCaptureFixture) -> None:
    connector = logging.getLogger("lightning.pytorch.trainer.connectors.checkpoint_connector")
    with caplog.at_level(logging.INFO, logger=connector.name), quiet_libraries():
        connector.addHandler(caplog.handler)
        connector.info("`weights_only` was not set, defaulting to `False`.")
        connector.removeHandler(caplog.handler)
    assert caplog.records == []


def test_notes_of_the_modules_of_a_library_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    library, module = logging.getLogger("numexpr"), logging.getLogger("numexpr.utils")
    before = library.level
    with caplog.at_level(logging.INFO), quiet_libraries():
        module.info("NumExpr defaulting to 2 threads.")
        module.warning("a warning")
    assert [record.getMessage() for record in caplog.records] == ["a warning"]
    assert library.level == before


def test_a_level_that_a_library_sets_within_stays() -> None:
    library = logging.getLogger("pyogrio")
    before = library.level
    try:
        with quiet_libraries():
            library.setLevel(logging.DEBUG)
        assert library.level == logging.DEBUG
    finally:
        library.setLevel(before)
