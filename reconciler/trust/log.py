"""An audit log as a whole: recomputed from its entries, compared with its tiles and checkpoints, extended.

A log is the files of one directory, which `ReadFile` returns by path. Nothing is trusted but what was
recomputed: tiles and checkpoints must agree with the entries. Everything here is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.errors import DataError, TrustError
from reconciler.trust.checkpoint import Checkpoint, LogProof
from reconciler.trust.leaves import LogLeaf, parse_leaf, replay
from reconciler.trust.merkle import GrowingTree, inclusion_proof, leaf_hash
from reconciler.trust.note import encode_hash
from reconciler.trust.tiles import ReadFile, TileHashes, make_tiles, missing_tile, read_entries

CHECKPOINT = "checkpoint"  #: the path of the newest checkpoint in the log


@dataclass(frozen=True, slots=True)
class RecomputedLog:
    """All entries of a log with their leaf hashes, and the root of the log at each of some earlier sizes."""

    entries: tuple[bytes, ...] = ()
    hashes: tuple[bytes, ...] = ()
    roots: Mapping[int, bytes] | None = None

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.entries)

    def check(self, checkpoint: Checkpoint, what: str) -> None:
        """Check that `checkpoint`, one of the sizes that were asked for, is about these entries.

        Raises TrustError; `what` names the checkpoint.
        """
        if checkpoint.size > self.size:
            raise TrustError(
                f"{what} is about {checkpoint.size:,} entries, and the log has {self.size:,}: "
                "it was truncated",
                hint="restore releases/log from the git history",
            )
        expected = (self.roots or {})[checkpoint.size]
        if checkpoint.root != expected:
            raise TrustError(
                f"{what} has the root {encode_hash(checkpoint.root)} for {checkpoint.size:,} entries, "
                f"and the log has {encode_hash(expected)}: its history was rewritten",
                hint="find out which history was published: compare with a clone or a witness",
            )


def recompute(entries: Sequence[bytes], sizes: Collection[int] = ()) -> RecomputedLog:
    """Compute the leaf hashes of `entries`, and the root at each of `sizes` and at the end."""
    wanted = {*sizes, len(entries)}
    tree, hashes = GrowingTree(), []
    roots = {0: tree.root()}
    for entry in entries:
        hashes.append(leaf_hash(entry))
        tree.append(hashes[-1])
        if tree.size in wanted:
            roots[tree.size] = tree.root()
    return RecomputedLog(tuple(entries), tuple(hashes), roots)


def read_log(size: int, read: ReadFile, sizes: Collection[int] = ()) -> RecomputedLog:
    """Read a log of `size` entries, recompute it, and compare every tile.

    Raises DataError for a tile that is missing or does not follow from the entries.
    """
    found = recompute(list(read_entries(size, read)), sizes)
    for path, data in make_tiles(found.entries, found.hashes).items():
        existing = read(path)
        if existing is None:
            raise missing_tile(path)
        if existing != data:
            raise DataError(
                f"{path} of the log does not follow from its entries",
                hint="restore it from the git history; no reader can verify the log with it",
            )
    return found


def parse_entries(entries: Iterable[bytes], index: str) -> Iterator[LogLeaf]:
    """Parse the entries of the log of an index, in order.

    Raises DataError for one that is not a leaf, TrustError for one of another index, or that occurs twice.
    """
    seen: dict[bytes, int] = {}
    for number, entry in enumerate(entries):
        leaf = parse_leaf(entry, f"entry {number} of the log")
        if leaf.index != index:
            raise TrustError(f"entry {number} of the log is of the index {leaf.index!r}, not of {index!r}")
        if entry in seen:
            raise TrustError(f"entries {seen[entry]} and {number} of the log are the same leaf of {leaf.ref}")
        seen[entry] = number
        yield leaf


def check_chains(leaves: Iterable[LogLeaf]) -> dict[str, list[LogLeaf]]:
    """Return the leaves by `model@version`, and check that those of each version follow each other.

    Raises TrustError.
    """
    chains: dict[str, list[LogLeaf]] = {}
    for leaf in leaves:
        chains.setdefault(leaf.ref, []).append(leaf)
    for chain in chains.values():
        replay(chain)
    return chains


def extension(log: RecomputedLog, leaves: Sequence[LogLeaf]) -> tuple[RecomputedLog, dict[str, bytes]]:
    """Return the log with `leaves` appended, and the tiles to write.

    Raises TrustError when a leaf is in the log already.
    """
    added = [leaf.entry() for leaf in leaves]
    twice = (set(added) & set(log.entries)) | {each for each, count in Counter(added).items() if count > 1}
    if twice:
        raise TrustError(f"the log has this leaf already: {sorted(twice)[0].decode()}")
    longer = recompute([*log.entries, *added])
    return longer, make_tiles(longer.entries, longer.hashes, log.size)


def prove_entry(index: int, checkpoint: Checkpoint, entry: bytes, read: ReadFile) -> LogProof:
    """Return the proof that `entry` is number `index` of the log in `checkpoint`, read from its tiles.

    Raises DataError.
    """
    hashes = inclusion_proof(index, checkpoint.size, TileHashes(checkpoint.size, read))
    return LogProof(index, hashes, checkpoint.note.encode(), entry)
