"""Findings about the sources of versions: what changed upstream after a version was published."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class UpstreamCode(StrEnum):
    """The kind of a finding; JSON documents use these names."""

    NEWER = "newer-commit"
    COMMIT_GONE = "commit-gone"
    RENAMED = "renamed"
    GONE = "gone"
    GATED = "gated"
    REFUSED = "refused"
    DISABLED = "disabled"
    LICENSE = "license-changed"
    WITHDRAWN = "file-withdrawn"
    CHANGED = "content-changed"
    UNKNOWN = "unknown"

    @property
    def is_new_version(self) -> bool:
        """Whether nothing is wrong with the source: there is only something newer."""
        return self is UpstreamCode.NEWER


@dataclass(frozen=True, slots=True)
class UpstreamFinding:
    """One finding about the source of a version; `message` is a clause whose subject is the source."""

    model: str
    version: str
    source: str
    code: UpstreamCode
    message: str
    hint: str = ""

    @property
    def ref(self) -> str:
        """`model@version`."""
        return f"{self.model}@{self.version}"

    @property
    def text(self) -> str:
        """The finding as one line."""
        return f"{self.ref}: {self.source} {self.message}"


def upstream_document(found: UpstreamFinding) -> dict[str, Any]:
    """Return the finding as an object of a JSON document."""
    return {
        "model": found.model,
        "version": found.version,
        "source": found.source,
        "code": found.code.value,
        "message": found.message,
        "hint": found.hint,
    }
