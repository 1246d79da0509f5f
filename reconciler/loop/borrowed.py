"""Borrowed roots: complete on a target, but only under a pin that is not ours. Pure.

The owner of such a pin may remove it at any time, for example by pruning another index. Where a target takes
a pin of ours beside it, the plan adds one. Kubo and IPFS Cluster keep one name for each pin, so there the
root stays borrowed, and a note says what happens when its owner lets go.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.index.label import IMPORT_MARK, PUT_MARK, Label
from reconciler.index.model import Version
from reconciler.loop.select import Selection
from reconciler.loop.world import World
from reconciler.targets.interface import Observation, State


def is_borrowed(seen: Observation, selection: Selection, world: World, target: str) -> bool:
    """Return whether only pins of others keep a complete root on `target`."""
    able = world.capabilities[target]
    if seen.state is not State.HELD or not (able.keeps_labels and able.one_label):
        return False
    return not any(label.startswith(selection.index.mark) for label in seen.labels)


def describe_owner(labels: tuple[str, ...]) -> str:
    """Describe whose pin keeps a root, from the labels that are not ours."""
    if not labels:
        return "a pin without a name that is not ours"
    text = labels[0]
    if text.startswith(PUT_MARK):
        return f"a pin of `reconcile put` ({text!r})"
    if text.startswith(IMPORT_MARK):
        return f"a pin of `reconcile import` ({text!r})"
    try:
        label = Label(text)
    except ValueError:
        return f"a pin named {text!r} that is not ours"
    return f"the pin of index {label.owner!r} ({label.name})"


def describe_loan(version: Version, target: str, selection: Selection, world: World) -> str:
    """Describe a borrowed root and what happens when its owner lets go; "" when it is not borrowed."""
    root = world.root(version)
    seen = None if root is None else world.observation(target, root)
    if root is None or seen is None or not is_borrowed(seen, selection, world, target):
        return ""
    return f"borrowed: held only by {describe_owner(seen.labels)}; {_what_happens(version, target, world)}"


def describe_loans(selection: Selection, world: World) -> Iterator[str]:
    """Yield a note for each borrowed version and target that the selection keeps."""
    names = {spec.name for spec in selection.targets}
    for version in selection.kept:
        for target in version.targets:
            if target in names and (text := describe_loan(version, target, selection, world)):
                yield f"{version.ref} on {target} is {text}"


def _what_happens(version: Version, target: str, world: World) -> str:
    root = world.root(version)
    others = (
        [name for name in world.holders(root, states=frozenset({State.HELD})) if name != target]
        if root is not None
        else []
    )
    if others:
        return f"when that is removed, the next run restores it from {', '.join(others)}"
    if version.origin is not None:
        return f"when that is removed, a run that has {version.origin} publishes it again"
    return "when that is removed its bytes may be lost: no other target and no path of the index has them"
