"""`manifest.json`: the description of a bundle, generated and checked.

A generated manifest has one form only (keys and files sorted, two spaces of indent, UTF-8, one final
newline), so the same version always has the same bytes. A manifest written by hand is accepted when it is
correct: it may leave out the version, and need not list `SHA256SUMS` or itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import checksums, scan
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


def check(
    data: bytes, release: ReleaseInfo, files: Iterable[str], listing: scan.SourceListing | None = None
) -> None:
    """Check a manifest written by hand against `release` and the paths `files` of the whole bundle.

    `listing` is that of the directory, None for a CAR. Raises BundleError.
    """
    where = Where(NAME)
    fields = _load(data, where)
    if (model := fields.get("model")) != release.model:
        reason = "has no model" if model is None else f"has model {model!r}"
        raise BundleError(f"{reason}, expected {release.model!r}", where=where)
    if (version := fields.get("version", release.version)) != release.version:
        raise BundleError(f"has version {version!r}, expected {release.version!r}", where=where)
    listed = fields.get("files")
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise BundleError("'files' must be a list of paths", where=where)
    present = set(files)
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


def _load(data: bytes, where: Where) -> dict[str, object]:
    try:
        fields = load_json(data.decode())
    except UnicodeDecodeError:
        raise BundleError("is not UTF-8", where=where) from None
    except json.JSONDecodeError as error:
        raise BundleError(f"is not JSON: {error.msg}", where=Where(NAME, error.lineno)) from None
    except ValueError as error:
        raise BundleError(f"is not JSON: {error}", where=where) from None
    if not isinstance(fields, dict):
        raise BundleError("is not a JSON object", where=where)
    return fields


def _more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""
