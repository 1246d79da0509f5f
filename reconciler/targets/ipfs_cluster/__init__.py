"""ipfs_cluster: an IPFS Cluster as a target, through the REST API of one of its peers.

What it is: `rest.py` makes the calls and `wire.py` reads their answers; `judge.py` says what the cluster's
word about a pin amounts to; `observe.py` looks at everything at once; `deliver.py` publishes, repairs,
renames and unpins; `nodes.py` checks and heals the Kubo daemons behind it, where they are configured.
May use: content, index, net, and the target of the Kubo daemons.
Promises: a pin whose mark is not ours is never replaced, recovered or removed. A cluster has one pin for a
CID, and setting it again replaces its name, metadata and replication as a whole: so every call here sends all
of them.
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
    """The cluster that `spec` names; no request is made yet.

    Raises InvalidIndex (an option does not hold) and UsageError (an address or an environment variable).
    """
    from reconciler.net.client import HttpClient
    from reconciler.targets import kubo
    from reconciler.targets.ipfs_cluster.nodes import Nodes, owned_through
    from reconciler.targets.ipfs_cluster.options import read_options
    from reconciler.targets.ipfs_cluster.rest import ClusterRest, is_command_error
    from reconciler.targets.ipfs_cluster.target import ClusterTarget

    options = read_options(spec, environ)
    http = HttpClient(
        options.api,
        name=spec.name,
        auth=options.auth,
        budget=terms.retries,
        is_command_error=is_command_error,
        on_retry=terms.progress.note,
    )
    owns = owned_through(ClusterRest(http))
    nodes = [
        kubo.open_target(node, root=root, environ=environ, terms=terms, owns=owns) for node in options.nodes
    ]
    return ClusterTarget(spec.name, http, options, Nodes(nodes))
