"""The target itself: the interface's methods, over the bridge where there is one and the client elsewhere."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler.content.car import RootNaming, Sharding
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.pieces import HashedCar, shard_pieces
from reconciler.deals.claim_cache import ClaimCache
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.errors import TransientError
from reconciler.progress import Progress, Task
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Diagnosis,
    Expected,
    Inventory,
    Pin,
    RunTerms,
    State,
    UnsupportedError,
)
from reconciler.targets.storacha import diagnose, output
from reconciler.targets.storacha.bridge import Bridge
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.observe import (
    ClientReads,
    Reads,
    covered,
    observation,
    read_deals,
    wanted_deals,
)
from reconciler.targets.storacha.options import StorachaOptions
from reconciler.targets.storacha.wire import SpaceUpload

CLIENT_SHARDING = Sharding(
    133_169_152, RootNaming.LAST
)  #: how the official client splits CARs (SHARD_SIZE of its upload-client)

_ATTEMPTS = 3  # of one upload whose connection breaks; the service keeps the CARs it has
_PAUSE = 2.0  # seconds


class StorachaTarget:
    """One space. `sharding` is how uploads are split, `sleep` waits between attempts."""

    kind = "storacha"

    def __init__(
        self,
        name: str,
        options: StorachaOptions,
        environ: Mapping[str, str],
        *,
        root: Path,
        sharding: Sharding = CLIENT_SHARDING,
        sleep: Callable[[float], None] = time.sleep,
        terms: RunTerms = RunTerms(),
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            takes_bytes=options.agent is not None, serves_blocks=False, keeps_labels=False, sharding=sharding
        )
        self._options = options
        self._sharding = sharding
        self._sleep = sleep
        self._client: StorachaClient | None = None
        self._http: HttpClient | None = None
        self._reads: Reads
        if options.agent is not None:
            self._client = StorachaClient(name, options, options.agent, environ, root=root)
            self._reads = ClientReads(name, self._client)
        if options.bridge is not None:
            self._http = HttpClient(
                options.endpoint, name=name, budget=terms.retries, on_retry=terms.progress.note
            )
            self._reads = Bridge(self._http, options.space, options.bridge)
        self._uploads: dict[Cid, SpaceUpload] | None = None
        self._memory = None if terms.cache is None else ClaimCache(terms.cache / "deals" / _place(options))

    def observe(
        self,
        expected: Sequence[Expected],
        check: Check,
        mark: str,  # noqa: ARG002  uploads have no names
        progress: Progress,
    ) -> Inventory:
        """One listing of the space, and the deals of all pieces there of which somebody wants to know; only
        `QUICK` relies on what the service said of them before.
        """
        uploads = self._uploads = self._reads.uploads()
        seen = {one.root: observation(one, uploads) for one in expected}
        wanted = wanted_deals((one, seen[one.root].pieces) for one in expected)
        deals, notes = read_deals(
            self.name,
            wanted,
            self._reads,
            self._options.chain,
            self._memory,
            progress,
            anew=check is not Check.QUICK,
        )
        if not wanted and any(found.pieces for found in seen.values()):
            notes = diagnose.hidden_deals(self.name, self._options)
        for root, found in seen.items():
            mine = tuple(deal for piece in found.pieces for deal in deals.get(piece, ()))
            seen[root] = replace(found, deals=mine)
        foreign = tuple(Pin(root, "") for root in uploads if root not in seen)
        return Inventory(seen, foreign=foreign, notes=notes)

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """SpaceUpload the CAR of `dag`, unless the space lists it with all its CARs; then nothing is sent."""
        return self._deliver(dag, progress)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """The same: the client sends whole CARs, and the service skips those that it has."""
        return self._deliver(dag, progress)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """Not offered."""
        raise UnsupportedError("Storacha takes bytes and fetches nothing")

    def relabel(self, root: Cid, label: Label) -> None:  # noqa: ARG002
        """Not offered."""
        raise UnsupportedError("uploads to Storacha have no names")

    def adopt(self, pin: Pin, label: Label) -> None:  # noqa: ARG002
        """Not offered."""
        raise PeerError(
            f"{self.name}: uploads to Storacha have no names, so there is nothing to take over",
            hint="an upload whose root the index has counts as held",
        )

    def unpin(self, root: Cid, label: Label) -> None:  # noqa: ARG002
        """Not offered: nothing says which uploads are ours."""
        raise UnsupportedError("uploads to Storacha have no names, so none is removed")

    def dag(self, root: Cid) -> Dag:  # noqa: ARG002
        """Not offered."""
        raise UnsupportedError("Storacha serves blocks through its gateways only")

    def origins(self) -> tuple[str, ...]:
        """None."""
        return ()

    def diagnose(self) -> Sequence[Diagnosis]:
        """See diagnose.examine."""
        return diagnose.examine(self._options, self._reads, self._client, datetime.now(UTC))

    def close(self) -> None:
        """Close all connections, and remove the client's state."""
        if self._client is not None:
            self._client.close()
        if self._http is not None:
            self._http.close()
        if self._options.chain.rpc is not None:
            self._options.chain.rpc.close()

    def _deliver(self, dag: Dag, progress: Progress) -> Delivery:
        if self._client is None or self._options.agent is None:
            raise UnsupportedError("no principal and no proof: this space is only read")
        diagnose.check_agent(self.name, self._options, datetime.now(UTC))
        root = dag.layout.root
        if self._uploads is None:
            self._uploads = self._reads.uploads()
        if root in self._uploads:
            pieces = shard_pieces(dag, self._sharding, progress)
            if covered(self._uploads[root], pieces):
                return Delivery(State.HELD, pieces=pieces)
        car, stored = self._upload(self._client, dag, progress)
        output.compare(self.name, stored, root, car.pieces.shards)
        self._uploads = self._reads.uploads()
        if not covered(self._uploads.get(root), car.pieces):
            detail = "the client says that it is stored, and the space does not list all of it"
            return Delivery(State.PARTIAL, detail=detail)
        return Delivery(State.HELD, dag.layout.size, len(dag.layout), pieces=car.pieces)

    def _upload(
        self, client: StorachaClient, dag: Dag, progress: Progress
    ) -> tuple[HashedCar, output.Stored]:
        for attempt in range(1, _ATTEMPTS + 1):
            car = HashedCar(dag, self._sharding)
            try:
                with progress.task(f"upload to {self.name}", dag.layout.car_size) as task:
                    return car, client.upload(
                        _counted(car, task), self._sharding.max_bytes, lambda: task.advance(0)
                    )
            except TransientError as error:
                if attempt == _ATTEMPTS:
                    raise
                progress.note(f"{error.message}; sending again in {_PAUSE * attempt:.0f} s")
                self._sleep(_PAUSE * attempt)
        raise AssertionError("unreachable")


def _place(options: StorachaOptions) -> str:
    """A file name for one space of one service."""
    return hashlib.sha256(f"{options.endpoint} {options.space}".encode()).hexdigest()


def _counted(pieces: Iterable[bytes], task: Task) -> Iterable[bytes]:
    for piece in pieces:
        yield piece
        task.advance(len(piece))
