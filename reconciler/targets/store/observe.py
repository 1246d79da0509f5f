"""Observation of a store, without a lock and without changing it."""

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
from reconciler.targets.store.directory import StoreDirectory, StoreListing
from reconciler.targets.store.labels import LabelFile
from reconciler.targets.store.layouts import layout_of_car, load_index, same_layout, tree_layout
from reconciler.targets.store.repair_in_place import all_bad_positions, bad_positions, is_header_valid

_SAMPLE_LEAVES = 16  # of one root at most
_SAMPLE_BUDGET = 1024  # leaves of one `observe`, about a GiB; at least one of every root


@dataclass(frozen=True, slots=True)
class _StoreObserver:
    """One call of `observe`: the listing, and how deep to check."""

    directory: StoreDirectory
    listing: StoreListing
    entries: dict[Cid, LabelFile | str]  # text: why the label file is invalid
    check: Check
    leaves: int
    random: Random
    progress: Progress


def observe(
    directory: StoreDirectory,
    expected: Sequence[Expected],
    check: Check,
    mark: str,
    *,
    random: Random,
    progress: Progress,
) -> Inventory:
    """Implement Target.observe. QUICK costs one listing and one label file a root, and reads no CAR."""
    if not directory.exists():
        absent = {
            item.root: Observation(item.root, State.ABSENT, checked="no store yet") for item in expected
        }
        return Inventory(absent)
    listing = directory.listing()
    found = {
        root: entry
        for root, name in listing.labelled.items()
        if (entry := _read_entry(f"{directory.labels}/{name}", root)) is not None
    }
    leaves = max(1, min(_SAMPLE_LEAVES, _SAMPLE_BUDGET // max(1, len(expected))))
    observer = _StoreObserver(directory, listing, found, check, leaves, random, progress)
    observations = {item.root: _observe_root(observer, item) for item in expected}
    pins = [
        Pin(root, label)
        for root, entry in found.items()
        if isinstance(entry, LabelFile)
        for label in entry.labels
    ]
    for root in listing.removing - listing.labelled.keys():  # an interrupted unpin is planned once more
        entry = entries.read(directory.removing(root), root)
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
        notes=tuple(_notes(observer, observations.keys())),
    )


def _order(pin: Pin) -> tuple[str, Cid]:
    return pin.label, pin.root


def _read_entry(path: str, root: Cid) -> LabelFile | str | None:
    try:
        return entries.read(path, root)
    except DataError as error:
        return error.message


def _notes(observer: _StoreObserver, expected: Container[Cid]) -> Iterator[str]:
    """Yield a note for everything in the store that belongs to no expected root."""
    listing = observer.listing
    for root in sorted(listing.cars.keys() - observer.entries.keys() - listing.removing):
        if root not in expected:
            yield f"{root}.car has no label (an interrupted publish); delete it if it is not needed"
    for root in sorted(
        listing.indexes.keys() - listing.cars.keys() - observer.entries.keys() - listing.removing
    ):
        if root not in expected:
            yield f"{root}.idx has no CAR; it may be deleted"
    for root, entry in sorted(observer.entries.items(), key=itemgetter(0)):
        if root not in expected:
            if isinstance(entry, str):
                yield f"{root} is kept because its owner is unknown: {entry}"
            elif root not in listing.cars:
                yield f"{root} ({', '.join(entry.labels)}): the CAR is missing"
    for root in sorted(listing.removing - observer.entries.keys()):
        yield f"the removal of {root} was interrupted; the next change to this store finishes it"
    for path in sorted(listing.strays):
        yield f"{path!r} is not a file of the store; it is left unchanged"


def _observe_root(observer: _StoreObserver, expected: Expected) -> Observation:
    """Observe one expected root."""
    root, entry = expected.root, observer.entries.get(expected.root)
    labels = entry.labels if isinstance(entry, LabelFile) else ()
    if root not in observer.listing.cars:
        if entry is None:
            return Observation(root, State.ABSENT, checked="listing")
        return Observation(
            root, State.PARTIAL, labels, checked="listing", detail="the CAR is missing", nothing_left=True
        )
    try:
        problems = _check_car(observer, expected, entry)
    except FileNotFoundError:  # removed since it was listed
        return Observation(root, State.ABSENT, checked="listing")
    except OSError as error:
        detail = f"the CAR cannot be read: {error.strerror}"
        return Observation(root, State.UNKNOWN, labels, checked="listing", detail=detail)
    return Observation(
        root,
        State.PARTIAL if problems.texts else State.HELD,
        labels,
        damaged=problems.damaged,
        checked=problems.checked,
        detail="; ".join(problems.texts),
    )


@dataclass(slots=True)
class _CarProblems:
    """The problems of one CAR, collected step by step."""

    checked: str
    texts: list[str] = field(default_factory=list)
    damaged: tuple[Cid, ...] = ()


def _check_car(observer: _StoreObserver, expected: Expected, entry: LabelFile | str | None) -> _CarProblems:
    """Check sizes first, then as many bytes as the check level requires."""
    root = expected.root
    problems = _CarProblems("sizes")
    size, index_size = observer.listing.cars[root], observer.listing.indexes.get(root)
    if size is None:
        problems.texts.append("the CAR is not a regular file")
        return problems
    if entry is None:
        problems.texts.append("it has no label (an interrupted publish or a lost label file)")
    elif isinstance(entry, str):
        problems.texts.append(entry)
    else:
        if entry.repairing:
            problems.texts.append("a repair was interrupted")
        if index_size is not None and index_size != entry.index_size:
            problems.texts.append(f"block index has {index_size} bytes instead of {entry.index_size}")
    if index_size is None:
        problems.texts.append("block index is missing")
    wanted = _car_size(expected, entry)
    if isinstance(entry, LabelFile) and entry.car_size != wanted:
        problems.texts.append(f"label file gives {entry.car_size} bytes for a CAR of {wanted}")
    if wanted is not None and size != wanted:
        problems.texts.append(_wrong_size(size, wanted))
    if observer.check is Check.QUICK and (wanted is None or size >= wanted):
        return problems
    with observer.directory.opened_car(root) as fd:
        layout = _layout(observer, expected, fd, problems)
        if layout is None:
            return problems
        bad = {position for position in range(len(layout)) if layout.section_end(position) > size}
        if observer.check is not Check.QUICK:
            if layout.car_size not in (wanted, size):
                problems.texts.append(_wrong_size(size, layout.car_size))
            bad |= _read(observer, expected, fd, layout, problems)
    if bad:
        problems.damaged = tuple(layout.cid(position) for position in sorted(bad))
        problems.texts.append(f"{len(bad)} of {len(layout)} blocks are missing or damaged")
    return problems


def _car_size(expected: Expected, entry: LabelFile | str | None) -> int | None:
    """Return the size that the CAR must have; None when it is not known without reading."""
    if expected.layout is not None:
        return expected.layout.car_size
    return entry.car_size if isinstance(entry, LabelFile) else None


def _wrong_size(size: int, wanted: int) -> str:
    if size < wanted:
        return f"the CAR is truncated: {size} of {wanted} bytes"
    return f"the CAR is {size - wanted} bytes too long"


def _layout(
    observer: _StoreObserver, expected: Expected, fd: int, problems: _CarProblems
) -> DagLayout | None:
    """Return the layout to check against, proven as the check level requires; None when it is unknown."""
    root = expected.root
    index = None
    try:
        index = load_index(observer.directory.index(root), root)
    except DataError as error:
        if root in observer.listing.indexes:
            problems.texts.append(error.message)
    layout = expected.layout
    if layout is None and observer.check is Check.QUICK:
        return index
    if layout is None:
        try:
            layout = layout_of_car(fd, root) if index is None else tree_layout(fd, index)
        except BlockUnavailableError:
            layout = index  # an inner node is damaged; the index shows which one
        except DataError as error:
            problems.texts.append(error.message)
            return None
        if layout is None:
            problems.texts.append("inner nodes are missing or damaged")
    if index is not None and layout is not None and not same_layout(index, layout):
        problems.texts.append("block index does not describe this DAG")
    return layout


def _read(
    observer: _StoreObserver, expected: Expected, fd: int, layout: DagLayout, problems: _CarProblems
) -> set[int]:
    """Read and hash the blocks that SAMPLE or FULL requires; return the positions of bad ones."""
    if not is_header_valid(fd, layout):
        problems.texts.append("the CAR header is damaged")
    if observer.check is Check.FULL:
        name = expected.labels[0].name if expected.labels else str(expected.root)
        with observer.progress.task(f"checking {name}", layout.car_size) as task:
            bad = all_bad_positions(fd, layout, task)
        problems.checked = "every byte"
        return set(bad)
    tree = layout.tree_positions()
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    chosen = observer.random.sample(leaves, min(observer.leaves, len(leaves)))
    problems.checked = f"sizes, {len(tree)} inner nodes and {len(chosen)} of {len(leaves)} leaves"
    return set(bad_positions(fd, layout, [*tree, *sorted(chosen)]))
