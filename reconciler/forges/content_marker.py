"""The hidden line in a pull request that says which index it belongs to and what it proposes.

From a pull request that a person closed, later runs learn from this line that its content was declined. We
mark our own closing in it, since that declines nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.forges.interface import BODY_LIMIT

_MARKER = re.compile(r"<!-- reconciler:proposal ([0-9a-f]{12})((?: [0-9a-z]+)*) -->")
_CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ContentMarker:
    """The index (a digest of its path) and digests of what is proposed. `closed`: we closed it ourselves."""

    index: str
    items: frozenset[str]

    @property
    def closed(self) -> bool:
        """Whether we closed the pull request."""
        return _CLOSED in self.items

    def covers(self, index_path: str, items: Iterable[str]) -> bool:
        """Return whether all of `items`, proposed for this index, are in the pull request."""
        wanted = {_digest(item) for item in items}
        return self.index == _index(index_path) and (wanted <= self.items or _whole(wanted) in self.items)


def add_marker(body: str, index_path: str, items: Iterable[str]) -> str:
    """Return `body` with the marker of a proposal at its end."""
    digests = {_digest(item) for item in items}
    text = " ".join(sorted(digests))
    if len(body) + len(text) + 100 > BODY_LIMIT:  # then only exactly this content counts as declined
        text = _whole(digests)
    return f"{body.rstrip()}\n\n<!-- reconciler:proposal {_index(index_path)} {text} -->\n"


def mark_closed(body: str) -> str:
    """Return `body` with a marker that says that we closed the pull request."""
    return _MARKER.sub(lambda found: f"<!-- reconciler:proposal {found[1]} {_CLOSED} -->", body)


def read_marker(body: str) -> ContentMarker | None:
    """Return the last marker in `body`, or None."""
    found = list(_MARKER.finditer(body))
    return ContentMarker(found[-1][1], frozenset(found[-1][2].split())) if found else None


def belongs_to(marker: ContentMarker | None, index_path: str) -> bool:
    """Return whether the pull request with `marker` is one of the index at `index_path`."""
    return marker is not None and marker.index == _index(index_path)


def _index(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:12]


def _digest(item: str) -> str:
    return hashlib.sha256(item.encode()).hexdigest()[:8]


def _whole(digests: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()
