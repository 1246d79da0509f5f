"""The pull requests of a run, as the environment configures them (docs/forges.md)."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import UsageError
from reconciler.loop.propose import PullRequests
from reconciler.loop.settings import ProposeMode


def pull_requests(mode: ProposeMode, environ: Mapping[str, str]) -> PullRequests | None:
    """Return the forge and the wording of pull requests, or None when `mode` opens none.

    The RECONCILE_PROPOSAL variables give their title, body, labels, reviewers and draft state. Raises
    UsageError for an invalid variable.
    """
    if mode is not ProposeMode.PULL_REQUEST:
        return None
    from reconciler.forges.open import open_forge
    from reconciler.render.markdown import templated

    draft = environ.get("RECONCILE_PROPOSAL_DRAFT", "")
    if draft not in ("", "true", "false"):
        raise UsageError(f"RECONCILE_PROPOSAL_DRAFT is {draft!r}", hint="set it to true or false")
    return PullRequests(
        lambda: open_forge(environ),
        templated(environ.get("RECONCILE_PROPOSAL_TITLE", ""), environ.get("RECONCILE_PROPOSAL_BODY", "")),
        labels=_names(environ.get("RECONCILE_PROPOSAL_LABELS", "")),
        reviewers=_names(environ.get("RECONCILE_PROPOSAL_REVIEWERS", "")),
        draft=draft == "true",
        titled=bool(environ.get("RECONCILE_PROPOSAL_TITLE")),
    )


def _names(text: str) -> tuple[str, ...]:
    """Split names at commas and newlines, without empty and repeated ones."""
    names = (name.strip() for name in text.replace(",", "\n").splitlines())
    return tuple(dict.fromkeys(name for name in names if name))
