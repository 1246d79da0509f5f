"""The examination of a directory, a file, or a version of the index, as `reconcile lint` reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import bounds
from reconciler.content.bundle import bare_bundle, collision_notes, describe_bundle
from reconciler.content.lint.files import dag_subject
from reconciler.content.lint.finding import Finding
from reconciler.errors import BundleError
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Index, Version
from reconciler.index.resolve import Exact, Ref, parse_ref, resolve
from reconciler.loop.entrance import dag_findings, listing_findings
from reconciler.loop.settings import Scope
from reconciler.loop.version_bytes import open_version
from reconciler.loop.workspace import load
from reconciler.progress import Progress


@dataclass(frozen=True, slots=True)
class Linted:
    """The findings about `name`: a path, `model@version` or a CID. `source` says where the files are.

    `notes` is what may surprise people, although it is not a mistake.
    """

    name: str
    version: Version | None
    source: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether a version with these files would not be published."""
        return any(found.refuses for found in self.findings)


def lint_path(path: Path, *, hidden: bool) -> Linted:
    """Examine a directory or a file by itself, without the index. Raises BundleError."""
    bundle = bare_bundle(path, include_hidden=hidden)
    return Linted(str(path), None, str(path), listing_findings(bundle.listing), bundle.notes)


def lint_reference(
    layout: RepositoryLayout, ref: str, environ: Mapping[str, str], progress: Progress
) -> Linted:
    """Examine the version `ref` from its path, else from the targets, where it is read block by block.

    A version that is not published yet is examined in its source. Raises SourceError, UsageError when `ref`
    names nothing, BundleError or BlockUnavailableError when its files are neither here nor on a target.
    """
    layout.make_state()
    with load(Scope(layout), environ, progress) as workspace:
        wanted = parse_ref(ref, with_path=True)
        version = _version(workspace.index, wanted)
        if version is not None and not wanted.path and workspace.sources.present([version]):
            found = workspace.sources.examine(version)
            notes = workspace.sources.notes(version)
            return Linted(version.ref, version, str(version.path), found, notes)
        remote = workspace.sources.remote
        if version is not None and version.source is not None and version.cid is None and remote is not None:
            listing = remote.open(version, version.inputs).listing
            notes = describe_bundle(listing, version.inputs.release)
            return Linted(
                version.ref, version, str(version.source), listing_findings(listing, version), notes
            )
    if version is not None and version.cid is None:
        raise BundleError(
            f"{version.origin} is not on this machine",
            hint="run where the weights are, or give --source-root",
            where=version.where,
        )
    with open_version(layout, ref, environ, progress, use_cache=True) as opened:
        found = dag_findings(opened.dag, opened.version)
        paths = [file.path for file in dag_subject(opened.dag).files]
        notes = collision_notes(bounds.collisions(paths))
        return Linted(opened.name, opened.version, opened.source, found, notes)


def _version(index: Index, ref: Ref) -> Version | None:
    """Return the version that `ref` means; one that is named exactly need not have a CID."""
    if isinstance(ref.selector, Exact) and (model := index.models.get(ref.model)) is not None:
        named = model.versions.get(ref.selector.version)
        if named is not None:
            return named
    return resolve(index, ref).version
