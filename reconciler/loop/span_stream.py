"""The bytes of a file of a source from one request, which connections take in the order of the file."""

from __future__ import annotations

from threading import Lock

from reconciler.sources.interface import ListedFile, SourceProtocolError, WeightSource

_SKIPPED = 256 << 10  # bytes that are read and dropped at once


class SpanStream:
    """A request for the bytes of `file` from `start` to before `end`; `at` is the place of the next ones.

    Where a source ignores ranges, the answer has all bytes to the end of the file, and so has `end`. Raises
    SourceError, as all methods do.
    """

    def __init__(self, source: WeightSource, file: ListedFile, start: int, end: int) -> None:
        self._name = source.name
        self._file = file
        self._began = self.at = start
        self._span = source.request(file, start, end)
        self.end = self._span.end

    @property
    def is_over(self) -> bool:
        """Whether it has no more bytes to take."""
        return self.at == self.end

    def has(self, path: str, place: int, *, skipping: bool) -> bool:
        """Return whether the next bytes are those of a file from `place`, or with `skipping` earlier ones."""
        here = self.at <= place if skipping else self.at == place
        return self._file.path == path and here and place < self.end

    def skip_to(self, place: int) -> None:
        """Read and drop the bytes before `place`."""
        dropped = memoryview(bytearray(min(_SKIPPED, place - self.at)))
        while self.at < place:
            self.read_into(dropped[: place - self.at])

    def read_into(self, memory: memoryview) -> int:
        """Fill the beginning of `memory` with the next bytes; return how many there were, 0 at the end.

        Raises SourceProtocolError when they end early: what is in the memory must never be taken for them.
        After an error there are no more bytes.
        """
        memory = memory[: self.end - self.at]
        try:
            count = self._span.read_into(memory) if memory else 0
            if memory and not count:
                raise SourceProtocolError(
                    self._name,
                    f"came with {self.at - self._began} bytes from byte {self._began} instead of "
                    f"{self.end - self._began}",
                    file=self._file.path,
                )
        except BaseException:
            self.end = self.at
            raise
        self.at += count
        return count

    def close(self) -> None:
        """End the request."""
        self._span.close()


class KeptStream:
    """At most one response that no connection reads at the moment. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stream: SpanStream | None = None
        self._closed = False

    def put(self, stream: SpanStream | None, *, unless: bool = False) -> None:
        """Keep `stream` in place of another one; close it at once if it is over, and for `unless`."""
        if stream is None:
            return
        with self._lock:
            if not (unless or stream.is_over or self._closed):
                stream, self._stream = self._stream, stream
        if stream is not None:
            stream.close()

    def take(self, path: str, place: int, *, skipping: bool) -> SpanStream | None:
        """Return the stream if it has the bytes of a file from `place`, see SpanStream.has."""
        with self._lock:
            if self._stream is None or not self._stream.has(path, place, skipping=skipping):
                return None
            taken, self._stream = self._stream, None
            return taken

    def close(self) -> None:
        """Close the stream, and every one that is put from now on."""
        with self._lock:
            stream, self._stream, self._closed = self._stream, None, True
        if stream is not None:
            stream.close()
