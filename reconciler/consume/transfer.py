"""Fetching blocks from all sources at once: what `download` schedules, requested and verified.

The first verified copy of each block is kept. A source that sends wrong bytes is dropped; what it had sent
before is verified, so nothing is lost with it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from reconciler.consume.block_runs import BlockRun, make_runs
from reconciler.consume.selection import SelectedFiles
from reconciler.consume.sources import (
    BadBlockError,
    BlockRange,
    MeteredSource,
    Parts,
    SourcePool,
    StreamingSource,
    TrackedSource,
)
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.download.engine import Download, Handle, SetbackError
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import Setback
from reconciler.download.work import RunForm
from reconciler.errors import BlockUnavailableError, ReconcilerError
from reconciler.net.errors import RequestError, RetryLaterError

_STRAY = 16  # unrequested blocks that one stream may contain
_BUSY = 503  # the status of a server that has too much to do


class Transfer:
    """A transfer of the blocks at the layout positions `missing`.

    `keep` is called with every verified block, from several threads, once for each position. An error that it
    raises ends the transfer. `run` raises that error, BlockUnavailableError when no source has a block, and
    DataError.
    """

    def __init__(
        self,
        selected: SelectedFiles,
        missing: Container[int],
        peers: SourcePool,
        keep: Callable[[int, Parts], None],
        *,
        limits: DownloadLimits = DEFAULT_LIMITS,
    ) -> None:
        self._selected = selected
        self._peers = peers
        runs = make_runs(selected, missing)
        layout = selected.map.layout
        fetchers = [_BlockFetcher(peer, peers, selected, runs, keep) for peer in peers.all]
        scheduler = Scheduler(
            [run.units for run in runs],
            len(layout),
            [fetcher.width for fetcher in fetchers],
            limits,
            # A source that no block of the tree came from is probably as far as the others.
            latencies=[peer.latency or max(each.latency for each in peers.all) for peer in peers.all],
        )
        for number, peer in enumerate(peers.all):
            if not peer.usable:
                scheduler.give_up(number)
        self._download = Download(
            scheduler, fetchers, hopeless=self._unavailable, close=peers.close, max_rate=limits.max_rate
        )
        for peer in peers.all:
            if isinstance(peer.source, MeteredSource):
                peer.source.meter = self._download.meter

    def run(self) -> None:
        """Fetch everything, or raise. Closes the sources at the end, which aborts calls in progress."""
        self._download.run()

    def _unavailable(self, position: int) -> BlockUnavailableError:
        location = self._selected.map.locate(position)
        return self._peers.unavailable(f"block {self._selected.map.layout.cid(position)} ({location})")


class _BlockFetcher:
    """The requests to one source."""

    def __init__(
        self,
        peer: TrackedSource,
        peers: SourcePool,
        selected: SelectedFiles,
        runs: Sequence[BlockRun],
        keep: Callable[[int, Parts], None],
    ) -> None:
        self._peer = peer
        self._peers = peers
        self._tree: Container[Cid] = selected.map.tree
        self._layout: DagLayout = selected.map.layout
        self._runs = runs
        self._keep = keep
        self._metered = isinstance(peer.source, MeteredSource)

    @property
    def width(self) -> int:
        """See Fetcher.width."""
        return self._peer.source.width

    def fetch(self, handle: Handle) -> None:
        """See Fetcher.fetch."""
        if handle.form is RunForm.SINGLE:
            self._fetch_singly(handle)
        elif isinstance(self._peer.source, StreamingSource):
            self._fetch_stream(handle, self._peer.source)
        else:
            handle.unsupported()

    def failed(self, setback: Setback, error: Exception, *, given_up: bool) -> None:
        """See Fetcher.failed."""
        assert isinstance(error, ReconcilerError)  # noqa: S101  every cause below is one
        self._peers.note_setback(self._peer, error, lied=setback is Setback.LIED, given_up=given_up)

    def _fetch_singly(self, handle: Handle) -> None:
        for position in handle.units():
            size = self._layout.block_size(position)
            try:
                block = self._peer.source.read_block(self._layout.cid(position), size)
            except BlockUnavailableError as error:
                self._peers.note_missing(self._peer, error)
                handle.lacks(position)
            except ReconcilerError as error:
                raise _setback(error, position) from error
            else:
                if not self._metered:
                    handle.received(len(block))
                self._deliver(handle, position, (block,))

    def _fetch_stream(self, handle: Handle, source: StreamingSource) -> None:
        requested = self._runs[handle.run].expand(self._layout, *handle.span)
        try:
            with source.stream_blocks(requested) as blocks:
                if blocks is None:
                    handle.unsupported()
                else:
                    self._receive(handle, requested, blocks)
        except BlockUnavailableError as error:
            self._peers.note_missing(self._peer, error)
            handle.lacks_all = True
        except ReconcilerError as error:
            raise _setback(error) from error

    def _receive(self, handle: Handle, requested: BlockRange, blocks: Iterable[tuple[Cid, Parts]]) -> None:
        """Accept the requested blocks of a stream, until another connection has taken over the rest.

        Raises BadBlockError for wrong bytes and for too many unrequested blocks.
        """
        expected, stray, size = set(requested.blocks), 0, 0
        for cid, data in blocks:
            if cid in expected:
                if not cid.matches(*data):
                    raise BadBlockError(self._peer.source.name, cid)
                position = self._layout.find(cid)
                assert position is not None  # noqa: S101  the range was made from this layout
                size += sum(map(len, data))
                self._deliver(handle, position, data)
                if handle.taken_over:
                    return
            elif cid not in self._tree:
                stray += 1
                if stray > _STRAY:
                    raise BadBlockError(self._peer.source.name, cid, "sent unrequested blocks, such as")
        if handle.form is RunForm.RANGE and 0 < size < requested.size:
            handle.limit(size)  # it answers with less than requested

    def _deliver(self, handle: Handle, position: int, block: Parts) -> None:
        def keep() -> None:
            self._peers.count_block(self._peer, sum(map(len, block)))
            self._keep(position, block)

        handle.deliver(position, sum(map(len, block)), keep)


def _setback(error: ReconcilerError, unit: int | None = None) -> SetbackError:
    """Return what `error` of a source means for the download."""
    if isinstance(error, BadBlockError):
        return SetbackError(Setback.LIED, error, unit=unit)
    if isinstance(error, RetryLaterError):
        return SetbackError(Setback.OVERLOADED, error, unit=unit, pause=error.retry_after)
    if isinstance(error, RequestError) and error.status == _BUSY:
        return SetbackError(Setback.OVERLOADED, error, unit=unit)
    may_pass = isinstance(error, RequestError) and error.may_retry
    return SetbackError(Setback.BROKEN if may_pass else Setback.REFUSED, error, unit=unit)
