"""What a source makes on first use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from reconciler.sources.once import Once


def test_threads_that_ask_at_the_same_time_share_one_result() -> None:
    """No listing is requested twice."""
    made: list[object] = []
    together = Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    once = Once(make)

    def ask(_: int) -> object:
        together.wait(60)
        return once.get()

    assert once.made() is None
    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(ask, range(8)))
    assert results == set(made) == {once.made()}


def test_a_failure_is_not_kept() -> None:
    """A source that was down is asked again by the next call."""
    answers = iter([OSError("down"), None])

    def make() -> str:
        if error := next(answers):
            raise error
        return "listed"

    once = Once(make)
    with pytest.raises(OSError, match="down"):
        once.get()
    assert once.made() is None
    assert once.get() == "listed"
