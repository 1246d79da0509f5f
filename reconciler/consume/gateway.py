"""A gateway as a source: raw blocks, and stretches of a file as they are or as a CAR.

Nothing that it says is believed: statuses and headers only tell whether it is worth reading on. The tree is
known before a stretch is asked for, so its bytes can be cut into blocks and verified even when they come as a
plain range of the file, which costs a Kubo node a third of a CAR. Requests are those of the Path
GatewaySource and Trustless GatewaySource specifications (specs.ipfs.tech; `Range`, `format`, `dag-scope`,
`entity-bytes`); redirects are not followed, so that an answer comes from the host that the user named.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import Enum

from reconciler.consume.ipns import RECORD_LIMIT
from reconciler.consume.sources import SECTION_OVERHEAD, BadBlockError, Parts, Stretch
from reconciler.content.car_reader import CarReader
from reconciler.content.cid import Cid
from reconciler.content.profile import MAX_BLOCK, MAX_CAR_HEADER
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.net.client import HttpClient, Params, Stream
from reconciler.net.deadline import Timeouts
from reconciler.net.errors import NotFoundError, RejectedError, TransientError, UnexpectedResponseError
from reconciler.net.retry import RetryPolicy

_REQUESTS = 4  # for single blocks at once
_TIMEOUTS = Timeouts(connect=10.0, silence=20.0, total=60.0)  # for a block, 2 MiB at most
_RETRY = RetryPolicy(attempts=2)
_SLOWEST = 128 << 10  # bytes a second below which a stretch is given up
_GONE = (404, 410, 451)
_CANNOT = (400, 406, 501)
_MAY_BE_PLAIN = (200, 206, *range(300, 400), *_CANNOT, *_GONE, 405, 415, 416)  # all but 206: it is not
_OVERHEAD = 1 << 20  # bytes of a CAR besides its leaves: the way down to them


class _Way(Enum):
    """How a stretch comes, the cheaper way first."""

    FILE = "file"
    CAR = "car"


class GatewaySource:
    """The gateway at `url`; blocks are below `/ipfs/` there. Raises UsageError for what is no address."""

    def __init__(self, url: str, *, timeouts: Timeouts = _TIMEOUTS, retry: RetryPolicy = _RETRY) -> None:
        self.name = url.rstrip("/")
        self._http = HttpClient(url, name=self.name, timeouts=timeouts, retry=retry)
        self._ways: tuple[_Way, ...] = tuple(_Way)

    @property
    def width(self) -> int:
        """One stream, or several requests: a run that is killed loses the block that each was receiving."""
        return 1 if self._ways else _REQUESTS

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        """As Source.read_block says."""
        try:
            answer = self._http.request(
                "GET",
                f"/ipfs/{cid}",
                params=[("format", "raw")],
                headers={"Accept": "application/vnd.ipld.raw"},
                limit=MAX_BLOCK if size is None else size,
                repeatable=True,
            )
        except (NotFoundError, RejectedError) as error:
            if error.status in _GONE:
                raise BlockUnavailableError(f"{self.name} has no block {cid}") from None
            raise
        except UnexpectedResponseError as error:
            if error.status is None and "more than" in error.message:
                raise BadBlockError(self.name, cid, "sent too many bytes for") from None
            raise
        if not cid.matches(answer.body):
            raise BadBlockError(self.name, cid)
        return answer.body

    def ipns_record(self, name: str) -> bytes:
        """The signed record of an IPNS name, not verified."""
        answer = self._http.request(
            "GET",
            f"/ipns/{name}",
            params=[("format", "ipns-record")],
            headers={"Accept": "application/vnd.ipfs.ipns-record"},
            limit=RECORD_LIMIT,
            repeatable=True,
        )
        return answer.body

    @contextmanager
    def stretch(self, wanted: Stretch) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        """As Streams.stretch says. A way that did not work where another one did is not tried again."""
        ways = [way for way in self._ways if way is not _Way.FILE or wanted.plain]
        for way in ways:
            with (self._file if way is _Way.FILE else self._car)(wanted) as blocks:
                if blocks is not None:
                    self._give_up(*ways[: ways.index(way)])
                    try:
                        yield blocks
                    except BadBlockError:
                        self._give_up(way)
                        raise
                    return
        self._give_up(*ways)
        yield None

    @contextmanager
    def _file(self, wanted: Stretch) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        """The bytes as they are in the file, cut into the blocks that they have to be."""
        span = f"bytes={wanted.first}-{wanted.last}"
        try:
            with self._stream(wanted, headers={"Range": span}, expect=_MAY_BE_PLAIN) as answer:
                said = answer.headers.get("content-range", "")
                if answer.status == 206 and said.startswith(f"{span.replace('=', ' ')}/"):
                    yield _cut(answer.pieces(wanted.size), wanted)
                else:
                    yield None
        except TransientError as error:
            if error.status != 501:
                raise
            yield None

    @contextmanager
    def _car(self, wanted: Stretch) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        params = [("format", "car"), ("dag-scope", "all" if wanted.whole else "entity")]
        if not wanted.whole:
            params.append(("entity-bytes", f"{wanted.first}:{wanted.last}"))
        accept = "application/vnd.ipld.car; version=1; order=dfs; dups=n"
        try:
            with self._stream(wanted, params=params, headers={"Accept": accept}) as answer:
                if "vnd.ipld.car" not in answer.headers.get("content-type", ""):
                    yield None
                    return
                # Each leaf may be alone with its CID; everything beyond what was asked for is one too many.
                leaves = wanted.size + len(wanted.blocks) * SECTION_OVERHEAD
                limit = leaves + wanted.tree + MAX_CAR_HEADER + _OVERHEAD + 2 * MAX_BLOCK
                yield self._blocks(_BodyReader(answer.pieces(limit)), wanted)
        except (NotFoundError, RejectedError) as error:
            if error.status in _GONE:
                raise BlockUnavailableError(f"{self.name} has nothing of {wanted.file}") from None
            if error.status not in _CANNOT:
                raise
            yield None
        except TransientError as error:
            if error.status != 501:
                raise
            yield None

    def _stream(
        self,
        wanted: Stretch,
        *,
        headers: Mapping[str, str],
        params: Params = (),
        expect: Collection[int] = (200,),
    ) -> AbstractContextManager[Stream]:
        return self._http.stream(
            "GET",
            f"/ipfs/{wanted.file}",
            params=params,
            headers=headers,
            expect=expect,
            repeatable=True,
            total=self._http.timeouts.total + wanted.size / _SLOWEST,
        )

    def _blocks(self, stream: _BodyReader, wanted: Stretch) -> Iterator[tuple[Cid, Parts]]:
        try:
            for section in CarReader(stream, hashing=False):  # type: ignore[arg-type]  # it only reads
                yield section.cid, (section.data,)
        except DataError as error:
            raise BadBlockError(self.name, wanted.file, f"sent no good CAR ({error.message}) of") from None

    def _give_up(self, *ways: _Way) -> None:
        self._ways = tuple(each for each in self._ways if each not in ways)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def _cut(pieces: Iterator[bytes], wanted: Stretch) -> Iterator[tuple[Cid, Parts]]:
    """Blocks of the sizes that they should have; the last ones are not there when the bytes end early."""
    piece = memoryview(b"")
    for cid, size in zip(wanted.blocks, wanted.sizes, strict=True):
        parts: list[memoryview] = []
        lacking = size
        while lacking:
            piece = piece or memoryview(next(pieces, b""))
            if not piece:
                return
            parts.append(piece[:lacking])
            lacking -= len(parts[-1])
            piece = piece[len(parts[-1]) :]
        yield cid, parts
    for _ in pieces:  # an answer that is read to its end leaves its connection to the next
        pass


class _BodyReader(io.RawIOBase):
    """Pieces of a body as a stream: `read` gives at most what was asked for, and waits for no more."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """1 to `size` bytes; none at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece = memoryview(piece)
        part = self._piece[:size] if size >= 0 else self._piece
        self._piece = self._piece[len(part) :]
        return bytes(part)
