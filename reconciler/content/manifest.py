"""`manifest.json`: what a bundle says of itself, written and checked.

Ours is written in one way only (keys and files sorted, two blanks of indent, UTF-8, one final newline), so
that the same version always has the same bytes. One made by hand is accepted when it is right: it may leave
out the version, and need not list `SHA256SUMS` or itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import checksums, scan
from reconciler.errors import BundleError, Where

NAME = "manifest.json"
MAX_SIZE = 64 << 20  #: bytes of a manifest.json that is read at all


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """What the index says of the version being bundled; `created_at` is RFC 3339 text or None."""

    model: str
    version: str
    format: str | None = None
    created_at: str | None = None


def render(release: ReleaseInfo, files: Iterable[str]) -> bytes:
    """The manifest of `release` over the paths `files`; what the index leaves out is left out."""
    fields: dict[str, object] = {
        "model": release.model,
        "version": release.version,
        "format": release.format,
        "created_at": release.created_at,
        "files": sorted(files, key=str.encode),
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return (json.dumps(known, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def check(data: bytes, release: ReleaseInfo, files: Iterable[str]) -> None:
    """Hold a manifest made by hand to `release` and to the paths `files` of the whole bundle.

    Raises BundleError that says what is wrong.
    """
    where = Where(NAME)
    fields = _load(data, where)
    if (model := fields.get("model")) != release.model:
        said = "names no model" if model is None else f"is of model {model!r}"
        raise BundleError(f"{said}, expected {release.model!r}", where=where)
    if (version := fields.get("version", release.version)) != release.version:
        raise BundleError(f"is of version {version!r}, expected {release.version!r}", where=where)
    listed = fields.get("files")
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise BundleError("'files' must be a list of paths", where=where)
    present = set(files)
    for path in listed:
        if path not in present:
            raise BundleError(
                f"lists {path!r}, which is not there", hint=scan.advice_when_missing(path), where=where
            )
    if unlisted := sorted(present - set(listed) - {NAME, checksums.NAME}, key=str.encode):
        raise BundleError(
            f"does not list {unlisted[0]!r}{_more(unlisted)}",
            hint="add it to 'files', or delete manifest.json to have it generated",
            where=where,
        )


def _load(data: bytes, where: Where) -> dict[str, object]:
    try:
        fields = json.loads(data.decode(), object_pairs_hook=_no_duplicates)
    except UnicodeDecodeError:
        raise BundleError("is not UTF-8", where=where) from None
    except json.JSONDecodeError as error:
        raise BundleError(f"is not JSON: {error.msg}", where=Where(NAME, error.lineno)) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"is not JSON: {reason}", where=where) from None
    if not isinstance(fields, dict):
        raise BundleError("is not a JSON object", where=where)
    return fields


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice")
    return fields


def _more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""
