"""An interrupt ends what a command waits for, and in the end the command itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from reconciler.cli import interrupts
from reconciler.cli.interrupts import interruptible
from reconciler.sources.foreign_calls import interruptible as interruptible_call


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
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


def test_a_call_that_ignores_signals_can_be_interrupted() -> None:
    begun, release = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        release.wait(60)

    def interrupt() -> None:
        begun.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        interruptible_call(call)
    release.set()


def test_a_call_gives_its_result_or_its_error() -> None:
    assert interruptible_call(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        interruptible_call(lambda: 1 // 0)
