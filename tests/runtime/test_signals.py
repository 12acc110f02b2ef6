import signal

import pytest

from medseg.runtime import signals


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_a_signal_ends_the_process_with_the_code_of_the_shell(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(signals.EndedBySignal) as ended, signals.handled():
        signal.raise_signal(number)
    assert (ended.value.code, ended.value.name) == (code, signal.Signals(number).name)
    assert signal.getsignal(number) is before


def received(*numbers: int) -> None:
    with signals.deferred():
        for number in numbers:
            signals.receive(number)
            assert signals.pending() == number


def test_within_deferred_the_first_signal_is_kept_and_the_second_raises() -> None:
    with pytest.raises(signals.EndedBySignal, match="130"):
        received(signal.SIGTERM, signal.SIGINT)
    assert signals.pending() == 0


def test_a_signal_that_nobody_looked_for_raises_at_the_end() -> None:
    with pytest.raises(signals.EndedBySignal, match="143"):
        received(signal.SIGTERM)
    assert signals.pending() == 0
