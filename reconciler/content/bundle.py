"""A bundle: the files of one version plus `SHA256SUMS` and `manifest.json`, or a path exactly as it is.

If the directory has one of the two files, that file is checked and kept byte for byte. If not, it is
generated in memory: the source tree is never written to. A `manifest.json` of another program is content,
and then no manifest is generated. The manifest depends on names only. The sums require
the digests of all files, so a bundle is made before the single pass over the bytes and completed after it.
Errors that can be found without reading the weights are raised before that pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import bounds, checksums, manifest, source_file
from reconciler.content.checksums import ChecksumList
from reconciler.content.manifest import Manifest, ReleaseInfo
from reconciler.content.scan import SourceFile, SourceListing, missing_file_hint, scan, scan_file
from reconciler.errors import BundleError, SourceChangedError, Where


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A file at the top of the bundle whose bytes are in memory, not in the source directory."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files to pack: a listing, and the two special files.

    `manifest` and `sums` are their bytes, as found in the directory or, for the manifest, as generated;
    `sums` is None when there are none yet. `manifest` is None in a bundle without a manifest of ours.
    `generated` names those that the directory does not have and the bundle gets. A `bare` bundle has neither:
    the path is packed exactly as it is. With `single_file` the root is the only file of the listing, not a
    directory. `notes` tell people what may surprise them.
    """

    listing: SourceListing
    manifest: bytes | None = None
    sums: bytes | None = None
    generated: tuple[str, ...] = ()
    bare: bool = False
    single_file: bool = False
    notes: tuple[str, ...] = ()

    def complete(self, digests: Mapping[str, bytes]) -> tuple[MemoryFile, ...]:
        """Return the generated files, given the sha256 of every file of the listing by path.

        Raises BundleError when a sum in the directory's own SHA256SUMS is wrong, SourceChangedError when one
        of the two special files changed after it was checked.
        """
        made = {manifest.NAME: self.manifest or b"", checksums.NAME: self.all_sums(digests) or b""}
        return tuple(MemoryFile(name, made[name]) for name in self.generated)

    def all_sums(self, digests: Mapping[str, bytes]) -> bytes | None:
        """Return the bytes of SHA256SUMS, or of the one that the bundle would have; None in a bare bundle.

        `digests` and errors are as for `complete`.
        """
        if self.bare:
            return None
        complete = dict(digests)
        if self.manifest is not None:
            complete[manifest.NAME] = hashlib.sha256(self.manifest).digest()
            self._check_unchanged(digests, manifest.NAME, complete[manifest.NAME])
        if self.sums is None:
            return checksums.render(complete.items())
        self._check_unchanged(digests, checksums.NAME, hashlib.sha256(self.sums).digest())
        check_digests(checksums.parse(self.sums), complete)
        return self.sums

    def _check_unchanged(self, digests: Mapping[str, bytes], name: str, digest: bytes) -> None:
        if name not in self.generated and digests[name] != digest:
            raise SourceChangedError(f"{name!r} changed after it was checked")


def make_bundle(
    listing: SourceListing,
    *,
    model: str,
    version: str,
    format: str | None = None,  # noqa: A002 - as in the index
    created_at: str | None = None,
) -> Bundle:
    """Make the bundle of `model` at `version` from a scanned directory.

    `format` and `created_at` are as in the index. A manifest.json of another program is content, and so is
    anything whose name differs from that of a special file only in case; then that file is not generated.
    Raises BundleError when there is nothing to pack, or when the directory's own manifest.json or SHA256SUMS
    does not match the model, the version or the files. The sums themselves are compared by `Bundle.complete`.
    """
    top = {file.path: file for file in listing.files if "/" not in file.path}
    release = ReleaseInfo(model, version, format, created_at)
    data, own = _own_manifest(listing, top.get(manifest.NAME))
    has_sums = checksums.NAME in top
    ours = {name for name, found in ((manifest.NAME, own), (checksums.NAME, has_sums)) if found}
    if not {file.path for file in listing.files} - ours:
        left = [f"{len(listing.hidden)} hidden entries"] if listing.hidden else []
        left += [f"{len(listing.excluded)} entries by patterns"] if listing.excluded else []
        without = f" ({' and '.join(left)} are left out)" if left else ""
        raise BundleError(f"no files to pack in {str(listing.root)!r}{without}")
    taken = {name: _taken_by(listing, name) for name in (checksums.NAME, manifest.NAME) if name not in ours}
    generated = tuple(name for name, path in taken.items() if path is None)
    paths = {file.path for file in listing.files} | set(generated)
    if own is not None:
        manifest.check_release(own, release)
        manifest.check_files(own, paths | {manifest.NAME}, listing)
    elif manifest.NAME in generated:
        data = manifest.render(release, paths - {manifest.NAME})
    sums = _own_sums(listing, top[checksums.NAME], paths, data is not None) if has_sums else None
    notes = tuple(f"{path!r} is content, so no {name} is generated" for name, path in taken.items() if path)
    return Bundle(listing, data, sums, generated, notes=(*notes, *collision_notes(listing.collisions)))


def bare_bundle(path: Path, *, include_hidden: bool = False) -> Bundle:
    """Return the directory or the single file at `path` exactly as it is. Raises BundleError."""
    if path.is_dir() and not path.is_symlink():
        listing = scan(path, include_hidden=include_hidden)
        return Bundle(listing, bare=True, notes=collision_notes(listing.collisions))
    return Bundle(scan_file(path), bare=True, single_file=True)


def describe_bundle(listing: SourceListing, release: ReleaseInfo) -> tuple[str, ...]:
    """Return the notes of the bundle of `release` from a scanned directory, and why there is none, if so."""
    try:
        return make_bundle(
            listing,
            model=release.model,
            version=release.version,
            format=release.format,
            created_at=release.created_at,
        ).notes
    except BundleError as error:
        return (f"the files are not a bundle: {error.message}", *collision_notes(listing.collisions))


def collision_notes(collisions: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a note for each group of paths that some file systems take for one."""
    return tuple(
        f"{' and '.join(map(repr, group))} are one name on file systems that ignore case or Unicode form, "
        "where the version cannot be fetched whole"
        for group in collisions
    )


def _own_manifest(listing: SourceListing, file: SourceFile | None) -> tuple[bytes | None, Manifest | None]:
    """Read the directory's manifest.json; return two None when it has none, or one that is not ours."""
    if file is None or file.stamp.size > manifest.MAX_SIZE:
        return None, None
    data = source_file.read_small(listing, file, manifest.MAX_SIZE)
    found = manifest.parse(data)
    return (data, found) if found else (None, None)


def _taken_by(listing: SourceListing, name: str) -> str | None:
    """Return the entry at the top that leaves no room for a file `name`: on some disks both are one."""
    key = bounds.collision_key(name)
    entries = (*listing.directories, *(file.path for file in listing.files))
    return next((path for path in entries if "/" not in path and bounds.collision_key(path) == key), None)


def _own_sums(listing: SourceListing, own: SourceFile, paths: set[str], has_manifest: bool) -> bytes:
    """Read the directory's own SHA256SUMS and check that it lists exactly the files that exist."""
    data = source_file.read_small(listing, own, checksums.MAX_SIZE)
    check_listed(checksums.parse(data), paths, listing, has_manifest=has_manifest)
    return data


def check_listed(
    listed: ChecksumList, paths: set[str], listing: SourceListing | None = None, *, has_manifest: bool
) -> None:
    """Check that a SHA256SUMS lists exactly the bundle's `paths`, of which a manifest of ours may be missing.

    `listing` is that of the directory, None for a CAR. Raises BundleError with the line.
    """
    matched = listed.matched(paths)
    for checksum in matched.entries:
        where = Where(checksums.NAME, checksum.line)
        if checksum.path == checksums.NAME:
            raise BundleError("lists itself", hint="delete that line", where=where)
        if checksum.path not in paths:
            hint = missing_file_hint(checksum.path, listing)
            raise BundleError(f"{checksum.path!r} is missing", hint=hint, where=where)
    without = {manifest.NAME, checksums.NAME} if has_manifest else {checksums.NAME}
    unlisted = paths - {checksum.path for checksum in matched.entries} - without
    if unlisted:
        first = min(unlisted, key=str.encode)
        more = f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""
        hint = "add it with `sha256sum`, or delete SHA256SUMS to have it generated"
        if listed.malformed:
            hint += f"; line {listed.malformed[0]} is malformed and was skipped"
        raise BundleError(f"has no sum for {first!r}{more}", hint=hint, where=Where(checksums.NAME))


def check_digests(listed: ChecksumList, digests: Mapping[str, bytes]) -> None:
    """Raise BundleError when a listed sum differs from that of the file; `digests` is by path."""
    wrong = [each for each in listed.matched(digests).entries if digests[each.path] != each.digest]
    if wrong:
        first = wrong[0]
        more = f"; {len(wrong) - 1} more sums are wrong" if len(wrong) > 1 else ""
        actual = digests[first.path].hex()
        raise BundleError(
            f"wrong sum for {first.path!r}: expected {first.digest.hex()}, actual {actual}{more}",
            hint="restore the file, or regenerate SHA256SUMS if the file is correct",
            where=Where(checksums.NAME, first.line),
        )
