"""The changes that the comparison makes in more than one place, filled in from the version they are about."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.content.cid import Cid
from reconciler.index.model import Version
from reconciler.loop.changes import Blocked, Publish


def publish(
    version: Version,
    target: str,
    root: Cid,
    reason: str,
    *,
    label: str,
    sources: Iterable[str],
    size: int | None,
) -> Publish:
    """The whole bundle goes to `target`; `size` is bytes of its CAR, None when only a donor knows."""
    return Publish(
        model=version.model,
        version=version.version,
        target=target,
        root=root,
        reason=reason,
        drift=version.cid is not None,
        label=label,
        sources=tuple(sources),
        size=size,
    )


def blocked(
    version: Version,
    reason: str,
    hint: str = "",
    *,
    target: str | None = None,
    root: Cid | None = None,
    unknown: bool = False,
) -> Blocked:
    """Nothing can be done. What could not be looked at (`unknown`) is not called drift."""
    return Blocked(
        model=version.model,
        version=version.version,
        target=target,
        root=root,
        reason=reason,
        hint=hint,
        unknown=unknown,
        drift=version.cid is not None and not unknown,
    )
