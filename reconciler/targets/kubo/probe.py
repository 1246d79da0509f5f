"""Recognising a node that is stuck: a garbage collection that waits for a pin that waits for the network.

Every import and pin queues behind it, and abandoned requests stay queued, while listings still answer. Only
the node's own list of running commands shows it. `StartTime`s are compared with one another, so no clock is
trusted.

Looking at single blocks, many at a time.

No listing and no verification of Kubo's own sees a damaged leaf (docs/drift.md has the table). What does:
asking for each block's size, offline, which also makes the node forget blocks that it only believes to have;
and reading blocks and hashing them here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.net.errors import AccessDeniedError, NotFoundError, RejectedError, UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.kubo.answers import NodeCommand, WrongBytesError
from reconciler.targets.kubo.dag import good_positions
from reconciler.targets.kubo.rpc import KuboRpc

_COLLECTING = "repo/gc"
_HOLDING = frozenset({"pin/add", "pin/update", "dag/import", "add"})
_PATIENCE = 60.0  # seconds that a collection may wait behind something without being called stuck
ADVICE = "restart the node (the commands it lists never end), then run again"


def wedge(commands: Sequence[NodeCommand]) -> str:
    """How the node is stuck, in words, or "" when it is not. The youngest command's start counts as now."""
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


def look(rpc: KuboRpc) -> str:
    """How the node is stuck, or "" when it is not or does not let us ask."""
    try:
        return wedge(rpc.commands())
    except (AccessDeniedError, NotFoundError, RejectedError):
        return ""


def refuse_if_stuck(rpc: KuboRpc) -> None:
    """Raises UnexpectedResponseError before anything is sent to a node that would not take it."""
    stuck = look(rpc)
    if stuck:
        raise UnexpectedResponseError(rpc.name, stuck, hint=ADVICE)


def advice(stuck: str) -> str:
    """The same as a warning about the target as a whole."""
    return f"the node {stuck}; {ADVICE}"


def _moment(command: NodeCommand) -> datetime:
    """When it started; Go writes nanoseconds, of which `fromisoformat` keeps six digits."""
    try:
        started = datetime.fromisoformat(command.started)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return started if started.tzinfo else started.replace(tzinfo=UTC)


_THREADS = 8
_SMALL = 64 << 10  # bytes; below, a request costs more than the block
_BATCH = 64  # leaves in one request; their CIDs fit the 8 KiB that proxies allow a request line

_Item = TypeVar("_Item")


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
        """Which blocks are missing or of another size. Costs the node a lookup each; small ones are read."""
        found = _Collector(layout)
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

        with progress.task(f"{title}: looking at blocks", len(positions)) as task:
            self._each(batch, batches)
            self._each(one, sorted(set(positions).difference(small)))
        return found.findings()

    def contents(
        self, layout: DagLayout, positions: Sequence[int], progress: Progress, title: str
    ) -> Findings:
        """Which blocks are missing or do not hash to their CID. The node reads and sends each one."""
        found = _Collector(layout)
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
                wanted -= good_positions(self._rpc, layout, task)
            self._each(one, sorted(wanted))
        return found.findings()

    def any_there(self, wanted: Sequence[Cid]) -> bool:
        """Whether any of `wanted` is there."""
        found: list[Cid] = []

        def one(cid: Cid) -> None:
            if not found and self._rpc.block_size(cid) is not None:
                found.append(cid)

        self._each(one, wanted)
        return bool(found)

    def _each(self, work: Callable[[_Item], None], items: Sequence[_Item]) -> None:
        """`work` on every item, in several threads; the first failure ends it."""
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


class _Collector:
    """Findings as they come in, from several threads."""

    def __init__(self, layout: DagLayout) -> None:
        self._layout = layout
        self.missing: set[int] = set()
        self.wrong: set[int] = set()

    def size(self, position: int, size: int | None) -> None:
        if size is None:
            self.missing.add(position)
        elif size != self._layout.block_size(position):
            self.wrong.add(position)

    def findings(self) -> Findings:
        return Findings(frozenset(self.missing), frozenset(self.wrong))
