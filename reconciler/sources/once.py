"""What is made on first use and kept: a listing, an opened file, a connection to a server. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Once(Generic[Made]):
    """The result of `make`, which is called when it is first asked for, by one thread while others wait.

    A call that raises has made nothing: the next one that asks makes another attempt.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[Made] | None = None

    def get(self) -> Made:
        """Return the result, made now if there is none yet. Raises what `make` raises."""
        with self._lock:
            if self._made is None:
                self._made = (self._make(),)
            return self._made[0]

    def made(self) -> Made | None:
        """Return the result if there is one, without making or waiting for it."""
        return None if self._made is None else self._made[0]
