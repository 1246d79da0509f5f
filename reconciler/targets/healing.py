"""Healing: one complete DAG from several incomplete targets.

Every block, inner nodes included, comes from the first source that has it undamaged. The layout is proven
from the inner nodes; no source is trusted for it. A target may serve single blocks even where it cannot serve
a whole DAG. That ability is optional (`ServesBlocks`); of other targets only `dag` is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from reconciler.content import walk
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import BlockUnavailableError, PeerError, ReconcilerError, SourceChangedError
from reconciler.targets.interface import Target

_MAX_FAILURES = 2  # peer errors after which a source is no longer used


class BlockSource(Protocol):
    """Verified blocks by CID, some of which may be missing. Usable from several threads."""

    def read_block(self, cid: Cid) -> bytes:
        """Read and verify a block. Raises BlockUnavailableError, PeerError or SourceChangedError."""

    def close(self) -> None:
        """Release open resources. May be called twice."""


@runtime_checkable
class ServesBlocks(Protocol):
    """A target that serves the remaining blocks of a root even when inner nodes are missing."""

    def blocks(self, root: Cid) -> BlockSource:
        """Return the remaining blocks of `root`.

        Raises BlockUnavailableError when there are none, PeerError as `dag` does.
        """


class DagBlocks:
    """A Dag as a source of blocks by CID. Closing it closes the Dag."""

    def __init__(self, dag: Dag) -> None:
        self._dag = dag

    def read_block(self, cid: Cid) -> bytes:
        """Read and verify a block.

        Raises as Dag.read does; BlockUnavailableError for a block that is not in the DAG.
        """
        position = self._dag.layout.find(cid)
        if position is None:
            raise BlockUnavailableError(f"block {cid} is not in {self._dag.layout.root}")
        return self._dag.read(position)

    def close(self) -> None:
        """Close the Dag."""
        self._dag.close()


class MergedDag:
    """The Dag of `root` from several sources, used in the order given. It owns the sources.

    The constructor reads the inner nodes. It raises BlockUnavailableError when no source has one of them,
    DataError when they are invalid. A source that raised PeerError twice is no longer used.
    """

    def __init__(self, root: Cid, sources: Sequence[BlockSource]) -> None:
        self._sources = tuple(sources)
        self._failures = [0] * len(self._sources)
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
        """Read the block at `position` from the first source that has it undamaged.

        Raises BlockUnavailableError when there is none.
        """
        return self.read_block(self._layout.cid(position))

    def read_block(self, cid: Cid) -> bytes:
        """Read a block from the first source that has it undamaged. Raises BlockUnavailableError."""
        reasons: list[str] = []
        for number, source in enumerate(self._sources):
            if self._failures[number] >= _MAX_FAILURES:
                continue
            try:
                return source.read_block(cid)
            except PeerError as error:
                self._failures[number] += 1
                reasons.append(error.message)
            except (BlockUnavailableError, SourceChangedError) as error:
                reasons.append(error.message)
        raise BlockUnavailableError(
            f"{_none_of(len(self._sources))} block {cid} undamaged",
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
    """Return the DAG of `root` from the blocks of `targets`, in their order; skip targets that have none.

    Raises BlockUnavailableError, with the reasons as its hint, when no target has one of the inner nodes.
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
        raise BlockUnavailableError(f"no target has {root}", hint="; ".join(reasons) or None)
    return MergedDag(root, sources)


def prove_layout(root: Cid, read: Callable[[Cid], bytes]) -> DagLayout:
    """Prove the layout of `root` from its inner nodes; `read` returns verified blocks.

    Raises DataError when the inner nodes are invalid or exceed the limits of this machine, and what `read`
    raises.
    """
    raw_size = len(read(root)) if root.codec == RAW else None
    return walk.walk(root, read, raw_size=raw_size).layout


def _none_of(count: int) -> str:
    return "the source does not have" if count == 1 else f"none of {count} sources has"
