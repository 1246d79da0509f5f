"""ipfs_cluster: an IPFS Cluster as a target, through the REST API of one of its peers.

May use content, index, net, and the target of the Kubo daemons behind the cluster.

Guarantees: a pin without our mark is never replaced, recovered or removed. A cluster has one pin for a CID,
and setting a pin again replaces its name, metadata and replication together, so every call here sends all of
them.
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
    """Return the cluster that `spec` describes; no request is made yet.

    Raises InvalidIndexError for an invalid option, and UsageError for an invalid address or a missing
    environment variable.
    """
    from reconciler.net.client import HttpClient
    from reconciler.targets import kubo
    from reconciler.targets.ipfs_cluster.nodes import ClusterNodes
    from reconciler.targets.ipfs_cluster.options import read_options
    from reconciler.targets.ipfs_cluster.rest import is_command_error
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
    nodes = [kubo.open_target(node, root=root, environ=environ, terms=terms) for node in options.nodes]
    return ClusterTarget(spec.name, http, options, ClusterNodes(nodes))
