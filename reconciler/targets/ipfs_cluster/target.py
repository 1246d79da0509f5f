"""The target itself: the interface's methods, each handed to the file that knows how."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.multiaddr import names_peer
from reconciler.progress import Progress
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Diagnosis,
    Expected,
    Inventory,
    Pin,
    UnsupportedError,
)
from reconciler.targets.ipfs_cluster import diagnose, observe
from reconciler.targets.ipfs_cluster.deliver import Deliverer, Patience
from reconciler.targets.ipfs_cluster.judge import Rules
from reconciler.targets.ipfs_cluster.nodes import Nodes
from reconciler.targets.ipfs_cluster.options import ClusterOptions
from reconciler.targets.ipfs_cluster.rest import ClusterRest


class ClusterTarget:
    """An IPFS Cluster behind one of its peers, with the Kubo daemons behind it as far as they are configured.

    `http` must have been made with `rest.is_command_error`; `rules` and `patience` replace what `options` and
    the defaults give.
    """

    kind = "ipfs-cluster"

    def __init__(
        self,
        name: str,
        http: HttpClient,
        options: ClusterOptions,
        nodes: Nodes,
        *,
        rules: Rules | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(pins_by_cid=True, serves_blocks=len(nodes) > 0, one_label=True)
        self._http = http
        self._options = options
        self._nodes = nodes
        self._rest = ClusterRest(self._http)
        self._rules = rules or Rules(options.factor_min, options.factor_max, options.expire_seconds)
        self._deliverer = Deliverer(self._rest, nodes, self._rules, options.expire_in, patience=patience)

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """Four calls to the cluster, and what `check` asks for on each node behind it."""
        world = observe.look(self._rest)
        return observe.inventory(
            world, expected, check, mark, rules=self._rules, nodes=self._nodes, progress=progress
        )

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """See Deliverer.publish."""
        return self._deliverer.publish(dag, label, progress)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """See Deliverer.repair."""
        return self._deliverer.repair(dag, damaged, label, progress)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:
        """See Deliverer.fetch. It also renews a pin, and replaces peers that are gone, without any bytes."""
        return self._deliverer.fetch(root, label, tuple(origins))

    def relabel(self, root: Cid, label: Label) -> None:
        """See Deliverer.relabel."""
        self._deliverer.relabel(root, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """See Deliverer.adopt."""
        self._deliverer.adopt(pin, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """See Deliverer.unpin."""
        self._deliverer.unpin(root, label)

    def dag(self, root: Cid) -> Dag:
        """The DAG as one of the nodes serves it; the cluster's own API hands out no blocks."""
        if not len(self._nodes):
            raise UnsupportedError("a cluster without nodes serves no blocks")
        return self._nodes.dag(root)

    def origins(self) -> tuple[str, ...]:
        """The swarm addresses of the Kubo daemons that the cluster's peers have."""
        found = [address for peer in self._rest.peers() for address in peer.ipfs_addresses]
        return tuple(address for address in dict.fromkeys(found) if names_peer(address))

    def diagnose(self) -> Sequence[Diagnosis]:
        """See diagnose.examine."""
        return diagnose.examine(self._rest, self._options)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._nodes.close()
