"""Publishing something without an index entry: a file or directory, on one target, under its own label.

The same laws as for versions hold: bytes are identified first, blocks are checked by the target, and nothing
that is there under another label is changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.identify import identify
from reconciler.errors import PeerError, UsageError
from reconciler.index.label import PUT_MARK, Label
from reconciler.index.layout import Layout
from reconciler.index.model import TargetSpec
from reconciler.index.targets_file import load_targets
from reconciler.progress import Progress
from reconciler.targets.interface import Check, Expected, RunTerms, State, Target
from reconciler.targets.open import open_target

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,99}")


@dataclass(frozen=True, slots=True)
class Put:
    """What a put did. `bytes_sent` is 0 when everything was there; `label` is the one it is kept under."""

    root: Cid
    target: str
    label: str
    state: State
    files: int
    size: int
    blocks: int
    bytes_sent: int
    detail: str


def put(
    layout: Layout,
    path: Path,
    target: str | None,
    name: str | None,
    *,
    hidden: bool,
    environ: Mapping[str, str],
    progress: Progress,
) -> Put:
    """Publish `path`, exactly as it is, to `target` (None: the only one) as `reconciler/put/<name>`.

    Raises UsageError, BundleError for a path that cannot be packed, PeerError of the target.
    """
    label = Label(PUT_MARK + _name(path, name))
    spec = _choose(load_targets(layout.targets_file), target)
    with (
        closing(
            open_target(spec, root=layout.root, environ=environ, terms=RunTerms(progress=progress))
        ) as place,
        closing(identify(bare_bundle(path, include_hidden=hidden), cache=None, progress=progress)) as dag,
    ):
        if not place.capabilities.takes_bytes:
            raise UsageError(f"target {spec.name!r} takes no bytes, it only pins what others have")
        identity = dag.identity
        kept = _kept(place, Expected(identity.root, (label,), layout=dag.layout), label, progress)
        if kept is not None:
            state, sent, detail = State.HELD, 0, kept
        else:
            delivery = place.publish(dag, label, progress)
            state, sent, detail = delivery.state, delivery.bytes_sent, delivery.detail
        if state not in (State.HELD, State.PENDING):
            raise PeerError(
                f"{spec.name}: holds {identity.root} only in part: {detail or state.value}",
                hint="run it again",
            )
        return Put(
            root=identity.root,
            target=spec.name,
            label=label if kept is None else "",
            state=state,
            files=len(identity.files),
            size=identity.size,
            blocks=identity.blocks,
            bytes_sent=sent,
            detail=detail,
        )


def _kept(place: Target, expected: Expected, label: Label, progress: Progress) -> str | None:
    """Under which other label the target keeps all of it already, where one root has one label; else None."""
    if not place.capabilities.one_label:
        return None
    seen = place.observe([expected], Check.QUICK, PUT_MARK, progress).observations[expected.root]
    others = [known for known in seen.labels if not known.startswith(PUT_MARK)]
    if seen.state is not State.HELD or not others or label in seen.labels:
        return None
    return f"kept there already as {others[0]!r}, and only as long as that is kept"


def _name(path: Path, name: str | None) -> str:
    if name is None:
        name = re.sub(r"[^A-Za-z0-9._+@-]+", "-", path.resolve().name).strip("-.")[:100] or "unnamed"
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a label", hint="letters, digits and . _ + @ -, at most 100 of them"
        )
    return name


def _choose(specs: Sequence[TargetSpec], name: str | None) -> TargetSpec:
    names = ", ".join(spec.name for spec in specs)
    if name is None and len(specs) > 1:
        raise UsageError("several targets could take it", hint=f"name one with --target: {names}")
    for spec in specs:
        if name in (None, spec.name):
            return spec
    raise UsageError(f"no target {name!r}", hint=f"targets there: {names}")
