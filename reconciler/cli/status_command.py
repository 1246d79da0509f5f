"""`reconcile status`: what every target holds of every version."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass

from reconciler.cli import output as out
from reconciler.errors import ExitCode
from reconciler.loop.settings import Scope
from reconciler.loop.status import Probed, observe_status, probe_versions
from reconciler.loop.workspace import Workspace, load
from reconciler.render.status import probes_document, probes_text, status_document, status_text
from reconciler.targets.check import Check


@dataclass(frozen=True, slots=True)
class Probing:
    """How providers are probed: through which router (None: the default), and at private addresses too?"""

    router: str | None
    allow_private: bool


def show_status(
    scope: Scope,
    check: Check,
    *,
    deals: bool,
    probing: Probing | None,
    as_json: bool,
    exit_code: bool,
) -> int:
    """Observe, and show every version on every target, in order or not; then probe, if that is asked for."""
    scope.layout.make_state()
    with out.progress() as progress, load(scope, os.environ, progress) as workspace:
        status = observe_status(workspace, check)
        probed = None if probing is None else _probe(workspace, probing)
    if as_json:
        document = status_document(status)
        if probed is not None:
            document["probes"] = probes_document(probed)
        out.result_json(document)
    else:
        out.result(status_text(status, deals=deals, paint=out.paint()))
        if probed is not None:
            out.result("\n" + probes_text(probed, out.paint()))
    if status.unknown or any(one.problem for one in probed or ()):
        return ExitCode.PARTIAL
    return ExitCode.PENDING if exit_code and not status.in_sync else ExitCode.OK


def _probe(workspace: Workspace, probing: Probing) -> tuple[Probed, ...]:
    from random import Random

    from reconciler.probes import DEFAULT_ROUTER, ProbeTerms, Router

    terms = ProbeTerms(allow_private=probing.allow_private)
    with closing(Router(probing.router or DEFAULT_ROUTER)) as router:
        return probe_versions(workspace, router, terms, Random())  # noqa: S311 - a sample, not a secret
