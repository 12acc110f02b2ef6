"""Messages of medseg: what a command prints of them, and what an application that uses medseg gets."""

import logging

import pytest
from rich.table import Table

import medseg
from medseg.runtime import console

LOG = logging.getLogger("medseg.somewhere")


def said() -> None:
    LOG.warning("%d cases are odd", 2)
    LOG.info("the third is left out")
    LOG.error("no such file")
    LOG.debug("not for users")
    console.show(LOG, "Dice [0.9] :ok:")


def test_a_command_prints_output_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with console.messages():
        said()
    printed = capsys.readouterr()
    assert printed.out == "Dice [0.9] :ok:\n"
    assert printed.err.splitlines() == [
        "warning: 2 cases are odd",
        "note: the third is left out",
        "error: no such file",
    ]


def test_messages_are_printed_once_however_often_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with console.messages(), console.messages(), console.messages_unless_configured():
        LOG.warning("odd")
    assert capsys.readouterr().err == "warning: odd\n"


def test_afterwards_the_logger_is_as_before() -> None:
    root = logging.getLogger("medseg")
    before = (list(root.handlers), root.level, root.propagate)
    with console.messages():
        assert len(root.handlers) == len(before[0]) + 1
    assert (root.handlers, root.level, root.propagate) == before


def test_an_application_that_has_set_up_logging_gets_the_messages(
    caplog: pytest.LogCaptureFixture, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    caplog.set_level(logging.INFO, logger="medseg")
    with console.messages_unless_configured():
        said()
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("medseg.somewhere", "WARNING", "2 cases are odd"),
        ("medseg.somewhere", "INFO", "the third is left out"),
        ("medseg.somewhere", "ERROR", "no such file"),
        ("medseg.somewhere", "INFO", "Dice [0.9] :ok:"),
    ]
    assert capfdbinary.readouterr() == (b"", b"")


def test_an_application_may_filter_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="medseg.somewhere")
    said()
    assert [r.getMessage() for r in caplog.records] == ["no such file"]


def test_a_table_is_text_for_other_handlers(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table = Table("class", "dice", box=None)
    table.add_row("left hippocampus of the brain", "0.9")
    caplog.set_level(logging.INFO, logger="medseg")
    console.show(LOG, table)
    (record,) = caplog.records
    assert [line.split() for line in record.getMessage().splitlines()] == [
        ["class", "dice"],
        ["left", "hippocampus", "of", "the", "brain", "0.9"],
    ]
    assert "\x1b" not in record.getMessage()


def test_a_script_without_logging_gets_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr("medseg.hydra_app.compose.compose", lambda *_, **__: {})
    monkeypatch.setattr("medseg.training.train.train", lambda cfg: LOG.warning("as the command"))
    medseg.train("seed=1")
    assert capfdbinary.readouterr() == (b"", b"warning: as the command\n")
