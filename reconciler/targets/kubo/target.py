"""The target itself: the interface's methods, each handed to the file that knows how."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import BlockUnavailableError, PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.multiaddr import names_peer
from reconciler.progress import Progress
from reconciler.targets.healing import BlockSource
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
from reconciler.targets.kubo import diagnose
from reconciler.targets.kubo.dag import KuboBlocks, KuboDag
from reconciler.targets.kubo.heal import Healer, Owns, named_so
from reconciler.targets.kubo.observe import observe
from reconciler.targets.kubo.probe import Prober
from reconciler.targets.kubo.publish import Publisher, check_label, foreign, repair
from reconciler.targets.kubo.rpc import KuboRpc


class KuboTarget:
    """A Kubo daemon behind `http`, which must have been made with `rpc.is_command_error`.

    `pin_seconds` is the longest that one pin may take. `allow_unpin_repair` is the user's word that our pins
    may be away for the moment in which damaged blocks are replaced, and `owns` tells which those are.
    `random` chooses the leaves of a sample.
    """

    kind = "kubo"
    capabilities = Capabilities(one_label=True)

    def __init__(
        self,
        name: str,
        http: HttpClient,
        *,
        pin_seconds: int = 120,
        allow_unpin_repair: bool = False,
        owns: Owns = named_so,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self._http = http
        self._rpc = KuboRpc(http)
        self._prober = Prober(self._rpc)
        healer = Healer(self._rpc, self._prober, allow_unpin_repair, pin_seconds, owns)
        self._publisher = Publisher(self._rpc, self._prober, healer, pin_seconds)
        self._allow_unpin_repair = allow_unpin_repair
        self._owns = owns
        self._random = random or Random()  # noqa: S311  a sample, not a secret

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """As the interface says; QUICK makes two requests, however many versions there are."""
        return observe(
            self._rpc,
            self._prober,
            expected,
            check,
            mark,
            may_unpin=self._allow_unpin_repair,
            owns=self._owns,
            random=self._random,
            progress=progress,
        )

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """As the interface says.

        A pin that is not ours stays as it is, and the blocks under it are completed.
        """
        return self._publisher.publish(dag, label, progress)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """As the interface says. Raises SafetyError when it needs `allow_unpin_repair` and has it not."""
        return repair(self._publisher, dag, damaged, label, progress)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """Not offered: a pin whose blocks never come hangs, and with it garbage collection."""
        raise UnsupportedError("a Kubo node is given bytes, not CIDs")

    def relabel(self, root: Cid, label: Label) -> None:
        """As the interface says, after every block was found: naming a pin again drops it before it walks.

        Raises BlockUnavailableError when `root` is not pinned or not complete, SafetyError when the pin is
        not ours.
        """
        check_label(label)
        name = self._rpc.pin_name(root)
        if name == label:
            return
        if name is not None and not name.startswith(label.mark):
            raise SafetyError(
                f"{self.name}: {root} is {foreign(name)}", hint="`reconcile adopt` takes it over"
            )
        self._name_again(root, name, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """As the interface says. Raises BlockUnavailableError as `relabel` does."""
        check_label(label)
        name = self._rpc.pin_name(pin.root)
        if name == label:
            return
        if name != pin.label:
            said = "not pinned" if name is None else f"named {name!r}"
            raise PeerError(f"{self.name}: {pin.root} is {said} now", hint="look again: `reconcile adopt`")
        self._name_again(pin.root, name, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """As the interface says: only a pin that carries exactly `label` goes."""
        if self._rpc.pin_name(root) == label:
            self._rpc.pin_rm(root)

    def dag(self, root: Cid) -> Dag:
        """As the interface says, from whatever the node has, pinned or not."""
        return KuboDag(self._rpc, root)

    def blocks(self, root: Cid) -> BlockSource:
        """What the node has of `root`, also where inner nodes are gone (see targets/healing.py)."""
        if self._rpc.pin_name(root) is None and self._rpc.block_size(root) is None:
            raise BlockUnavailableError(f"{root} is not on {self.name}")
        return KuboBlocks(self._rpc)

    def peer_id(self) -> str:
        """Who the node is in the swarm."""
        return self._rpc.identity().peer_id

    def missing_positions(self, layout: DagLayout, progress: Progress) -> frozenset[int]:
        """The positions of blocks that the node does not have, as far as their sizes tell."""
        return self._publisher.look(layout, progress, self.name).missing

    def origins(self) -> tuple[str, ...]:
        """The node's swarm addresses; none while it is offline."""
        return tuple(address for address in self._rpc.identity().addresses if names_peer(address))

    def diagnose(self) -> Sequence[Diagnosis]:
        """See diagnose.examine."""
        return diagnose.examine(self._rpc)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _name_again(self, root: Cid, name: str | None, label: Label) -> None:
        if name is None:
            raise BlockUnavailableError(f"{root} is not pinned on {self.name}", hint="publish it first")
        layout = KuboDag(self._rpc, root).layout
        stat = self._rpc.dag_stat(root, layout.size)
        if stat is None or (stat.blocks, stat.size) != (len(layout), layout.size):
            raise BlockUnavailableError(
                f"{root} is not complete on {self.name}, so its pin is left as it is", hint="repair it first"
            )
        if not self._rpc.pin_add(root, label, self._publisher.pin_seconds):
            raise BlockUnavailableError(f"{root} has just lost a block on {self.name}", hint="run again")
