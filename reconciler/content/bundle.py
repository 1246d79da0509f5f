"""A bundle: the files of one version plus `SHA256SUMS` and `manifest.json`, or a path exactly as it is.

If the directory has one of the two files, that file is checked and kept byte for byte. If not, it is
generated in memory: the source tree is never written to. The manifest depends on names only. The sums require
the digests of all files, so a bundle is made before the single pass over the bytes and completed after it.
Errors that can be found without reading the weights are raised before that pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import bounds, checksums, manifest, source_file
from reconciler.content.checksums import Checksum
from reconciler.content.manifest import ReleaseInfo
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
    `sums` is None when it will be generated. Both are None in a bare bundle. `generated` names those that the
    directory does not have. With `single_file` the root is the only file of the listing, not a directory.
    """

    listing: SourceListing
    manifest: bytes | None = None
    sums: bytes | None = None
    generated: tuple[str, ...] = ()
    single_file: bool = False

    @property
    def bare(self) -> bool:
        """Whether the path is packed exactly as it is, without sums and manifest."""
        return self.manifest is None

    def complete(self, digests: Mapping[str, bytes]) -> tuple[MemoryFile, ...]:
        """Return the generated files, given the sha256 of every file of the listing by path.

        Raises BundleError when a sum in the directory's own SHA256SUMS is wrong, SourceChangedError when one
        of the two special files changed after it was checked.
        """
        if self.manifest is None:
            return ()
        complete = {**digests, manifest.NAME: hashlib.sha256(self.manifest).digest()}
        self._check_unchanged(digests, manifest.NAME, complete[manifest.NAME])
        if self.sums is None:
            sums = checksums.render(complete.items())
        else:
            sums = self.sums
            self._check_unchanged(digests, checksums.NAME, hashlib.sha256(sums).digest())
            check_digests(checksums.parse(sums), complete)
        made = (MemoryFile(checksums.NAME, sums), MemoryFile(manifest.NAME, self.manifest))
        return tuple(file for file in made if file.path in self.generated)

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

    `format` and `created_at` are as in the index. Raises BundleError when there is nothing to pack, or when
    the directory's own manifest.json or SHA256SUMS does not match the model, the version or the files. The
    sums themselves are compared by `Bundle.complete`.
    """
    top = {file.path: file for file in listing.files if "/" not in file.path}
    _check_special_names(listing)
    if not {file.path for file in listing.files} - {manifest.NAME, checksums.NAME}:
        left = [f"{len(listing.hidden)} hidden entries"] if listing.hidden else []
        left += [f"{len(listing.excluded)} entries by patterns"] if listing.excluded else []
        without = f" ({' and '.join(left)} are left out)" if left else ""
        raise BundleError(f"no files to pack in {str(listing.root)!r}{without}")
    release = ReleaseInfo(model, version, format, created_at)
    paths = {file.path for file in listing.files} | {manifest.NAME, checksums.NAME}
    if own := top.get(manifest.NAME):
        manifest_data = source_file.read_small(listing, own, manifest.MAX_SIZE)
        manifest.check(manifest_data, release, paths, listing)
    else:
        manifest_data = manifest.render(release, paths - {manifest.NAME})
    sums = _own_sums(listing, top.get(checksums.NAME), paths)
    generated = tuple(name for name in (checksums.NAME, manifest.NAME) if name not in top)
    return Bundle(listing, manifest_data, sums, generated)


def bare_bundle(path: Path, *, include_hidden: bool = False) -> Bundle:
    """Return the directory or the single file at `path` exactly as it is. Raises BundleError."""
    if path.is_dir() and not path.is_symlink():
        return Bundle(scan(path, include_hidden=include_hidden))
    return Bundle(scan_file(path), single_file=True)


def _check_special_names(listing: SourceListing) -> None:
    special = {bounds.collision_key(name): name for name in (manifest.NAME, checksums.NAME)}
    for directory in listing.directories:
        if directory in special.values():
            raise BundleError(f"{directory!r} is a directory; the bundle needs a file of that name")
    for path in (*listing.directories, *(file.path for file in listing.files)):
        name = special.get(bounds.collision_key(path), path)
        if name != path:
            raise BundleError(
                f"{path!r} collides with {name!r} on file systems that ignore case",
                hint=f"rename it to {name!r}",
            )


def _own_sums(listing: SourceListing, own: SourceFile | None, paths: set[str]) -> bytes | None:
    """Read the directory's own SHA256SUMS and check that it lists exactly the files that exist."""
    if own is None:
        return None
    data = source_file.read_small(listing, own, checksums.MAX_SIZE)
    check_listed(data, paths, listing)
    return data


def check_listed(data: bytes, paths: set[str], listing: SourceListing | None = None) -> tuple[Checksum, ...]:
    """Parse a SHA256SUMS that must list exactly the bundle's `paths`; manifest.json may be missing.

    `listing` is that of the directory, None for a CAR. Raises BundleError with the line.
    """
    listed = checksums.parse(data)
    for checksum in listed:
        where = Where(checksums.NAME, checksum.line)
        if checksum.path == checksums.NAME:
            raise BundleError("lists itself", hint="delete that line", where=where)
        if checksum.path not in paths:
            hint = missing_file_hint(checksum.path, listing)
            raise BundleError(f"{checksum.path!r} is missing", hint=hint, where=where)
    unlisted = paths - {checksum.path for checksum in listed} - {manifest.NAME, checksums.NAME}
    if unlisted:
        first = min(unlisted, key=str.encode)
        more = f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""
        raise BundleError(
            f"has no sum for {first!r}{more}",
            hint="add it with `sha256sum`, or delete SHA256SUMS to have it generated",
            where=Where(checksums.NAME),
        )
    return listed


def check_digests(listed: tuple[Checksum, ...], digests: Mapping[str, bytes]) -> None:
    """Raise BundleError when a listed sum differs from that of the file; `digests` is by path."""
    wrong = [checksum for checksum in listed if digests[checksum.path] != checksum.digest]
    if wrong:
        first = wrong[0]
        more = f"; {len(wrong) - 1} more sums are wrong" if len(wrong) > 1 else ""
        actual = digests[first.path].hex()
        raise BundleError(
            f"wrong sum for {first.path!r}: expected {first.digest.hex()}, actual {actual}{more}",
            hint="restore the file, or regenerate SHA256SUMS if the file is correct",
            where=Where(checksums.NAME, first.line),
        )
