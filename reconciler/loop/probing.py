"""Do the providers of a version really serve it? The view behind `reconcile status --probe`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import BlockUnavailableError, ReconcilerError
from reconciler.index.model import Version
from reconciler.loop.run import Run
from reconciler.probes import ProbeResult, ProbeTerms, Router, probe


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found out about one version; `problem` says why nothing was, or is ""."""

    model: str
    version: str
    root: Cid
    findings: tuple[ProbeResult, ...] = ()
    problem: str = ""


def probe_versions(run: Run, router: Router, terms: ProbeTerms, random: Random) -> tuple[Probed, ...]:
    """Probe every version that `run` selects and that has a CID; a root of several versions once."""
    return tuple(_probed(run, router, terms, random))


def _probed(run: Run, router: Router, terms: ProbeTerms, random: Random) -> Iterator[Probed]:
    known: dict[Cid, Probed] = {}
    versions = [version for version in run.selection.kept if version.cid is not None]
    with run.progress.task("probing providers (versions)", len(versions)) as task:
        for version in versions:
            root = version.cid
            assert root is not None  # noqa: S101 - chosen above
            if root not in known:
                known[root] = _one(run, version, root, router, terms, random)
            task.advance(1)
            found = known[root]
            yield Probed(version.model, version.version, root, found.findings, found.problem)


def _one(run: Run, version: Version, root: Cid, router: Router, terms: ProbeTerms, random: Random) -> Probed:
    try:
        layout = _layout(run, version, root)
        findings = probe(layout, router.providers(root), terms, random)
    except ReconcilerError as error:
        return Probed(version.model, version.version, root, problem=error.message)
    return Probed(version.model, version.version, root, findings)


def _layout(run: Run, version: Version, root: Cid) -> DagLayout:
    """The blocks of `root` as we know them: from a target, or from the version's own directory."""
    for target in run.targets.values():
        if target.capabilities.serves_blocks:
            try:
                with closing(target.dag(root)) as dag:
                    return dag.layout
            except ReconcilerError:
                continue
    if run.sources.present([version]):
        return run.sources.identify(version).layout
    raise BlockUnavailableError("which leaves it has is not known here: no target and no directory has it")
