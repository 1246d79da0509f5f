"""A gateway as a source of single blocks, and of ranges of a file as plain bytes or as a CAR.

The gateway is not trusted: status and headers only decide whether reading on is worthwhile. The tree is known
before a range is requested, so plain bytes of the file can be cut into blocks and verified; for a Kubo node
they cost a third of a CAR. Requests follow the Path Gateway and Trustless Gateway specifications
(specs.ipfs.tech; `Range`, `format`, `dag-scope`, `entity-bytes`). Redirects are not followed, so that every
response comes from the host that the user named.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import Enum

from reconciler.consume.ipns import RECORD_LIMIT
from reconciler.consume.sources import SECTION_OVERHEAD, BadBlockError, BlockRange, BlockRefusedError, Parts
from reconciler.content.bounds import MAX_BLOCK, MAX_CAR_HEADER
from reconciler.content.car_reader import CarReader
from reconciler.content.cid import Cid
from reconciler.download.limits import CONNECTIONS_LIMIT
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.net.auth import Auth
from reconciler.net.client import HttpClient, Params, Stream
from reconciler.net.deadline import Timeouts
from reconciler.net.errors import (
    AccessDeniedError,
    NotFoundError,
    RejectedError,
    ResponseTooLargeError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.response import Response
from reconciler.net.retry import NO_RETRY, RetryPolicy
from reconciler.redaction import shown_address

_TIMEOUTS = Timeouts(connect=10.0, silence=20.0, total=60.0)  # for one block, at most 2 MiB
_RETRY = RetryPolicy(attempts=2)
_SLOWEST = 128 << 10  # bytes per second below which the rest of a range is not waited for
_GONE = (404, 410, 451)
_REFUSED = (410, 451)  # of these, by its policy (Path Gateway specification, 410 Gone and 451)
_MOVED = (301, 302, 307, 308)
_UNSUPPORTED = (400, 406, 501)
# statuses that do not fail a plain range request; all but 206 mean that the range is not available
_RANGE_STATUSES = (200, 206, *range(300, 400), *_UNSUPPORTED, *_GONE, 405, 415, 416)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/")
_CAR_OVERHEAD = 1 << 20  # bytes of a CAR in addition to its leaves: the inner blocks above them


class _RangeForm(Enum):
    """The form in which a range of a file is requested, the cheaper one first."""

    FILE = "file"
    CAR = "car"


class GatewaySource:
    """The gateway at `url`, which serves blocks below `/ipfs/`. Raises UsageError for an invalid URL."""

    def __init__(
        self,
        url: str,
        *,
        auth: Auth | None = None,
        timeouts: Timeouts = _TIMEOUTS,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        self.name = shown_address(url).rstrip("/")
        self.retry = retry  #: of single calls; a download has its own rules
        self.meter: Callable[[int], None] = lambda _: None  #: see MeteredSource
        self._http = HttpClient(url, name=self.name, auth=auth, timeouts=timeouts, retry=NO_RETRY)
        self._host: Mapping[str, str] = {}  # the Host header, where another than that of the URL is needed
        self._forms: tuple[_RangeForm, ...] = tuple(_RangeForm)

    @property
    def width(self) -> int:
        """As many as the user allows."""
        return CONNECTIONS_LIMIT

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        """See Source.read_block."""
        try:
            response = self._get(
                f"/ipfs/{cid}", "raw", "application/vnd.ipld.raw", MAX_BLOCK if size is None else size
            )
        except AccessDeniedError as error:
            raise self._denial(error) from None
        except (NotFoundError, RejectedError) as error:
            if error.status in _GONE:
                raise self._without(f"block {cid}", error.status) from None
            raise
        except ResponseTooLargeError:
            raise BadBlockError(self.name, cid, "sent too many bytes for") from None
        self.meter(len(response.body))
        if not cid.matches(response.body):
            raise BadBlockError(self.name, cid)
        return response.body

    def ipns_record(self, name: str) -> bytes:
        """Return the signed record of an IPNS name, unverified. Raises PeerError."""
        accept = "application/vnd.ipfs.ipns-record"
        return self._get(f"/ipns/{name}", "ipns-record", accept, RECORD_LIMIT, self.retry).body

    def _get(self, path: str, form: str, accept: str, limit: int, retry: RetryPolicy = NO_RETRY) -> Response:
        """Request `path` in a format. Raises RequestError.

        Kubo redirects requests to `localhost` to a host of their own for each CID, which isolates web pages
        from each other; with its IP address in the Host header it answers them itself.
        """

        def request() -> Response:
            return self._http.request(
                "GET",
                path,
                params=[("format", form)],
                headers={"Accept": accept, **self._host},
                limit=limit,
                repeatable=True,
                retry=retry,
            )

        try:
            return request()
        except UnexpectedResponseError as error:
            address = self._http.address
            if self._host or error.status not in _MOVED or address.host != "localhost":
                raise
            self._host = {"Host": f"127.0.0.1:{address.port}"}
            return request()

    def _without(self, what: str, status: int | None) -> BlockUnavailableError:
        """Return the error for something that the gateway does not have, or refuses to serve."""
        if status in _REFUSED:
            return BlockRefusedError(f"{self.name} refuses {what} by its policy (HTTP {status})")
        return BlockUnavailableError(f"{self.name} does not have {what}")

    def _denial(self, error: AccessDeniedError) -> AccessDeniedError:
        """Return `error` with advice for a gateway."""
        hint = "name a variable with its token under `hosts` in your configuration, or use another gateway"
        if self._http.secrets:
            hint = "check its token, and whether its policy refuses this content"
        message = error.message.removeprefix(f"{self.name}: ")
        return AccessDeniedError(self.name, message, hint=hint, status=error.status)

    @contextmanager
    def stream_blocks(self, requested: BlockRange) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        """See StreamingSource.stream_blocks. A form that failed while another one worked is not used
        again.
        """
        forms = [form for form in self._forms if form is not _RangeForm.FILE or requested.is_contiguous]
        for form in forms:
            open_form = self._open_file if form is _RangeForm.FILE else self._open_car
            with open_form(requested) as blocks:
                if blocks is not None:
                    self._disable(*forms[: forms.index(form)])
                    try:
                        yield blocks
                    except BadBlockError:
                        self._disable(form)
                        raise
                    return
        self._disable(*forms)
        yield None

    @contextmanager
    def _open_file(self, requested: BlockRange) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        """Request plain bytes of the file and cut them into blocks; None when the gateway does not serve
        them.
        """
        span = f"bytes={requested.first}-{requested.last}"
        try:
            with self._stream(requested, headers={"Range": span}, expect=_RANGE_STATUSES) as response:
                length = _answered(response, requested)
                if length is None:
                    yield None
                else:
                    yield _cut_blocks(self._metered(response.pieces(length)), requested)
        except TransientError as error:
            if error.status != 501:
                raise
            yield None

    @contextmanager
    def _open_car(self, requested: BlockRange) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        """Request a CAR of the range; None when the gateway does not serve it."""
        params = [("format", "car"), ("dag-scope", "all" if requested.whole else "entity")]
        if not requested.whole:
            params.append(("entity-bytes", f"{requested.first}:{requested.last}"))
        accept = "application/vnd.ipld.car; version=1; order=dfs; dups=n"
        try:
            with self._stream(requested, params=params, headers={"Accept": accept}) as response:
                if "vnd.ipld.car" not in response.headers.get("content-type", ""):
                    yield None
                    return
                # Each leaf may be a section of its own with its CID; the limit excludes additional blocks.
                leaves = requested.size + len(requested.blocks) * SECTION_OVERHEAD
                limit = leaves + requested.tree + MAX_CAR_HEADER + _CAR_OVERHEAD + 2 * MAX_BLOCK
                yield self._car_blocks(_BodyReader(self._metered(response.pieces(limit))), requested)
        except (NotFoundError, RejectedError) as error:
            if error.status in _GONE:
                raise self._without(str(requested.file), error.status) from None
            if error.status not in _UNSUPPORTED:
                raise
            yield None
        except TransientError as error:
            if error.status != 501:
                raise
            yield None

    def _stream(
        self,
        requested: BlockRange,
        *,
        headers: Mapping[str, str],
        params: Params = (),
        expect: Collection[int] = (200,),
    ) -> AbstractContextManager[Stream]:
        return self._http.stream(
            "GET",
            f"/ipfs/{requested.file}",
            params=params,
            headers={**headers, **self._host},
            expect=expect,
            repeatable=True,
            total=self._http.timeouts.total + requested.size / _SLOWEST,
        )

    def _car_blocks(self, stream: _BodyReader, requested: BlockRange) -> Iterator[tuple[Cid, Parts]]:
        """Iterate over the blocks of a CAR. Raises BadBlockError when it is malformed."""
        try:
            for section in CarReader(stream, hashing=False):  # type: ignore[arg-type]  # it only reads
                yield section.cid, (section.data,)
        except DataError as error:
            what = f"sent a malformed CAR ({error.message}) of"
            raise BadBlockError(self.name, requested.file, what) from None

    def _metered(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.meter(len(piece))
            yield piece

    def _disable(self, *forms: _RangeForm) -> None:
        self._forms = tuple(each for each in self._forms if each not in forms)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def _answered(response: Stream, requested: BlockRange) -> int | None:
    """Return the number of bytes of the file in a response; None when they are not from the requested start.

    A server may answer with a shorter range (RFC 9110, 15.3.7), and with several parts only if several ranges
    are requested.
    """
    if response.status != 206:
        return None
    found = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
    if found is None or int(found[1]) != requested.first:
        return None
    last = int(found[2])
    return last + 1 - requested.first if requested.first <= last <= requested.last else None


def _cut_blocks(pieces: Iterator[bytes], requested: BlockRange) -> Iterator[tuple[Cid, Parts]]:
    """Cut consecutive bytes into blocks of the expected sizes; stop when the bytes end early."""
    piece = memoryview(b"")
    for cid, size in zip(requested.blocks, requested.sizes, strict=True):
        parts: list[memoryview] = []
        remaining = size
        while remaining:
            piece = piece or memoryview(next(pieces, b""))
            if not piece:
                return
            parts.append(piece[:remaining])
            remaining -= len(parts[-1])
            piece = piece[len(parts[-1]) :]
        yield cid, parts
    for _ in pieces:  # a response that is read to its end leaves its connection reusable
        pass


class _BodyReader(io.RawIOBase):
    """The pieces of a response body as a stream. `read` returns what is available, without waiting for
    more.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return 1 to `size` bytes; b"" at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece = memoryview(piece)
        part = self._piece[:size] if size >= 0 else self._piece
        self._piece = self._piece[len(part) :]
        return bytes(part)
