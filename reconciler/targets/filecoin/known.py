"""The pieces of roots: from records, from what was sent, and from what providers serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reconciler.content.car import RootNaming, ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.targets.filecoin.clients import ProviderClients
from reconciler.targets.filecoin.discover import PieceStarts, pieces_by_root
from reconciler.targets.filecoin.holdings import Holdings
from reconciler.targets.filecoin.served import PieceRanges, ServedDag, listed
from reconciler.targets.interface import Expected


class KnownPieces:
    """The pieces of roots, for one payer. `cache` is a directory; None: nothing is kept between runs."""

    def __init__(self, clients: ProviderClients, sharding: Sharding, cache: Path | None) -> None:
        self._clients = clients
        self._sharding = sharding
        self._starts = PieceStarts(None if cache is None else cache / "starts.json")
        self._known: dict[Cid, tuple[PieceCid, ...]] = {}
        self._splits: dict[Cid, Sharding] = {}  # of roots that others split

    def remember(self, root: Cid, pieces: Iterable[PieceCid]) -> None:
        """Note the pieces of a root, in order."""
        self._known[root] = tuple(pieces)
        self._splits.pop(root, None)

    def use(self, root: Cid, split: ShardedCar) -> None:
        """Note the pieces of a root that another program split in its own way."""
        self._known[root] = tuple(shard.piece for shard in split.shards)
        self._splits[root] = split.sharding

    def sharding(self, root: Cid) -> Sharding:
        """Return how the known pieces of a root are split."""
        return self._splits.get(root, self._sharding)

    def remember_records(self, expected: Iterable[Expected]) -> None:
        """Note the pieces that records name."""
        for one in expected:
            if one.pieces is not None and one.pieces.sharding == self._sharding:
                self.remember(one.root, (shard.piece for shard in one.pieces.shards))

    def get(self, root: Cid) -> tuple[PieceCid, ...] | None:
        """Return the pieces of a root; None when they are not known."""
        return self._known.get(root)

    def roots(self, holdings: Holdings) -> frozenset[Cid]:
        """Return every root with pieces there: known ones, and those that providers name."""
        there = set(holdings.pieces())
        known = (root for root, pieces in self._known.items() if there.issuperset(pieces))
        return frozenset(known) | frozenset(self._unbound(holdings))

    def find(self, root: Cid, holdings: Holdings) -> tuple[PieceCid, ...] | None:
        """Return the pieces of a root, read from providers where they are not known; None without any.

        They are those of a DAG that its inner nodes prove, in pieces of exactly its sizes.
        """
        if root not in self._known:
            try:
                self.dag(root, holdings)
            except (DataError, PeerError):
                return None
        return self._known[root]

    def dag(self, root: Cid, holdings: Holdings) -> ServedDag:
        """Return the DAG under `root` as providers serve it.

        Raises BlockUnavailableError when there is none or inner nodes are missing, DataError, PeerError.
        """
        pieces = self._known.get(root)
        if pieces is not None:
            last = len(pieces) - 1 if self.sharding(root).naming is RootNaming.LAST else None
            ranges = self._ranges(pieces, holdings)
            return ServedDag(root, listed(pieces), ranges, naming_root=last, bound=True)
        named = self._unbound(holdings).get(root)
        if named is None:
            raise BlockUnavailableError(f"no piece of the payer {holdings.payer} names {root}")
        found = ServedDag(root, lambda _, first: named.get(first), self._ranges(named.values(), holdings))
        self.remember(root, found.pieces)
        return found

    def _unbound(self, holdings: Holdings) -> dict[Cid, dict[Cid, PieceCid]]:
        bound = {piece for pieces in self._known.values() for piece in pieces}
        unbound = [piece for piece in holdings.pieces() if piece not in bound]
        return pieces_by_root(self._starts.get(unbound, self._ranges(unbound, holdings).read))

    def _ranges(self, pieces: Iterable[PieceCid], holdings: Holdings) -> PieceRanges:
        return PieceRanges({piece: self._clients.of(holdings.serving(piece)) for piece in pieces})


def recorded_sizes_fit(pieces: Sequence[PieceCid] | None, sizes: Sequence[int]) -> Mapping[int, PieceCid]:
    """Return known pieces by the number of their shard; none when they are not shards of these sizes."""
    if pieces is None or [piece.size for piece in pieces] != list(sizes):
        return {}
    return dict(enumerate(pieces))
