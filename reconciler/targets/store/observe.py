"""Looking at a store without a lock and without changing it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.progress import Progress
from reconciler.targets.interface import Check, Expected, Inventory, Observation, Pin, State
from reconciler.targets.store import labels as entries
from reconciler.targets.store import repair_in_place
from reconciler.targets.store.labels import LabelFile
from reconciler.targets.store.layouts import layout_of_car, load_index, same, tree_layout
from reconciler.targets.store.place import StoreDirectory, StoreListing

_SAMPLE_LEAVES = 16  #: of one root at most
_SAMPLE_BUDGET = 1024  #: leaves of one `observe`, about a GiB; every root has at least one


@dataclass(frozen=True, slots=True)
class _StoreObserver:
    """One `observe`: what it found by listing, and how deep it goes."""

    place: StoreDirectory
    listing: StoreListing
    entries: dict[Cid, LabelFile | str]  # text: why the label file does not hold
    check: Check
    leaves: int
    random: Random
    progress: Progress


def observe(
    place: StoreDirectory,
    expected: Sequence[Expected],
    check: Check,
    mark: str,
    *,
    random: Random,
    progress: Progress,
) -> Inventory:
    """As Target.observe says. QUICK costs one listing and one small file a root, and reads no CAR."""
    if not place.exists():
        absent = {
            item.root: Observation(item.root, State.ABSENT, checked="no store yet") for item in expected
        }
        return Inventory(absent)
    listing = place.listing()
    found = {root: entry for root in listing.entries if (entry := _read_entry(place, root)) is not None}
    leaves = max(1, min(_SAMPLE_LEAVES, _SAMPLE_BUDGET // max(1, len(expected))))
    look = _StoreObserver(place, listing, found, check, leaves, random, progress)
    observations = {item.root: _one(look, item) for item in expected}
    pins = [
        Pin(root, label)
        for root, entry in found.items()
        if isinstance(entry, LabelFile)
        for label in entry.labels
    ]
    for root in listing.removing - listing.entries:  # an unpin that was interrupted is asked for once more
        entry = entries.read(place.removing(root), root)
        pins += [Pin(root, label) for label in (entry.labels if entry else ())]
    unlabelled = [
        root
        for root in listing.cars
        if root not in found and root not in observations and root not in listing.removing
    ]
    foreign = [pin for pin in pins if not pin.label.startswith(mark)] + [Pin(root, "") for root in unlabelled]
    return Inventory(
        observations,
        owned=tuple(sorted((pin for pin in pins if pin.label.startswith(mark)), key=_order)),
        foreign=tuple(sorted(foreign, key=_order)),
        notes=tuple(_notes(look, observations.keys())),
    )


def _order(pin: Pin) -> tuple[str, Cid]:
    return pin.label, pin.root


def _read_entry(place: StoreDirectory, root: Cid) -> LabelFile | str | None:
    try:
        return entries.read(place.entry(root), root)
    except DataError as error:
        return error.message


def _notes(look: _StoreObserver, expected: Container[Cid]) -> Iterator[str]:
    """What lies in the store and belongs to no expected root."""
    listing = look.listing
    for root in sorted(listing.cars.keys() - look.entries.keys() - listing.removing):
        if root not in expected:
            yield f"{root}.car has no label (an interrupted publish); it is kept until someone deletes it"
    for root in sorted(listing.indexes.keys() - listing.cars.keys() - look.entries.keys() - listing.removing):
        if root not in expected:
            yield f"{root}.idx has no CAR; it may be deleted"
    for root, entry in sorted(look.entries.items(), key=itemgetter(0)):
        if root not in expected:
            if isinstance(entry, str):
                yield f"{root}: {entry}; whose it is cannot be told, so it is kept"
            elif root not in listing.cars:
                yield f"{root} ({', '.join(entry.labels)}): the CAR is missing"
    for root in sorted(listing.removing - look.entries.keys()):
        yield f"the removal of {root} was interrupted; the next change to this store finishes it"
    for path in sorted(listing.strays):
        yield f"{path!r} is no file of a store; it is left alone"


def _one(look: _StoreObserver, expected: Expected) -> Observation:
    """The observation of one expected root."""
    root, entry = expected.root, look.entries.get(expected.root)
    labels = entry.labels if isinstance(entry, LabelFile) else ()
    if root not in look.listing.cars:
        if entry is None:
            return Observation(root, State.ABSENT, checked="listing")
        return Observation(
            root, State.PARTIAL, labels, checked="listing", detail="the CAR is missing", nothing_left=True
        )
    try:
        findings = _examine(look, expected, entry)
    except FileNotFoundError:  # removed since it was listed
        return Observation(root, State.ABSENT, checked="listing")
    except OSError as error:
        detail = f"the CAR cannot be read: {error.strerror}"
        return Observation(root, State.UNKNOWN, labels, checked="listing", detail=detail)
    return Observation(
        root,
        State.PARTIAL if findings.problems else State.HELD,
        labels,
        damaged=findings.damaged,
        checked=findings.checked,
        detail="; ".join(findings.problems),
    )


@dataclass(slots=True)
class _Findings:
    """What is wrong with one CAR, collected step by step."""

    checked: str
    problems: list[str] = field(default_factory=list)
    damaged: tuple[Cid, ...] = ()


def _examine(look: _StoreObserver, expected: Expected, entry: LabelFile | str | None) -> _Findings:
    """Sizes first, then as many bytes as the check asks for."""
    root = expected.root
    findings = _Findings("sizes")
    size, index_size = look.listing.cars[root], look.listing.indexes.get(root)
    if size is None:
        findings.problems.append("the CAR is not a regular file")
        return findings
    if entry is None:
        findings.problems.append("it has no label (an interrupted publish, or a lost label file)")
    elif isinstance(entry, str):
        findings.problems.append(entry)
    else:
        if entry.repairing:
            findings.problems.append("a repair was interrupted")
        if index_size is not None and index_size != entry.index_size:
            findings.problems.append(f"block index has {index_size} bytes instead of {entry.index_size}")
    if index_size is None:
        findings.problems.append("block index is missing")
    wanted = _car_size(expected, entry)
    if isinstance(entry, LabelFile) and entry.car_size != wanted:
        findings.problems.append(f"label file says {entry.car_size} bytes where the DAG has {wanted}")
    if wanted is not None and size != wanted:
        findings.problems.append(_wrong_size(size, wanted))
    if look.check is Check.QUICK and (wanted is None or size >= wanted):
        return findings
    with look.place.opened_car(root) as fd:
        layout = _layout(look, expected, fd, findings)
        if layout is None:
            return findings
        bad = {position for position in range(len(layout)) if layout.section_end(position) > size}
        if look.check is not Check.QUICK:
            if layout.car_size not in (wanted, size):
                findings.problems.append(_wrong_size(size, layout.car_size))
            bad |= _read(look, expected, fd, layout, findings)
    if bad:
        findings.damaged = tuple(layout.cid(position) for position in sorted(bad))
        findings.problems.append(f"{len(bad)} of {len(layout)} blocks are missing or damaged")
    return findings


def _car_size(expected: Expected, entry: LabelFile | str | None) -> int | None:
    """How many bytes the CAR must have, as far as that is known without reading."""
    if expected.layout is not None:
        return expected.layout.car_size
    return entry.car_size if isinstance(entry, LabelFile) else None


def _wrong_size(size: int, wanted: int) -> str:
    if size < wanted:
        return f"the CAR is cut: {size} of {wanted} bytes"
    return f"the CAR is {size - wanted} bytes too long"


def _layout(look: _StoreObserver, expected: Expected, fd: int, findings: _Findings) -> DagLayout | None:
    """The layout to check against, as well proven as the check asks for; None when nobody knows it."""
    root = expected.root
    index = None
    try:
        index = load_index(look.place.index(root), root)
    except DataError as error:
        if root in look.listing.indexes:
            findings.problems.append(error.message)
    layout = expected.layout
    if layout is None and look.check is Check.QUICK:
        return index
    if layout is None:
        try:
            layout = layout_of_car(fd, root) if index is None else tree_layout(fd, index)
        except BlockUnavailableError:
            layout = index  # a tree block is damaged: which one, the index tells
        except DataError as error:
            findings.problems.append(error.message)
            return None
        if layout is None:
            findings.problems.append("inner nodes are missing or damaged")
    if index is not None and layout is not None and not same(index, layout):
        findings.problems.append("block index does not describe this DAG")
    return layout


def _read(
    look: _StoreObserver, expected: Expected, fd: int, layout: DagLayout, findings: _Findings
) -> set[int]:
    """Read and hash what SAMPLE or FULL asks for; the positions that do not hold."""
    if not repair_in_place.header_holds(fd, layout):
        findings.problems.append("the CAR header is damaged")
    if look.check is Check.FULL:
        name = expected.labels[0].name if expected.labels else str(expected.root)
        with look.progress.task(f"checking {name}", layout.car_size) as task:
            bad = repair_in_place.all_bad_positions(fd, layout, task)
        findings.checked = "every byte"
        return set(bad)
    tree = layout.tree_positions()
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    chosen = look.random.sample(leaves, min(look.leaves, len(leaves)))
    findings.checked = f"sizes, {len(tree)} inner nodes and {len(chosen)} of {len(leaves)} leaves"
    return set(repair_in_place.bad_positions(fd, layout, [*tree, *sorted(chosen)]))
