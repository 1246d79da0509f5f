"""kubo: a Kubo daemon as a target, through its RPC API.

What it is: `rpc.py` makes the calls; `probe.py` looks at single blocks; `observe.py` looks at everything;
`send.py` streams partial CARs; `publish.py` proves and pins; `repair.py` and `heal.py` put back what is
missing or wrong; `wedge.py` recognises a node that is stuck; `dag.py` serves others; `diagnose.py` is for
`doctor`. May use: content, index, net. Promises: nothing is held because a call said so, no pin that is not
ours is touched, ours only over a DAG that was just proven complete, and nothing is asked of a node that could
make it wait for the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.index.model import TargetSpec
from reconciler.targets.interface import RunTerms

if TYPE_CHECKING:
    from reconciler.targets.kubo.heal import Owns
    from reconciler.targets.kubo.target import KuboTarget


def open_target(
    spec: TargetSpec,
    *,
    root: Path,  # noqa: ARG001  nothing of a node lies in the repository
    environ: Mapping[str, str],
    terms: RunTerms = RunTerms(),
    owns: Owns | None = None,
) -> KuboTarget:
    """The node that `spec` names; no request is made yet.

    `owns` tells which pins are ours where their names do not. Raises InvalidIndex (an option does not hold)
    and UsageError (an environment variable).
    """
    from reconciler.net.client import HttpClient
    from reconciler.targets.kubo.heal import named_so
    from reconciler.targets.kubo.options import read_options
    from reconciler.targets.kubo.rpc import is_command_error
    from reconciler.targets.kubo.target import KuboTarget

    options = read_options(spec, environ)
    http = HttpClient(
        options.api,
        name=spec.name,
        auth=options.auth,
        budget=terms.retries,
        is_command_error=is_command_error,
        on_retry=terms.progress.note,
    )
    return KuboTarget(
        spec.name,
        http,
        pin_seconds=options.pin_seconds,
        allow_unpin_repair=terms.allow_unpin_repair,
        owns=owns or named_so,
    )
