"""One complete DAG out of several incomplete ones: how half-damaged targets heal each other.

Every block comes from the first source that has it good, inner nodes too, and the layout is proven from those
nodes: it is believed of no source. A target may offer single blocks even where it cannot show a whole tree;
that ability is optional (`ServesBlocks`), and without it only its `dag` is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from reconciler.content import walk
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import BlockUnavailableError, PeerError, ReconcilerError, SourceChangedError
from reconciler.targets.interface import Target

_STRIKES = 2  #: peer faults after which a source is not asked again


class BlockSource(Protocol):
    """Blocks by CID, as many as there are. Calls may come from several threads."""

    def read_block(self, cid: Cid) -> bytes:
        """The verified block. Raises BlockUnavailableError, PeerError or SourceChangedError."""

    def close(self) -> None:
        """Release what is open. May be called twice."""


@runtime_checkable
class ServesBlocks(Protocol):
    """A target that can serve what is left of a root whose inner nodes are not all there."""

    def blocks(self, root: Cid) -> BlockSource:
        """What is left of `root`.

        Raises BlockUnavailableError when that is nothing, PeerError as `dag` does.
        """


class DagBlocks:
    """A Dag as a source of blocks by CID. Closing it closes the Dag."""

    def __init__(self, dag: Dag) -> None:
        self._dag = dag

    def read_block(self, cid: Cid) -> bytes:
        """The verified block.

        Raises as Dag.read does; BlockUnavailableError for a block the DAG does not have.
        """
        position = self._dag.layout.find(cid)
        if position is None:
            raise BlockUnavailableError(f"block {cid} is no part of {self._dag.layout.root}")
        return self._dag.read(position)

    def close(self) -> None:
        """Close the Dag."""
        self._dag.close()


class MergedDag:
    """The Dag of `root` from several sources, asked in the order given. It owns the sources.

    Making one reads the inner nodes. Raises BlockUnavailableError when the sources do not have them all
    together, DataError when they make no DAG. A source that failed as a peer twice is not asked again.
    """

    def __init__(self, root: Cid, sources: Sequence[BlockSource]) -> None:
        self._sources = tuple(sources)
        self._strikes = [0] * len(self._sources)
        try:
            self._layout = prove_layout(root, self.read_block)
        except BaseException:
            self.close()
            raise

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """The verified block at `position`. Raises BlockUnavailableError when no source has it good."""
        return self.read_block(self._layout.cid(position))

    def read_block(self, cid: Cid) -> bytes:
        """The verified block from the first source that has it good. Raises BlockUnavailableError."""
        reasons: list[str] = []
        for number, source in enumerate(self._sources):
            if self._strikes[number] >= _STRIKES:
                continue
            try:
                return source.read_block(cid)
            except PeerError as error:
                self._strikes[number] += 1
                reasons.append(error.message)
            except (BlockUnavailableError, SourceChangedError) as error:
                reasons.append(error.message)
        raise BlockUnavailableError(
            f"block {cid} is good in none of {len(self._sources)} places",
            hint="; ".join(dict.fromkeys(reasons)) or None,
        )

    def close(self) -> None:
        """Close every source. May be called twice."""
        for source in self._sources:
            source.close()


def open_blocks(target: Target, root: Cid) -> BlockSource:
    """Open the blocks of `root` in `target`: single blocks if it serves them, otherwise its Dag.

    Raises as Target.dag does.
    """
    return target.blocks(root) if isinstance(target, ServesBlocks) else DagBlocks(target.dag(root))


def gather(root: Cid, targets: Sequence[Target]) -> MergedDag:
    """The DAG of `root` from whatever `targets` hold of it, in their order; targets that cannot help are left
    out.

    Raises BlockUnavailableError, with the reasons as its hint, when they do not have its inner nodes all
    together.
    """
    sources: list[BlockSource] = []
    reasons: list[str] = []
    for target in targets:
        if not target.capabilities.serves_blocks:
            continue
        try:
            sources.append(open_blocks(target, root))
        except ReconcilerError as error:
            reasons.append(f"{target.name}: {error.message}")
    if not sources:
        raise BlockUnavailableError(f"no target can give {root}", hint="; ".join(reasons) or None)
    return MergedDag(root, sources)


def prove_layout(root: Cid, read: Callable[[Cid], bytes]) -> DagLayout:
    """The layout that the inner nodes under `root` prove; `read` hands out verified blocks.

    What `read` raises passes through; DataError when the nodes make no DAG within the limits of this machine.
    """
    raw_size = len(read(root)) if root.codec == RAW else None
    return walk.walk(root, read, raw_size=raw_size).layout
