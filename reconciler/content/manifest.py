"""`manifest.json`: the description of a bundle, generated and checked.

A generated manifest has one form only (keys and files sorted, two spaces of indent, UTF-8, one final
newline), so the same version always has the same bytes. A manifest written by hand is accepted when it is
correct: it may leave out the version, and need not list `SHA256SUMS` or itself.

Many programs write a `manifest.json` of another kind (web apps, browser extensions, OCI images, packages). A
file is a manifest of ours only when it is a JSON object with a text `model` and a list of paths `files`; any
other is content like the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import checksums, scan
from reconciler.content.bounds import NameForms
from reconciler.errors import BundleError, Where
from reconciler.json_fields import load_json

NAME = "manifest.json"
MAX_SIZE = 64 << 20  #: bytes of the largest manifest.json that is read


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """The version being bundled, as in the index; `created_at` is RFC 3339 text or None."""

    model: str
    version: str
    format: str | None = None
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest of ours, as found; `version` is None when it has none."""

    model: str
    version: object
    files: tuple[str, ...]


def render(release: ReleaseInfo, files: Iterable[str]) -> bytes:
    """Return the manifest of `release` over the paths `files`, without unset fields."""
    fields: dict[str, object] = {
        "model": release.model,
        "version": release.version,
        "format": release.format,
        "created_at": release.created_at,
        "files": sorted(files, key=str.encode),
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return (json.dumps(known, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse(data: bytes) -> Manifest | None:
    """Return the manifest in `data`, or None when it is not one of ours."""
    try:
        fields = load_json(data.decode("utf-8-sig"))
    except ValueError:  # not UTF-8, not JSON, a repeated key, nested too deep
        return None
    if not isinstance(fields, dict):
        return None
    model, files = fields.get("model"), fields.get("files")
    if not isinstance(model, str) or not isinstance(files, list):
        return None
    if not all(isinstance(path, str) for path in files):
        return None
    return Manifest(model, fields.get("version"), tuple(files))


def is_of(found: Manifest, release: ReleaseInfo) -> bool:
    """Return whether `found` is the manifest of this model and version."""
    return found.model == release.model and found.version in (None, release.version)


def check_release(found: Manifest, release: ReleaseInfo) -> None:
    """Raise BundleError when `found` is the manifest of another model or version."""
    hint = "correct it, or delete it to have it generated"
    if found.model != release.model:
        raise BundleError(
            f"has model {found.model!r}, expected {release.model!r}", hint=hint, where=Where(NAME)
        )
    if found.version not in (None, release.version):
        raise BundleError(
            f"has version {found.version!r}, expected {release.version!r}", hint=hint, where=Where(NAME)
        )


def check_files(found: Manifest, files: Iterable[str], listing: scan.SourceListing | None = None) -> None:
    """Raise BundleError unless `found` lists the paths `files` of the whole bundle.

    `listing` is that of the directory, None for a CAR.
    """
    where = Where(NAME)
    present = set(files)
    known = NameForms(present)
    listed = [known.find(path) for path in found.files]
    for path in listed:
        if path not in present:
            raise BundleError(
                f"lists {path!r}, which does not exist",
                hint=scan.missing_file_hint(path, listing),
                where=where,
            )
    if unlisted := sorted(present - set(listed) - {NAME, checksums.NAME}, key=str.encode):
        raise BundleError(
            f"does not list {unlisted[0]!r}{_more(unlisted)}",
            hint="add it to 'files', or delete manifest.json to have it generated",
            where=where,
        )


def _more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""
