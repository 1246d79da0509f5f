"""storacha: a space of a Storacha upload service, the hosted one or one's own, as a target.

What it is: `client.py` runs the official client, the one way to upload, and `output.py` reads what it prints;
`bridge.py` makes the calls of the HTTP bridge, which needs no Node; `wire.py` reads what both answer;
`observe.py` says what that amounts to, and `deal_reads.py` which deals hold; `delegation.py` reads what a
delegation allows.
May use: content, index, deals and net.
Promises: nothing is removed, for a space has no names and so nothing that could be known as ours; no secret
is in an argument; no CAR and no piece is believed that our bytes do not give.
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
    """The space that `spec` names; nothing is asked or started yet.

    Raises InvalidIndex (an option does not hold) and UsageError (an address or an environment variable).
    """
    from reconciler.targets.storacha.options import read_options
    from reconciler.targets.storacha.target import StorachaTarget

    options = read_options(spec, environ, terms.retries)
    return StorachaTarget(spec.name, options, environ, root=root, terms=terms)
