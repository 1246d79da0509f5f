"""An interrupt ends what a command waits for, and in the end the command itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from reconciler.cli import interrupts
from reconciler.cli.interrupts import interruptible


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_LONGEST_END", 60)  # the process that it would end is that of the tests
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_waiting_of_threads_and_is_raised(number: signal.Signals) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stopped = threading.Event()
    waiting = threading.Thread(target=stopped.wait)
    with pytest.raises(KeyboardInterrupt), interruptible(stopped.set):
        waiting.start()
        try:
            signal.raise_signal(number)
        finally:
            waiting.join(60)
    assert not waiting.is_alive()
    assert signal.getsignal(number) is signal.default_int_handler


def test_a_signal_that_the_command_does_not_handle_is_left_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible(lambda: None):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_block_that_does_not_end_after_an_interrupt_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    ended = threading.Event()

    def fail() -> None:
        raise OSError("a connection that cannot be closed")

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(interrupts, "_LONGEST_END", 0.01)
    with pytest.raises(KeyboardInterrupt), interruptible(fail):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            assert ended.wait(60)
    assert codes == [130]
    assert capsys.readouterr().err == "error: interrupted\nhint: run again to finish\n"
