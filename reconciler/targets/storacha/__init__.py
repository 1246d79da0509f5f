"""storacha: the target kind for a space of a Storacha upload service, the hosted one or your own.

Uploads go through the official client, which needs Node.js; reads go over the HTTP bridge where there are
keys for it, else through the client.
May use: content, index, deals and net.
Guarantees: nothing is removed, because uploads have no names and cannot be recognized as ours; no secret is
in a command-line argument; a CAR or piece that the service reports is accepted only if our bytes give the
same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.index.model import TargetSpec
from reconciler.targets.interface import RunTerms, Target


def open_target(
    spec: TargetSpec,
    *,
    root: Path,
    environ: Mapping[str, str],
    terms: RunTerms = RunTerms(),
) -> Target:
    """Open the space that `spec` describes, without a request and without starting the client.

    Raises InvalidIndexError for an invalid option, UsageError for an invalid address or environment variable.
    """
    from reconciler.targets.storacha.options import read_options
    from reconciler.targets.storacha.target import StorachaTarget

    options = read_options(spec, environ, terms.retries)
    return StorachaTarget(spec.name, options, environ, root=root, terms=terms)
