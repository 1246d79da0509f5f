"""Bringing pieces to one provider: sent by us while they are hashed, or pulled from another provider.

A piece that the provider has is never sent. An upload of a piece whose CID is not known yet is noted, so that
a run that was killed before it was named does not send it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from reconciler.content.car import CarShard, ShardSpan, stream_shard
from reconciler.content.dag import Dag
from reconciler.content.piece_cid import PieceCid
from reconciler.content.pieces import HashedShard
from reconciler.errors import PeerError
from reconciler.net.errors import NotFoundError, RejectedError, RequestError, TransientError
from reconciler.net.response import UploadBody
from reconciler.net.retry import RetryBudget
from reconciler.progress import Progress, Task
from reconciler.targets.filecoin.add import DataSetWriter
from reconciler.targets.filecoin.journal import OpenUpload, UploadJournal
from reconciler.targets.filecoin.provider import ProviderClient, PullState
from reconciler.targets.filecoin.waits import Waits

_ATTEMPTS = 3  # for an upload whose connection breaks
_ANSWERED_ATTEMPTS = 2  # for one that the provider answers with an error: it has every byte by then
_ERROR_STATUS = 500  # and above
_Place = TypeVar("_Place")
_HINT = "nothing was paid to it; run again later, or name other providers in targets.yaml"


class ProviderFailedError(PeerError):
    """A provider could not take a piece, and is not asked again in this run."""


class ShardSender:
    """Sends the shards of one DAG.

    `pieces` are known by the number of their shard, and grow as shards are hashed; `cars` has these.
    `sent` counts the bytes of blocks, and `blocks` the blocks, that were sent.
    """

    def __init__(
        self,
        dag: Dag,
        spans: Sequence[ShardSpan],
        pieces: dict[int, PieceCid],
        journal: UploadJournal,
        waits: Waits,
        progress: Progress,
        retries: RetryBudget,
    ) -> None:
        self._dag = dag
        self._spans = spans
        self.pieces = pieces
        self.cars: dict[int, CarShard] = {}
        self._journal = journal
        self._waits = waits
        self._progress = progress
        self._retries = retries
        self.sent = 0
        self.blocks = 0

    def deliver(self, client: ProviderClient, number: int) -> None:
        """Make the provider have a shard that it can add to a data set.

        An upload is repeated a few times, within the retries of the run. Raises ProviderFailedError for a
        provider that then still fails, other RequestErrors, and what `Dag.read` raises.
        """
        if number in self.pieces and client.has(self.pieces[number]):
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if attempt == 1 and self._finish_open(client, number):
                    return
                if number in self.pieces:
                    self._send_known(client, number)
                else:
                    self._send_unknown(client, number)
                self._wait(client, self.pieces[number])
            except (TransientError, NotFoundError) as error:
                if isinstance(error, TransientError) and not error.reached:
                    raise
                pause = self._waits.interval * attempt
                answered = error.status is not None and error.status >= _ERROR_STATUS
                most = _ANSWERED_ATTEMPTS if answered else _ATTEMPTS
                if attempt >= most or not self._retries.take(pause):
                    tries = f", in each of {attempt} uploads" if attempt > 1 else ""
                    raise ProviderFailedError(f"{error.message}{tries}", hint=_HINT) from error
                self._progress.note(f"{error.message}; sending the piece again")
                self._waits.sleep(pause)
                if number in self.pieces and client.has(self.pieces[number]):
                    return
            else:
                return

    def _send_unknown(self, client: ProviderClient, number: int) -> None:
        place = _opened(client.begin_upload)
        self._journal.begin(number, OpenUpload(client.provider.id, place))
        hashed = HashedShard(self._dag, self._spans[number])
        self._send(client, number, place, lambda: iter(hashed))
        self._note(number, hashed)
        self._name(client, number, place)

    def _note(self, number: int, hashed: HashedShard) -> None:
        assert hashed.shard is not None  # noqa: S101 - all of it was read
        self.cars[number] = hashed.shard
        self.pieces[number] = hashed.shard.piece
        self._journal.note(number, hashed.shard)

    def _send_known(self, client: ProviderClient, number: int) -> None:
        place = _opened(lambda: client.begin_known_upload(self.pieces[number]))
        if place is not None:
            self._send(client, number, place, lambda: stream_shard(self._dag, self._spans[number]))

    def _finish_open(self, client: ProviderClient, number: int) -> bool:
        """Name the piece of an upload that an earlier run sent; return whether the provider has it now."""
        upload = self._journal.open.get(number)
        if upload is None or upload.provider_id != client.provider.id:
            return False
        if (
            number not in self.pieces
        ):  # the bytes may all be there: hashing them again is cheaper than sending
            hashed = HashedShard(self._dag, self._spans[number])
            for _ in hashed:
                pass
            self._note(number, hashed)
        try:
            self._name(client, number, upload.place)
            self._wait(client, self.pieces[number])
        except (RequestError, ProviderFailedError):
            self._journal.forget_upload(number)
            return client.has(self.pieces[number])
        return True

    def _name(self, client: ProviderClient, number: int, place: str) -> None:
        piece = self.pieces[number]
        try:
            client.finish_upload(place, piece)
        except RejectedError as error:
            raise PeerError(
                f"{client.name}: computed another piece CID than {piece} for what it received "
                f"({error.reason})",
                hint="run again; when it happens again, do not use this provider",
            ) from None
        except (NotFoundError, TransientError):
            if not client.has(piece):  # the answer was lost, or the name was there already
                raise
        self._journal.forget_upload(number)

    def _send(
        self, client: ProviderClient, number: int, place: str, pieces: Callable[[], Iterator[bytes]]
    ) -> None:
        span = self._spans[number]
        count = len(self._spans)
        what = f"piece {number + 1} of {count} to {client.name}" if count > 1 else f"upload to {client.name}"
        with self._progress.task(what, span.size) as task:
            client.send(place, UploadBody(span.size, lambda: _advancing(pieces(), task)))
        layout = self._dag.layout
        self.sent += sum(layout.block_size(position) for position in range(span.first, span.last))
        self.blocks += span.last - span.first

    def _wait(self, client: ProviderClient, piece: PieceCid) -> None:
        """Wait until the provider finds a piece that it took. Sending it again would not help."""
        try:
            if self._waits.until(lambda: client.has(piece), self._waits.parked):
                return
            problem = f"{client.name}: does not find the piece {piece} that was sent to it"
        except TransientError as error:
            problem = f"{error.message}, asked for the piece {piece} that was sent to it"
        raise ProviderFailedError(problem, hint=_HINT)


def pull_pieces(
    writer: DataSetWriter,
    client: ProviderClient,
    sources: Mapping[PieceCid, Sequence[str]],
    waits: Waits,
    progress: Progress,
) -> frozenset[PieceCid]:
    """Let a provider pull pieces from `sources`, the bases of others; return those that it has now.

    What it cannot pull, or does not within the time limit, is left to be sent.
    """
    try:
        request = writer.request_pull(client, sources)
        states = client.pull(request)
        moved = waits.clock()
        with progress.task(f"{client.name}: pulling pieces", len(sources)) as task:
            while PullState.RUNNING in states.values() and waits.clock() - moved < waits.pulled:
                waits.sleep(waits.interval)
                before, states = states, client.pull(request)
                if states != before:
                    moved = waits.clock()
                    task.advance(_count(states) - _count(before))
    except RequestError as error:
        progress.note(f"{error.message}; sending the pieces instead")
        return frozenset()
    done = frozenset(piece for piece, state in states.items() if state is PullState.COMPLETE)
    if left := len(sources) - len(done):
        progress.note(f"{client.name}: did not pull {left} of {len(sources)} pieces; sending them instead")
    return done


def _opened(begin: Callable[[], _Place]) -> _Place:
    """Return the place of a new upload. What fails in spite of the retries of the client is not repeated."""
    try:
        return begin()
    except (TransientError, NotFoundError) as error:
        raise ProviderFailedError(f"{error.message}, asked to open an upload", hint=_HINT) from error


def _count(states: Mapping[PieceCid, PullState]) -> int:
    return sum(state is not PullState.RUNNING for state in states.values())


def _advancing(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        task.advance(len(chunk))
