"""Looking at a node: one listing for all versions, and as many blocks as the check asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError
from reconciler.progress import Progress
from reconciler.targets.interface import Check, Expected, Inventory, Observation, Pin, State
from reconciler.targets.kubo import probe
from reconciler.targets.kubo.dag import UnusableBlockError, layout_there
from reconciler.targets.kubo.heal import FLAG, Owns
from reconciler.targets.kubo.probe import Findings, Prober
from reconciler.targets.kubo.rpc import KuboRpc

_LOOKED_AT = 8192  # blocks asked for their size in one observe of SAMPLE, about ten seconds
_READ = 256  # leaves read and hashed in one observe of SAMPLE, about 256 MiB
_READ_EACH = 8  # of one root at most


@dataclass(frozen=True, slots=True)
class _KuboObserver:
    """One observe. `asked` and `read` are how many blocks of one root may be asked for and read."""

    rpc: KuboRpc
    prober: Prober
    check: Check
    mark: str
    may_unpin: bool
    owns: Owns
    random: Random
    progress: Progress
    asked: int
    read: int


def observe(
    rpc: KuboRpc,
    prober: Prober,
    expected: Sequence[Expected],
    check: Check,
    mark: str,
    *,
    may_unpin: bool,
    owns: Owns,
    random: Random,
    progress: Progress,
) -> Inventory:
    """As Target.observe says. QUICK makes two requests, however many versions there are."""
    pins = rpc.pins()
    stuck = probe.look(rpc)
    names = {pin.root: pin.name for pin in pins if pin.canonical and pin.root is not None}
    pinned = sum(item.root in names for item in expected)
    share = max(1, pinned)
    look = _KuboObserver(
        rpc,
        prober,
        check,
        mark,
        may_unpin,
        owns,
        random,
        progress,
        asked=max(1, _LOOKED_AT // share),
        read=max(1, min(_READ_EACH, _READ // share)),
    )
    listed = [Pin(pin.root, pin.name) for pin in pins if pin.root is not None]
    return Inventory(
        observations={item.root: _one(look, item, names.get(item.root)) for item in expected},
        owned=tuple(pin for pin in listed if pin.label.startswith(mark)),
        foreign=tuple(pin for pin in listed if not pin.label.startswith(mark)),
        notes=(probe.advice(stuck),) if stuck else (),
    )


def _one(look: _KuboObserver, item: Expected, name: str | None) -> Observation:
    """One root; `name` is its pin's, None without a pin: blocks that nothing keeps are as good as gone."""
    if name is None:
        return Observation(item.root, State.ABSENT, checked="list of pins")
    labels = (name,) if name else ()
    if look.check is Check.QUICK:
        return Observation(item.root, State.HELD, labels, checked="list of pins")
    try:
        layout = item.layout or layout_there(look.rpc, item.root)
    except UnusableBlockError as error:
        detail = f"an inner node is {'damaged' if error.damaged else 'missing'}"
        needs = _needs(look, item.root, name, damaged=error.damaged)
        return Observation(item.root, State.PARTIAL, labels, (error.cid,), "inner nodes", detail, needs)
    except DataError as error:
        return Observation(item.root, State.PARTIAL, labels, (), "inner nodes", error.message)
    title = item.labels[0].name if item.labels else str(item.root)
    findings, checked = (
        _full(look, layout, title) if look.check is Check.FULL else _sample(look, layout, title)
    )
    if not findings:
        return Observation(item.root, State.HELD, labels, checked=checked)
    return Observation(
        item.root,
        State.PARTIAL,
        labels,
        damaged=tuple(layout.cid(position) for position in findings.bad),
        checked=checked,
        detail=findings.words(),
        needs=_needs(look, item.root, name, damaged=bool(findings.wrong)),
    )


def _full(look: _KuboObserver, layout: DagLayout, title: str) -> tuple[Findings, str]:
    return look.prober.contents(layout, range(len(layout)), look.progress, title), "every byte"


def _sample(look: _KuboObserver, layout: DagLayout, title: str) -> tuple[Findings, str]:
    """Every inner node and a few leaves are read.

    As many leaves as the budget has are asked for their size.
    """
    tree = layout.tree_positions()
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    read = look.random.sample(leaves, min(look.read, len(leaves)))
    asked = leaves if len(leaves) <= look.asked else look.random.sample(leaves, look.asked)
    findings = look.prober.contents(layout, [*tree, *sorted(read)], look.progress, title)
    findings |= look.prober.sizes(layout, sorted(asked), look.progress, title)
    seen = f"{len(tree)} inner nodes and {len(read)} of {len(leaves)} leaves read"
    return findings, f"{seen}, {len(asked)} leaves looked for"


def _needs(look: _KuboObserver, root: Cid, name: str, *, damaged: bool) -> str:
    """What a repair needs: nothing for missing blocks, for damaged ones a moment without our pin."""
    if not damaged:
        return ""
    if not look.owns(root, name, look.mark):
        return "the pin is not ours: run `ipfs repo verify --drop` on the node, then this again"
    return "" if look.may_unpin else FLAG
