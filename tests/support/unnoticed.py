"""Writes that no stamp shows, as through a memory map, on any file system."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.content import identity_cache
from reconciler.content.identity_cache import IdentityCache
from reconciler.content.scan import SourceFile, SourceListing, scan

#: enough bytes for an entry in the identity cache
SIZE = identity_cache.MIN_SIZE


def cache_everything(patch: pytest.MonkeyPatch) -> None:
    """Make the identity cache store files that were written just now."""
    patch.setattr(identity_cache, "RACY_NS", -(10**18))


def write_unnoticed(cache: Path, path: Path, data: bytes) -> None:
    """Write `data` to `path`, and leave its entry in `cache` as valid as it was.

    The writer changes the stamp, and the entry then follows it: as if the stamp had not moved.
    """
    entries = IdentityCache(cache)
    known = entries.get(*_look(path), with_sum=False)
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    if known is not None:
        entries.put(*_look(path), known)


def _look(path: Path) -> tuple[SourceListing, SourceFile]:
    listing = scan(path.parent, include_hidden=True)
    listing = replace(listing, scanned_at_ns=listing.scanned_at_ns + 10 * 2_000_000_000)
    return listing, next(file for file in listing.files if file.path == path.name)
