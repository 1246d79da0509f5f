"""Parts of large versions: what a run does that selects `model@version#2/5`. The planning is pure.

Such a run reads one part of the version from its source, and targets keep its blocks under a pin of the part.
It proposes nothing and removes nothing. A run for the whole version finds the parts, proves them against the
digests of the source, reads what is missing, and removes the pins of the parts
(docs/decisions/0011-parts-of-a-version.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from reconciler.errors import PeerError, Reason, ReconcilerError
from reconciler.index.label import Label
from reconciler.index.model import Version
from reconciler.index.part import Part
from reconciler.loop.changes import Change, Outcome, OutcomeState, blocked, is_drift
from reconciler.loop.select import Selection
from reconciler.loop.sources import VersionSources
from reconciler.loop.stopping import Stoppable
from reconciler.loop.world import World
from reconciler.targets.interface import Delivery, Ingests, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPart(Change):
    """Reading of one `part` of a version from its remote `source`; the `targets` keep its blocks."""

    kind: ClassVar[str] = "stream-part"
    source: str
    targets: tuple[str, ...]
    part: Part


def part_changes(version: Version, part: Part, world: World, names: Sequence[str]) -> Iterator[Change]:
    """Yield what is to be done for one part of a version on the targets `names`."""
    if version.source is None:
        yield blocked(
            version,
            "only a version with a remote source is published in parts",
            f"select all of it: --only {version.ref}",
        )
        return
    root, able, lacking, unknown = world.root(version), [], [], []
    for target in version.targets:
        if target not in names:
            continue
        inventory, keeps_parts = world.inventories[target], world.capabilities[target].keeps_parts
        if isinstance(inventory, Reason):
            found = blocked(version, inventory.text, inventory.hint, target=target, unknown=True)
            unknown.append((keeps_parts, found))
        elif keeps_parts:
            able.append(target)
            held = root is not None and world.is_held(target, root)
            if not held and version.ref not in world.kept_parts.get(target, ()):
                lacking.append(target)
    # A target that could not be opened, such as one without its secret here, may be one that keeps no parts.
    yield from (found for keeps_parts, found in unknown if keeps_parts or not able)
    if lacking:
        yield StreamPart(
            model=version.model,
            version=version.version,
            source=str(version.source),
            targets=tuple(lacking),
            part=part,
            drift=is_drift(version),
            reason="kept until the whole version is published",
        )
    elif not able and not unknown:
        yield blocked(
            version,
            "none of its targets keeps parts of a version",
            f"select all of it: --only {version.ref}",
        )


def find_kept_parts(
    selection: Selection, sources: VersionSources, targets: Mapping[str, Target]
) -> dict[str, frozenset[str]]:
    """Return the versions whose selected part is kept, by target name.

    A target that fails keeps none. Raises UsageError for one that can keep none of a version.
    """
    found: dict[str, set[str]] = {}
    for version in selection.active:
        part = selection.parts.get(version.ref)
        key = sources.remote.key(version) if sources.remote else None
        if part is None or key is None:
            continue
        label = selection.index.label(version)
        for name in version.targets:
            target = targets.get(name)
            if target is not None and part in _kept_on(target, label, key):
                found.setdefault(name, set()).add(version.ref)
    return {name: frozenset(refs) for name, refs in found.items()}


def _kept_on(target: Target, label: Label, key: str) -> frozenset[Part]:
    if isinstance(target, Ingests):
        with suppress(PeerError, OSError):
            return target.parts(label, key)
    return frozenset()


def stream_part(
    version: Version,
    change: StreamPart,
    label: Label,
    targets: Mapping[str, Target],
    sources: VersionSources,
    progress: Stoppable,
) -> Outcome:
    """Read a part once, and make the targets of `change` keep it. Raises what the source raises."""
    assert sources.remote is not None  # noqa: S101 - given with an index
    wanted = [targets[name] for name in change.targets]
    dag, sinks = sources.remote.stream_part(
        version, sources.first_inputs(version), change.part, wanted, label
    )
    kept: dict[str, Delivery] = {}
    problems = dict.fromkeys(change.targets, "began no session")
    try:
        for sink in sinks:
            progress.check()
            try:
                if sink.error is not None:
                    raise sink.error
                kept[sink.name] = sink.session.keep(dag, change.part, progress)
                del problems[sink.name]
            except (ReconcilerError, OSError) as error:
                problems[sink.name] = str(error)
    finally:
        for sink in sinks:
            sink.session.abandon()
    sent = sum(each.bytes_sent for each in kept.values())
    blocks = sum(each.blocks_sent for each in kept.values())
    if problems:
        detail = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        return Outcome(change, OutcomeState.FAILED, detail, "run again", sent, blocks)
    return Outcome(change, OutcomeState.APPLIED, f"kept on {', '.join(kept)}", "", sent, blocks)
