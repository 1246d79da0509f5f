"""A call of a library that ignores signals: an interrupt ends the wait for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from reconciler.sources.foreign_calls import call_interruptibly


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
        call_interruptibly(call)
    release.set()


def test_a_call_gives_its_result_or_its_error() -> None:
    assert call_interruptibly(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        call_interruptibly(lambda: 1 // 0)
