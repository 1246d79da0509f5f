"""Checks of single blocks on a node, many at a time, and detection of a stuck garbage collection.

No listing and no verification of Kubo itself detects a damaged leaf (docs/drift.md has the table). Two checks
do: requesting the size of each block, offline, which also clears stale cache entries of the node; and reading
blocks and hashing them here.

A node is stuck when a garbage collection waits for a pin that waits for the network. Every import and pin
queues behind it, and abandoned requests stay queued, while listings still succeed. Only the node's list of
running commands shows it. `StartTime`s are compared with each other, so no other clock is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.net.errors import AccessDeniedError, NotFoundError, RejectedError, UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.kubo.dag import positions_in_export
from reconciler.targets.kubo.rpc import KuboRpc, LostReferenceError, NodeCommand, WrongBytesError

_COLLECTING = "repo/gc"
_HOLDING = frozenset({"pin/add", "pin/update", "dag/import", "add"})
_PATIENCE = 60.0  # seconds that a collection may wait before it counts as stuck
RESTART_HINT = "restart the node, because its commands will not end, then run again"


def find_stuck_gc(commands: Sequence[NodeCommand]) -> str:
    """Describe a stuck garbage collection; "" when there is none. The latest start time counts as now."""
    active = [command for command in commands if command.active]
    now = max((_moment(command) for command in commands), default=None)
    for waiting in active:
        if waiting.name != _COLLECTING or now is None:
            continue
        behind = [one for one in active if one.name in _HOLDING and _moment(one) <= _moment(waiting)]
        waited = (now - _moment(waiting)).total_seconds()
        if behind and waited >= _PATIENCE:
            return f"is stuck: {_COLLECTING} has been waiting behind {behind[0].name} for {waited:.0f} s"
    return ""


def describe_stuck_gc(rpc: KuboRpc) -> str:
    """Describe a stuck garbage collection of the node; "" when there is none, or `diag/cmds` is denied."""
    try:
        return find_stuck_gc(rpc.commands())
    except (AccessDeniedError, NotFoundError, RejectedError):
        return ""


def check_not_stuck(rpc: KuboRpc) -> None:
    """Raise UnexpectedResponseError, before anything is sent, when garbage collection is stuck."""
    stuck = describe_stuck_gc(rpc)
    if stuck:
        raise UnexpectedResponseError(rpc.name, stuck, hint=RESTART_HINT)


def stuck_note(stuck: str) -> str:
    """Return a note for the inventory of the target."""
    return f"the node {stuck}; {RESTART_HINT}"


def _moment(command: NodeCommand) -> datetime:
    """Parse the start time; Go writes nanoseconds, of which `fromisoformat` keeps six digits."""
    try:
        started = datetime.fromisoformat(command.started)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return started if started.tzinfo else started.replace(tzinfo=UTC)


_THREADS = 8
_SMALL = 64 << 10  # bytes; for smaller blocks a request costs more than the block
_BATCH = 64  # leaves in one request; their CIDs fit the 8 KiB that proxies allow a request line

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class BadBlocks:
    """The positions of missing blocks, and of blocks with wrong bytes."""

    missing: frozenset[int] = frozenset()
    wrong: frozenset[int] = frozenset()

    def __or__(self, other: BadBlocks) -> BadBlocks:
        return BadBlocks(
            self.missing | other.missing, self.wrong | other.wrong - self.missing - other.missing
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong)

    @property
    def positions(self) -> list[int]:
        """All positions, in CAR order."""
        return sorted(self.missing | self.wrong)

    def summary(self) -> str:
        """Describe the numbers, such as "2 missing and 1 damaged of its blocks"."""
        counts = {"missing": len(self.missing), "damaged": len(self.wrong)}
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        return f"{' and '.join(parts)} of its blocks"


class Prober:
    """The checks of blocks on one node, several at once."""

    def __init__(self, rpc: KuboRpc, threads: int = _THREADS) -> None:
        self._rpc = rpc
        self._threads = threads

    def sizes(self, layout: DagLayout, positions: Sequence[int], progress: Progress, title: str) -> BadBlocks:
        """Find missing blocks and blocks of another size. The node looks up each one and reads small ones."""
        found = _BadBlockCollector(layout)
        small = [p for p in positions if layout.is_leaf(p) and layout.block_size(p) <= _SMALL]
        batches = [small[start : start + _BATCH] for start in range(0, len(small), _BATCH)]

        def one(position: int) -> None:
            found.size(position, self._rpc.block_size(layout.cid(position)))
            task.advance(1)

        def batch(members: Sequence[int]) -> None:
            sizes = self._rpc.leaf_sizes([layout.cid(position) for position in members])
            if sizes is None:
                for position in members:
                    one(position)
                return
            for position in members:
                found.size(position, sizes.get(layout.cid(position), 0))
            task.advance(len(members))

        with progress.task(f"{title}: checking blocks", len(positions)) as task:
            self._each(batch, batches)
            self._each(one, sorted(set(positions).difference(small)))
        return found.result()

    def contents(
        self, layout: DagLayout, positions: Sequence[int], progress: Progress, title: str
    ) -> BadBlocks:
        """Find blocks that are missing or do not hash to their CID. The node reads and sends each one."""
        found = _BadBlockCollector(layout)
        total = sum(layout.block_size(position) for position in positions)

        def one(position: int) -> None:
            try:
                if self._rpc.block_get(layout.cid(position)) is None:
                    found.missing.add(position)
            except WrongBytesError:
                found.wrong.add(position)
            task.advance(layout.block_size(position))

        with progress.task(f"{title}: reading blocks", total) as task:
            wanted = set(positions)
            if len(wanted) == len(layout) and total < _SMALL * len(layout):
                wanted -= positions_in_export(self._rpc, layout, task)
            self._each(one, sorted(wanted))
        return found.result()

    def lost_references(self, layout: DagLayout, positions: Sequence[int]) -> list[int]:
        """Return the leaves under which the node has a reference to a file that was changed or is gone."""
        lost: list[int] = []

        def one(position: int) -> None:
            try:
                self._rpc.block_get(layout.cid(position))
            except LostReferenceError:
                lost.append(position)
            except WrongBytesError:
                pass

        self._each(one, [position for position in positions if layout.is_leaf(position)])
        return sorted(lost)

    def find_bad(
        self, layout: DagLayout, progress: Progress, title: str, intact: Set[Cid] = frozenset()
    ) -> BadBlocks:
        """Find every block that is missing or damaged. The node reads and sends each one that it has.

        The blocks `intact` are only looked for.
        """
        bad = self.missing(layout, progress, title)
        known = bad.missing | bad.wrong
        rest = [p for p in range(len(layout)) if p not in known and layout.cid(p) not in intact]
        return bad | self.contents(layout, rest, progress, title) if rest else bad

    def missing(self, layout: DagLayout, progress: Progress, title: str) -> BadBlocks:
        """Find missing blocks, many in one request, and inner nodes of another size.

        Most blocks of a version that is new to the node are missing, and a request for each of them takes
        longer than sending small ones. A leaf that is not found missing here is not proven present.
        """
        positions = range(len(layout))
        leaves = [position for position in positions if layout.is_leaf(position)]
        found = _BadBlockCollector(layout)
        unknown: list[int] = []

        def batch(members: Sequence[int]) -> None:
            size = sum(layout.block_size(position) for position in members)
            missing = self._rpc.missing_leaves([layout.cid(position) for position in members], size)
            if missing is None:
                unknown.extend(members)
                return
            found.missing.update(position for position in members if layout.cid(position) in missing)
            task.advance(len(members))

        with progress.task(f"{title}: looking for blocks", len(leaves)) as task:
            self._each(batch, [leaves[start : start + _BATCH] for start in range(0, len(leaves), _BATCH)])
        rest = sorted(unknown + [position for position in positions if not layout.is_leaf(position)])
        return found.result() | self.sizes(layout, rest, progress, title)

    def _each(self, work: Callable[[_Item], None], items: Sequence[_Item]) -> None:
        """Call `work` on every item, in several threads; the first failure ends it."""
        if len(items) < self._threads:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for _ in pool.map(work, items):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


class _BadBlockCollector:
    """The bad blocks that several threads found."""

    def __init__(self, layout: DagLayout) -> None:
        self._layout = layout
        self.missing: set[int] = set()
        self.wrong: set[int] = set()

    def size(self, position: int, size: int | None) -> None:
        if size is None:
            self.missing.add(position)
        elif size != self._layout.block_size(position):
            self.wrong.add(position)

    def result(self) -> BadBlocks:
        return BadBlocks(frozenset(self.missing), frozenset(self.wrong))
