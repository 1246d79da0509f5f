"""What a bundle is made from besides the bytes of its directory: names in the manifest, and a selection."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.content.manifest import ReleaseInfo
from reconciler.content.patterns import ALL_FILES, FilePatterns
from reconciler.content.sealing.seal_key import SealInputs


@dataclass(frozen=True, slots=True)
class BundleInputs:
    """The release that a generated manifest names, the rules that select files, and how it was sealed, if so.

    With the same files below the same path, the same inputs give the same bundle.
    """

    release: ReleaseInfo
    include_hidden: bool = False
    patterns: FilePatterns = ALL_FILES
    sealing: SealInputs | None = None
