"""What the proposal writes back: CIDs, and records with the pieces that targets need. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.content.cid import Cid
from reconciler.index.model import Version
from reconciler.loop.changes import Change, ResolveCid, WriteRecord
from reconciler.loop.select import Selection
from reconciler.loop.world import World
from reconciler.targets.interface import State


def unrecorded(selection: Selection, world: World) -> Iterator[Version]:
    """Versions whose pieces some target holds although no record names them: nothing can be said of their
    deals until they are computed, which needs the bytes.
    """
    for version in selection.kept:
        root = world.root(version)
        for target in version.targets if root is not None and version.ref in world.uncut else ():
            seen = world.observation(target, root) if root is not None else None
            if seen is not None and seen.state is State.HELD and world.capabilities[target].cut is not None:
                yield version
                break


def will_be_recorded(version: Version, world: World) -> bool:
    """Whether a proposal brings the pieces of a version into its record, as far as none are there."""
    known = version.ref in world.facts and version.ref not in world.problems
    return known and bool(world.uncut.get(version.ref))


def write_back(version: Version, root: Cid, world: World, *, held: bool) -> Iterator[Change]:
    """What the proposal writes for a version whose bytes were identified in this run."""
    facts = world.facts.get(version.ref)
    if version.cid is None:
        yield ResolveCid(
            model=version.model, version=version.version, root=root, held=held, reason="not in the index yet"
        )
    if facts is None or version.ref in world.problems:
        return
    cuts = world.uncut.get(version.ref, ())
    if version.ref not in world.recorded or cuts:
        yield WriteRecord(
            model=version.model,
            version=version.version,
            root=root,
            held=held,
            drift=version.cid is not None and not held,
            reason="its pieces are not recorded yet" if version.ref in world.recorded else "",
            path=f"records/{version.model}/{version.version}.json",
            size=facts.size,
            cuts=cuts,
        )
