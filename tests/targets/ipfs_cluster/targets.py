"""Cluster targets for tests: no pauses, short time limits."""

from __future__ import annotations

from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.retry import RetryPolicy
from reconciler.targets.interface import Target
from reconciler.targets.ipfs_cluster.judge import ReplicationRules
from reconciler.targets.ipfs_cluster.nodes import ClusterNodes
from reconciler.targets.ipfs_cluster.options import ClusterOptions
from reconciler.targets.ipfs_cluster.rest import is_command_error
from reconciler.targets.ipfs_cluster.target import ClusterTarget, WaitLimits


def cluster_target(
    url: str,
    *nodes: Target,
    attempts: int = 1,
    timeouts: Timeouts | None = None,
    rules: ReplicationRules | None = None,
    expire_in: str = "",
    limits: WaitLimits | None = None,
) -> ClusterTarget:
    """Return a target at `url` over `nodes` that tries each call `attempts` times without pauses."""
    http = HttpClient(
        url,
        name="cluster",
        timeouts=timeouts or Timeouts(connect=30, silence=60, total=120),
        retry=RetryPolicy(attempts=attempts),
        sleep=lambda seconds: None,
        is_command_error=is_command_error,
    )
    return ClusterTarget(
        "cluster",
        http,
        ClusterOptions(url, expire_in=expire_in),
        ClusterNodes(nodes),
        rules=rules,
        limits=limits or WaitLimits(pending=20.0, bad=0.5, pause=0.02),
    )
