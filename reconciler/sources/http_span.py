"""The bytes of one file in the answer to a request for a range: checked, then taken in order.

A server may ignore ranges and answer with the whole file (RFC 9110, 14.2). Such an answer has every byte up
to the end of the file, so its reader goes on with it in place of further requests. Some servers answer with
the requested part, name it in a Content-Range, and set the status 200 nevertheless. Such a part is taken for
what it is when the Content-Range is exactly the requested one and the length fits: nothing says more with the
status 206, and the digests of the file are compared in both cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from reconciler.errors import SourceChangedError
from reconciler.net.errors import RequestError, TransientError
from reconciler.net.response import OpenBody
from reconciler.sources.interface import ListedFile, SourceError, SourceProtocolError
from reconciler.sources.ranges import BrokenOffError

CHANGED_HINT = "list the source again; a revision that is pinned never changes"
#: the first and the last byte, and the size of the file
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_SKIPPED = 256 << 10  # bytes that are read and dropped at once


class HttpSpan:
    """The bytes of `file` from `start` in an open answer of status 200 or 206 to a request up to `end`.

    `end` is where its bytes end: before the requested one, or at the end of the file when all of it came.
    `failed` turns the failure of a request into that of the source, `shown` makes a peer's text fit for a
    message. Raises SourceChangedError when the file has another size or ETag now, SourceProtocolError for
    another range.
    """

    def __init__(
        self,
        name: str,
        body: OpenBody,
        file: ListedFile,
        start: int,
        end: int,
        *,
        failed: Callable[[RequestError, str], SourceError],
        shown: Callable[[str, int], str],
    ) -> None:
        self._name = name
        self._body = body
        self._file = file
        self._at = start
        self._requested = end
        self._failed = failed
        try:
            _check_etag(name, body.headers, file)
            part = _part(name, body, file, start, end, shown)
        except BaseException:
            body.close()
            raise
        self.is_whole = part is None  #: whether the range was ignored, or not given
        self._skip = start if part is None else 0
        self.end = file.size if part is None else part

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the requested bytes. Raises SourceError, and BrokenOffError when they end early."""
        end = min(self.end, self._requested)
        try:
            for piece in self._body.pieces(self._skip + self.end - self._at):
                data = piece[self._skip :] if self._skip else piece
                self._skip -= len(piece) - len(data)
                data = data[: end - self._at]
                self._at += len(data)
                if data:
                    yield data
                if self._at == end and self.is_whole:
                    return
        except RequestError as error:
            raise self._error(error) from None
        finally:
            self._body.close()

    def read_into(self, memory: memoryview) -> int:
        """Implement SourceSpan.read_into."""
        memory = memory[: self.end - self._at]
        if not memory:
            return 0
        try:
            while self._skip:
                self._skip -= self._receive(memoryview(bytearray(min(self._skip, _SKIPPED))))
            count = self._receive(memory)
            self._at += count
            if self._at == self.end:
                with suppress(RequestError):  # all bytes are here, this alone makes the connection reusable
                    self._body.receive_into(memoryview(bytearray(1)))
        except RequestError as error:
            raise self._error(error) from None
        return count

    def close(self) -> None:
        """Implement SourceSpan.close."""
        self._body.close()

    def _receive(self, memory: memoryview) -> int:
        count = self._body.receive_into(memory)
        if not count:
            raise BrokenOffError(self._name, f"ends at byte {self._at}", file=self._file.path)
        return count

    def _error(self, error: RequestError) -> SourceError:
        if isinstance(error, TransientError):
            text = error.message.removeprefix(f"{error.peer}: ")
            return BrokenOffError(self._name, text, file=self._file.path, hint=error.hint)
        return self._failed(error, self._file.path)


def resized(name: str, file: ListedFile, size: int) -> SourceChangedError:
    """Make the error for a file that has `size` bytes now."""
    return SourceChangedError(
        f"{name}: {file.path!r} has {size} bytes now instead of {file.size}", hint=CHANGED_HINT
    )


def _check_etag(name: str, headers: Mapping[str, str], file: ListedFile) -> None:
    etag = headers.get("etag", "")
    if file.etag and etag and etag != file.etag:
        raise SourceChangedError(
            f"{name}: {file.path!r} has another ETag than when it was listed", hint=CHANGED_HINT
        )


def _part(
    name: str, body: OpenBody, file: ListedFile, start: int, end: int, shown: Callable[[str, int], str]
) -> int | None:
    """Return where the part in an answer ends; None for an answer with the whole file."""
    length = body.headers.get("content-length", "")
    size = int(length) if length.isascii() and length.isdigit() else None
    stated = body.headers.get("content-range", "")
    found = CONTENT_RANGE.fullmatch(stated.strip())
    if body.status == 200:
        requested = found is not None and (int(found[1]), int(found[2])) == (start, end - 1)
        if requested and found is not None and found[3] == str(file.size) and size == end - start:
            return end
        if size is not None and size != file.size:
            raise resized(name, file, size)
        return None
    if found is None:
        raise SourceProtocolError(
            name,
            f"came as a part of the file without a valid Content-Range ({shown(stated, 60)!r})",
            file=file.path,
        )
    first, last = int(found[1]), int(found[2])
    if found[3] != "*" and int(found[3]) != file.size:
        raise resized(name, file, int(found[3]))
    if first != start or not first <= last < end or size not in (None, last + 1 - first):
        raise SourceProtocolError(
            name, f"came with bytes {first} to {last} instead of {start} to {end - 1}", file=file.path
        )
    return last + 1
