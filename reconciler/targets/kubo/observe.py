"""Observation of a node: one listing for all versions, and as many blocks as the check level requires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from reconciler.content.dag import DagLayout
from reconciler.errors import DataError
from reconciler.progress import Progress
from reconciler.targets.interface import (
    Check,
    Expected,
    Inventory,
    Observation,
    Pin,
    State,
    describe_v0_pin,
)
from reconciler.targets.kubo import probe
from reconciler.targets.kubo.dag import UnusableBlockError, read_layout
from reconciler.targets.kubo.probe import BadBlocks, Prober
from reconciler.targets.kubo.rpc import KuboRpc

_SIZES = 8192  # leaves whose size is checked in one `observe` of SAMPLE, about ten seconds
_READ = 256  # leaves read and hashed in one `observe` of SAMPLE, about 256 MiB
_READ_EACH = 8  # of one root at most


@dataclass(frozen=True, slots=True)
class _KuboObserver:
    """One call of `observe`. Of one root at most `sized` leaves are checked for size, and `read` are read."""

    rpc: KuboRpc
    prober: Prober
    check: Check
    random: Random
    progress: Progress
    sized: int
    read: int


def observe(
    rpc: KuboRpc,
    prober: Prober,
    expected: Sequence[Expected],
    check: Check,
    mark: str,
    *,
    random: Random,
    progress: Progress,
) -> Inventory:
    """Implement Target.observe. QUICK makes two requests, however many versions there are."""
    pins = rpc.pins()
    stuck = probe.describe_stuck_gc(rpc)
    names = {pin.root: pin.name for pin in pins if pin.canonical and pin.root is not None}
    v0_names = {pin.root: pin.name for pin in pins if not pin.canonical and pin.root is not None}
    pinned = sum(item.root in names for item in expected)
    share = max(1, pinned)
    observer = _KuboObserver(
        rpc,
        prober,
        check,
        random,
        progress,
        sized=max(1, _SIZES // share),
        read=max(1, min(_READ_EACH, _READ // share)),
    )
    listed = [
        Pin(pin.root, pin.name, "" if pin.canonical else pin.text) for pin in pins if pin.root is not None
    ]
    return Inventory(
        observations={
            item.root: _observe_root(observer, item, names.get(item.root), v0_names.get(item.root))
            for item in expected
        },
        owned=tuple(pin for pin in listed if pin.label.startswith(mark)),
        foreign=tuple(pin for pin in listed if not pin.label.startswith(mark)),
        notes=(probe.stuck_note(stuck),) if stuck else (),
    )


def _observe_root(
    observer: _KuboObserver, item: Expected, name: str | None, v0_name: str | None
) -> Observation:
    """Observe one root. `name` is that of its pin, None without a pin: unpinned blocks count as absent.

    `v0_name` is that of a pin on its CIDv0, which is another pin and does not become ours.
    """
    if name is None:
        detail = "" if v0_name is None else describe_v0_pin(v0_name)
        return Observation(item.root, State.ABSENT, checked="list of pins", detail=detail)
    labels = (name,) if name else ()
    if observer.check is Check.QUICK:
        return Observation(item.root, State.HELD, labels, checked="list of pins")
    try:
        layout = item.layout or read_layout(observer.rpc, item.root)
    except UnusableBlockError as error:
        detail = f"an inner node is {'damaged' if error.damaged else 'missing'}"
        return Observation(item.root, State.PARTIAL, labels, (error.cid,), "inner nodes", detail)
    except DataError as error:
        return Observation(item.root, State.PARTIAL, labels, (), "inner nodes", error.message)
    title = item.labels[0].name if item.labels else str(item.root)
    bad, checked = (
        _full(observer, layout, title) if observer.check is Check.FULL else _sample(observer, layout, title)
    )
    if not bad:
        return Observation(item.root, State.HELD, labels, checked=checked)
    return Observation(
        item.root,
        State.PARTIAL,
        labels,
        damaged=tuple(layout.cid(position) for position in bad.positions),
        checked=checked,
        detail=bad.summary(),
    )


def _full(observer: _KuboObserver, layout: DagLayout, title: str) -> tuple[BadBlocks, str]:
    return observer.prober.contents(layout, range(len(layout)), observer.progress, title), "every byte"


def _sample(observer: _KuboObserver, layout: DagLayout, title: str) -> tuple[BadBlocks, str]:
    """Read every inner node and a few leaves, and check the size of more leaves within the budget."""
    tree = layout.tree_positions()
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    read = observer.random.sample(leaves, min(observer.read, len(leaves)))
    sized = leaves if len(leaves) <= observer.sized else observer.random.sample(leaves, observer.sized)
    bad = observer.prober.contents(layout, [*tree, *sorted(read)], observer.progress, title)
    bad |= observer.prober.sizes(layout, sorted(sized), observer.progress, title)
    reads = f"{len(tree)} inner nodes and {len(read)} of {len(leaves)} leaves read"
    return bad, f"{reads}, size of {len(sized)} leaves checked"
