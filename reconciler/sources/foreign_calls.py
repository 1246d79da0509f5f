"""Calls of a library that does not return on a signal, as those in Rust do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_TICK = 0.2  # seconds
_Result = TypeVar("_Result")


def call_interruptibly(call: Callable[[], _Result]) -> _Result:
    """Return what `call` returns, or raise what it raises; an interrupt of the process ends the wait for it.

    In the main thread, where Python handles signals, it is made by another thread, which is left behind then.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    outcome: Future[_Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised in the main thread
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True, name="foreign-call").start()
    while not wait([outcome], _TICK).done:  # a signal just before a wait without end would not end it
        pass
    return outcome.result()
