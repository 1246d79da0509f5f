"""Publication of a file or directory without an index entry, on one target, under a label of its own.

As for versions, the bytes are identified first, the target verifies every block, and roots under other labels
stay unchanged.
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
from reconciler.content.lint.finding import Finding
from reconciler.errors import PeerError, SourceChangedError, UsageError
from reconciler.index.label import PUT_MARK, Label
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import TargetSpec
from reconciler.index.targets_file import load_targets
from reconciler.loop.entrance import artifact_findings, require_harmless
from reconciler.progress import Progress
from reconciler.targets.interface import Check, Expected, RunTerms, State, Target
from reconciler.targets.open import open_target

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,99}")


@dataclass(frozen=True, slots=True)
class Put:
    """The result of a put.

    `bytes_sent` is 0 when the target had everything. `label` is the label it is kept under, "" when the
    target keeps it under another one already. `findings` are warnings about the files.
    """

    root: Cid
    target: str
    label: str
    state: State
    files: int
    size: int
    blocks: int
    bytes_sent: int
    detail: str
    findings: tuple[Finding, ...] = ()


def put(
    layout: RepositoryLayout,
    path: Path,
    target: str | None,
    name: str | None,
    *,
    hidden: bool,
    environ: Mapping[str, str],
    progress: Progress,
) -> Put:
    """Publish `path`, without generated files, to `target` (None: the only one) as `reconciler/put/<name>`.

    `name` defaults to the name of the file or directory. Raises UsageError for a name or a target that cannot
    be used, BundleError for a path that cannot be packed, SafetyError for files that must not be published,
    and PeerError of the target.
    """
    label = Label(PUT_MARK + _label_name(path, name))
    spec = _choose_target(load_targets(layout.targets_file), target)
    with closing(
        open_target(spec, root=layout.root, environ=environ, terms=RunTerms(progress=progress))
    ) as opened:
        if not opened.capabilities.takes_bytes:
            raise UsageError(
                f"target {spec.name!r} accepts no bytes: it pins only what another target serves",
                hint="publish to another target with --target",
            )
        try:
            return _put(opened, path, label, hidden=hidden, progress=progress)
        except SourceChangedError as error:
            progress.note(f"{error}; reading it again")
            return _put(opened, path, label, hidden=hidden, progress=progress)


def _put(opened: Target, path: Path, label: Label, *, hidden: bool, progress: Progress) -> Put:
    bundle = bare_bundle(path, include_hidden=hidden)
    findings = artifact_findings(bundle.listing, single_file=bundle.single_file)
    require_harmless(findings)
    with closing(identify(bundle, cache=None, progress=progress)) as dag:
        identity = dag.identity
        kept = _other_label(opened, Expected(identity.root, (label,), layout=dag.layout), label, progress)
        if kept is not None:
            state, sent, detail = State.HELD, 0, kept
        else:
            delivery = opened.publish(dag, label, progress)
            state, sent, detail = delivery.state, delivery.bytes_sent, delivery.detail
        if state not in (State.HELD, State.PENDING):
            raise PeerError(
                f"{opened.name} does not have all of {identity.root}: {detail or state.value}",
                hint="run it again",
            )
        return Put(
            root=identity.root,
            target=opened.name,
            label=label if kept is None else "",
            state=state,
            files=len(identity.files),
            size=identity.size,
            blocks=identity.blocks,
            bytes_sent=sent,
            detail=detail,
            findings=findings,
        )


def _other_label(opened: Target, expected: Expected, label: Label, progress: Progress) -> str | None:
    """Return a note about the other label that keeps the whole root on the target, or None.

    Only on a target with one label for each root, where ours would replace it.
    """
    if not opened.capabilities.one_label:
        return None
    seen = opened.observe([expected], Check.QUICK, PUT_MARK, progress).observations[expected.root]
    others = [known for known in seen.labels if not known.startswith(PUT_MARK)]
    if seen.state is not State.HELD or not others or label in seen.labels:
        return None
    return f"already kept as {others[0]!r}, and only as long as that label exists"


def _label_name(path: Path, name: str | None) -> str:
    if name is None:
        name = re.sub(r"[^A-Za-z0-9._+@-]+", "-", path.resolve().name).strip("-.")[:100] or "unnamed"
    if not _NAME.fullmatch(name):
        raise UsageError(f"invalid label {name!r}", hint="use at most 100 letters, digits and . _ + @ -")
    return name


def _choose_target(specs: Sequence[TargetSpec], name: str | None) -> TargetSpec:
    names = ", ".join(spec.name for spec in specs)
    if name is None and len(specs) > 1:
        raise UsageError("the repository has several targets", hint=f"choose one with --target: {names}")
    for spec in specs:
        if name in (None, spec.name):
            return spec
    raise UsageError(f"unknown target {name!r}", hint=f"the targets are {names}")
