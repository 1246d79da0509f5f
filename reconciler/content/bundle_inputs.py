"""What a bundle is made from besides the bytes of its directory: names in the manifest, and a selection."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.content.manifest import ReleaseInfo
from reconciler.content.patterns import ALL_FILES, FilePatterns


@dataclass(frozen=True, slots=True)
class BundleInputs:
    """The release that a generated manifest names, and the rules that select files.

    With the same files below the same path, the same inputs give the same bundle.
    """

    release: ReleaseInfo
    include_hidden: bool = False
    patterns: FilePatterns = ALL_FILES
