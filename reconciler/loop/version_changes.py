"""The changes that the comparison makes in more than one place, filled in from the version they are about."""

from __future__ import annotations

from reconciler.content.cid import Cid
from reconciler.index.model import Version
from reconciler.loop.changes import Blocked, Publish, Wait


def publish(
    version: Version,
    target: str,
    root: Cid,
    reason: str,
    *,
    label: str,
    sources: tuple[str, ...],
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
        sources=sources,
        size=size,
    )


def wait(version: Version, target: str, root: Cid, reason: str) -> Wait:
    """Something is on its way to `target`."""
    return Wait(model=version.model, version=version.version, target=target, root=root, reason=reason)


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
