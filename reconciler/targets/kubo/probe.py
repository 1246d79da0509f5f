"""Looking at single blocks, many at a time.

No listing and no verification of Kubo's own sees a damaged leaf (docs/drift.md has the table). What does:
asking for each block's size, offline, which also makes the node forget blocks that it only believes to have;
and reading blocks and hashing them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.progress import Progress
from reconciler.targets.kubo.rpc import KuboRpc

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Findings:
    """Positions of blocks that are missing, and of blocks that are there with wrong bytes."""

    missing: frozenset[int] = frozenset()
    wrong: frozenset[int] = frozenset()

    def __or__(self, other: Findings) -> Findings:
        return Findings(self.missing | other.missing, self.wrong | other.wrong - self.missing - other.missing)

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong)

    @property
    def bad(self) -> list[int]:
        """All of them, in CAR order."""
        return sorted(self.missing | self.wrong)

    def words(self) -> str:
        """Such as `2 missing and 1 damaged of its blocks`."""
        counts = {"missing": len(self.missing), "damaged": len(self.wrong)}
        said = [f"{count} {what}" for what, count in counts.items() if count]
        return f"{' and '.join(said)} of its blocks"


class Prober:
    """Asks one node about blocks, several at once."""

    def __init__(self, rpc: KuboRpc, threads: int = _THREADS) -> None:
        self._rpc = rpc
        self._threads = threads

    def sizes(self, layout: DagLayout, positions: Sequence[int], progress: Progress, title: str) -> Findings:
        """Which blocks are missing or of another size. Costs the node no more than a lookup each."""

        def look(position: int) -> tuple[bool, bool]:
            size = self._rpc.block_size(layout.cid(position))
            return size is None, size is not None and size != layout.block_size(position)

        with progress.task(f"{title}: looking at blocks", len(positions)) as task:
            return self._each(positions, look, lambda _: task.advance(1))

    def contents(
        self, layout: DagLayout, positions: Sequence[int], progress: Progress, title: str
    ) -> Findings:
        """Which blocks are missing or do not hash to their CID. The node reads and sends each one."""

        def look(position: int) -> tuple[bool, bool]:
            cid = layout.cid(position)
            data = self._rpc.block_get(cid)
            return data is None, data is not None and not cid.matches(data)

        total = sum(layout.block_size(position) for position in positions)
        with progress.task(f"{title}: reading blocks", total) as task:
            return self._each(positions, look, lambda position: task.advance(layout.block_size(position)))

    def has(self, wanted: Sequence[Cid]) -> bool:
        """Whether any of `wanted` is there."""
        with ThreadPoolExecutor(self._threads) as pool:
            return any(size is not None for size in pool.map(self._rpc.block_size, wanted))

    def _each(
        self,
        positions: Iterable[int],
        look: Callable[[int], tuple[bool, bool]],
        done: Callable[[int], None],
    ) -> Findings:
        missing: set[int] = set()
        wrong: set[int] = set()

        def one(position: int) -> None:
            absent, other = look(position)
            if absent:
                missing.add(position)
            elif other:
                wrong.add(position)
            done(position)

        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for _ in pool.map(one, positions):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return Findings(frozenset(missing), frozenset(wrong))
