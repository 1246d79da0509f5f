"""Signing of released versions: what is signed, from facts that are known already. No weights are read.

The digests of the files are in the SHA256SUMS of the bundle. It comes from the pass that identified the
version in this run, from the version's own directory, or from a target, as one small file; the record's
dirhash or the root CID prove it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.content import checksums
from reconciler.content.cid import RAW
from reconciler.content.directory_dag import BundleIdentity
from reconciler.errors import DataError, UsageError
from reconciler.fs import replace_file
from reconciler.git.repository import head_without_git
from reconciler.index.model import Record, Version
from reconciler.index.records import load_record, records_directory

if TYPE_CHECKING:
    from reconciler.loop.workspace import Workspace
    from reconciler.trust.files import VersionSignatures
    from reconciler.trust.provenance import ReleaseOrigin
    from reconciler.trust.signing import StatementSigner
    from reconciler.trust.statement import Release


@dataclass(frozen=True, slots=True)
class ReleaseMaterial:
    """What the signatures of a version are made from; `digests` are SHA-256 in hex, by path."""

    release: Release
    digests: Mapping[str, str]
    origin: ReleaseOrigin


@dataclass(frozen=True, slots=True)
class SignedRelease:
    """A signed version: its files by their path beside the index, empty when `signer` had signed it before.

    `uncovered` are the files that the signature for other tools leaves out.
    """

    version: Version
    release: Release
    signer: str
    files: Mapping[PurePosixPath, bytes]
    uncovered: tuple[str, ...] = ()


def sign_versions(
    workspace: Workspace, versions: Iterable[Version], signer: StatementSigner, environ: Mapping[str, str]
) -> Iterator[SignedRelease]:
    """Sign each version, and write its signatures beside the index.

    Raises UsageError for a version without a CID, or whose SHA256SUMS nothing here has; what the signer
    raises, OSError and LockedError.
    """
    from reconciler.trust.files import read_signatures

    releases = workspace.layout.index_file.parent
    for version in versions:
        material = published_material(workspace, version)
        existing = read_signatures(releases, version.model, version.version)
        signed = sign_material(version, material, signer, environ, existing)
        write_signatures(releases, signed)
        yield signed


def write_signatures(releases: Path, signed: SignedRelease) -> None:
    """Write signatures to the directory of the index. Raises TrustError, OSError and LockedError."""
    from reconciler.trust.files import check_writable

    for path, data in signed.files.items():
        file = check_writable(releases, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, data, mode=0o644)


def sign_material(
    version: Version,
    material: ReleaseMaterial,
    signer: StatementSigner,
    environ: Mapping[str, str],
    existing: VersionSignatures,
) -> SignedRelease:
    """Make the release statement, the one for other tools, and the provenance of a version.

    Makes none when one of the `existing` bundles is the same statement by the same signer.
    """
    from reconciler.trust import files as names
    from reconciler.trust import oms
    from reconciler.trust.dsse import parse_bundle
    from reconciler.trust.provenance import render_provenance_statement
    from reconciler.trust.statement import render_release

    release = material.release
    statement = render_release(release)
    uncovered = tuple(oms.left_out(material.digests))
    for found in existing.release:
        try:
            bundle = parse_bundle(found.data)
        except DataError:
            continue
        if bundle.payload == statement and (name := signer.made(bundle)):
            return SignedRelease(version, release, name, {}, uncovered)
    signed = signer.sign(statement)
    model = signer.sign(oms.render_model(release.model, material.digests))
    provenance = signer.sign(render_provenance_statement(release, material.origin, environ))
    made = {
        names.RELEASE_FILE: signed,
        names.OMS_FILE: model,
        names.PROVENANCE_FILE: provenance,
    }
    files = {
        names.signature_path(release.model, release.version, signed.folder, name): each.bundle
        for name, each in made.items()
    }
    return SignedRelease(version, release, signed.signer, files, uncovered)


def published_material(workspace: Workspace, version: Version) -> ReleaseMaterial:
    """Return what the signatures of a version with a CID are made from. Raises UsageError, DataError."""
    from reconciler.trust.statement import Release

    if version.cid is None:
        raise UsageError(
            f"{version.ref} has no CID yet, so there is nothing to sign",
            hint="publish it first: run reconcile",
            where=version.where,
        )
    record = load_record(records_directory(workspace.index.file), version.model, version.version)
    sums = _sums(workspace, version, record)
    dirhash = hashlib.sha256(sums).hexdigest()
    digests = {entry.path: entry.digest.hex() for entry in checksums.parse(sums).entries}
    digests[checksums.NAME] = dirhash
    if record is not None and record.contents is not None:
        listed = {file.path: file for file in record.contents.files}
        digests = {path: digest for path, digest in digests.items() if path in listed}
        for path in listed.keys() - digests.keys():
            if listed[path].cid.codec != RAW:
                raise DataError(f"{checksums.NAME} of {version.ref} lacks {path!r}, so it cannot be signed")
            digests[path] = listed[path].cid.digest.hex()
    release = Release(
        workspace.index.id,
        version.model,
        version.version,
        version.cid,
        dirhash,
        None if record is None else record.size,
    )
    return ReleaseMaterial(release, digests, _origin(workspace, record))


def identified_material(
    workspace: Workspace, version: Version, identity: BundleIdentity, record: Record | None
) -> ReleaseMaterial:
    """Return what the signatures of a version are made from that was identified in this run."""
    from reconciler.trust.statement import Release

    digests = {file.path: file.sha256 for file in identity.files if file.sha256 is not None}
    release = Release(
        workspace.index.id,
        version.model,
        version.version,
        identity.root,
        identity.dirhash,
        identity.size,
    )
    return ReleaseMaterial(release, digests, _origin(workspace, record))


def _origin(workspace: Workspace, record: Record | None) -> ReleaseOrigin:
    from reconciler.trust.provenance import ReleaseOrigin

    commit = head_without_git(workspace.layout.index_file.parent.resolve()) or ""
    known = None if record is None else record.provenance
    if known is None:
        return ReleaseOrigin(commit=commit)
    return ReleaseOrigin(known.source, known.kind, known.revision, commit)


def _sums(workspace: Workspace, version: Version, record: Record | None) -> bytes:
    """Return the SHA256SUMS of a published version, proven by its record or its root."""
    if record is not None and version.path is not None:
        try:
            with (workspace.layout.source_root / version.path / checksums.NAME).open("rb") as file:
                data = file.read(checksums.MAX_SIZE)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() == record.dirhash:
            return data
    found = workspace.published.file(version, checksums.NAME, checksums.MAX_SIZE)
    if found is None or (record is not None and hashlib.sha256(found).hexdigest() != record.dirhash):
        raise UsageError(
            f"no target has {checksums.NAME} of {version.ref}, which is signed",
            hint="run `reconcile status` to see where the version is; publish it, then sign it",
        )
    return found
