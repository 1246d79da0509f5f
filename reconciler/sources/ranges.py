"""Ranges of bytes: those of a caller, checked, and reads that go on at the byte where they broke off."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

from reconciler.net.retry import RetryPolicy
from reconciler.sources.interface import ListedFile, SourceProtocolError, SourceUnavailableError

ATTEMPTS = 4  #: connections in a row that may break off before _PROGRESS bytes have arrived
_PROGRESS = 1 << 20  # bytes

#: reads the bytes from the first to before the second offset once; raises BrokenOffError, or another error
ReadOnce = Callable[[int, int], Iterator[bytes]]


class BrokenOffError(SourceUnavailableError):
    """A connection ended within the bytes; the rest of them can be read by another one."""


def checked_range(file: ListedFile, start: int, length: int | None) -> tuple[int, int]:
    """Return the first byte of a range and the one after its last. Raises ValueError outside of the file."""
    end = file.size if length is None else start + length
    if not 0 <= start <= end <= file.size:
        raise ValueError(f"bytes {start} to {end} are not within the {file.size} bytes of {file.path!r}")
    return start, end


def range_headers(file: ListedFile, start: int, end: int) -> dict[str, str]:
    """Return the headers of a request for the bytes from `start` to before `end`; none for the whole file."""
    return {} if (start, end) == (0, file.size) else {"Range": f"bytes={start}-{end - 1}"}


def read_resuming(
    name: str,
    file: ListedFile,
    start: int,
    end: int,
    read_once: ReadOnce,
    *,
    pause: Callable[[int], None] | None = None,
) -> Generator[bytes, None, None]:
    """Iterate over the bytes of `file` from `start` to before `end`, reconnecting where a read breaks off.

    `pause` waits before attempt number 2, 3 and so on, by default as requests do. Raises what `read_once`
    raises, BrokenOffError only after ATTEMPTS reads without progress, and SourceProtocolError for too many
    bytes.
    """
    attempt, since = 1, start
    while start < end:
        broken = BrokenOffError(name, f"ends at byte {start} of {file.size}, again and again", file=file.path)
        try:
            for piece in read_once(start, end):
                if len(piece) > end - start:
                    raise SourceProtocolError(name, "came with more bytes than requested", file=file.path)
                start += len(piece)
                if piece:
                    yield piece
        except BrokenOffError as error:
            broken = error
        if start == end:
            return
        if start - since >= _PROGRESS:
            attempt, since = 1, start
        attempt += 1
        if attempt > ATTEMPTS:
            raise broken
        (pause or _wait)(attempt)


def _wait(attempt: int) -> None:
    time.sleep(RetryPolicy().pause(attempt - 1))
