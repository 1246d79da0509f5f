"""The target of one space: it uploads through the client, and reads over the HTTP bridge if it has keys."""

from __future__ import annotations

import hashlib
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
from reconciler.targets.healing import MergedDag
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
from reconciler.targets.storacha.ahead import CarsAhead
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.diagnose import (
    check_upload_permission,
    deal_access_notes,
    diagnose_space,
)
from reconciler.targets.storacha.gateway import GatewayBlocks
from reconciler.targets.storacha.observe import (
    collect_deals,
    deal_requirements,
    has_all_cars,
    observe_upload,
)
from reconciler.targets.storacha.options import StorachaOptions
from reconciler.targets.storacha.output import UploadResult, check_upload
from reconciler.targets.storacha.reader import BridgeReader, ClientReader, SpaceReader, SpaceUpload

#: how the official client splits a CAR (SHARD_SIZE of @storacha/upload-client)
CLIENT_SHARDING = Sharding(133_169_152, RootNaming.LAST)

_ATTEMPTS = 3  # for an upload whose connection breaks; the service keeps the CARs it has
_PAUSE = 2.0  # seconds before the second attempt; twice as long before the third


class StorachaTarget:
    """One space. `sharding` is how uploads are split into CARs, `sleep` waits between two attempts.

    The target keeps the last listing of the space, so that `publish` after `observe` does not list it again.
    """

    kind = "storacha"

    def __init__(
        self,
        name: str,
        options: StorachaOptions,
        environ: Mapping[str, str],
        *,
        root: Path,
        sharding: Sharding = CLIENT_SHARDING,
        sleep: Callable[[float], None] | None = None,
        terms: RunTerms = RunTerms(),
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            takes_bytes=options.agent is not None,
            serves_blocks=bool(options.gateway),
            keeps_labels=False,
            sharding=sharding,
        )
        self._options = options
        self._sharding = sharding
        self._sleep = sleep or terms.pause
        self._client: StorachaClient | None = None
        self._http: HttpClient | None = None
        self._gateway: HttpClient | None = None
        if options.gateway:
            self._gateway = HttpClient(
                options.gateway,
                name=f"the gateway of {name}",
                budget=terms.retries,
                on_retry=terms.progress.note,
            )
        self._reader: SpaceReader
        if options.agent is not None:
            self._client = StorachaClient(
                name, options, options.agent, environ, root=root, budget=terms.retries
            )
            self._reader = ClientReader(self._client)
        if options.bridge is not None:
            self._http = HttpClient(
                options.endpoint, name=name, budget=terms.retries, on_retry=terms.progress.note
            )
            self._reader = BridgeReader(self._http, options.space, options.bridge)
        self._uploads: dict[Cid, SpaceUpload] | None = None
        self._claim_cache = (
            None if terms.cache is None else ClaimCache(terms.cache / "deals" / _cache_name(options))
        )

    def observe(
        self,
        expected: Sequence[Expected],
        check: Check,
        mark: str,  # noqa: ARG002  uploads have no names
        progress: Progress,
    ) -> Inventory:
        """List the space, and check the deals of the pieces in it that need some.

        Only `QUICK` relies on claims that the service made in an earlier run.
        """
        uploads = self._uploads = self._reader.uploads()
        seen = {one.root: observe_upload(one, uploads) for one in expected}
        required = deal_requirements((one, seen[one.root].pieces) for one in expected)
        deals, notes = collect_deals(
            self.name,
            required,
            self._reader,
            self._options.chain,
            self._claim_cache,
            progress,
            anew=check is not Check.QUICK,
        )
        if not required and any(found.pieces for found in seen.values()):
            notes = deal_access_notes(self.name, self._options)
        for root, found in seen.items():
            mine = tuple(deal for piece in found.pieces for deal in deals.get(piece, ()))
            seen[root] = replace(found, deals=mine)
        foreign = tuple(Pin(root, "") for root in uploads if root not in seen)
        return Inventory(seen, foreign=foreign, notes=notes)

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """Upload the CAR of `dag`; nothing is sent if the space lists it with all its CARs."""
        return self._deliver(dag, progress)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """Upload as `publish` does: the client sends whole CARs, and the service skips those that it has."""
        return self._deliver(dag, progress)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("Storacha accepts bytes and fetches nothing by CID")

    def relabel(self, root: Cid, label: Label) -> None:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("uploads to Storacha have no names")

    def adopt(self, pin: Pin, label: Label) -> None:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise PeerError(
            f"{self.name}: uploads to Storacha have no names, so none can be adopted",
            hint="nothing needs to be adopted: an upload whose root is in the index counts as held",
        )

    def unpin(self, root: Cid, label: Label) -> None:  # noqa: ARG002
        """Raise UnsupportedError: uploads cannot be recognized as ours."""
        raise UnsupportedError("uploads to Storacha have no names, so the reconciler cannot remove its own")

    def dag(self, root: Cid) -> Dag:
        """Return the DAG under `root` as the gateway of the space serves it."""
        if self._gateway is None:
            raise UnsupportedError("Storacha serves blocks through its gateways only")
        return MergedDag(root, [GatewayBlocks(self._gateway)])

    def origins(self) -> tuple[str, ...]:
        """Return no addresses."""
        return ()

    def diagnose(self) -> Sequence[Diagnosis]:
        """Check the delegations, the client and the service."""
        return tuple(diagnose_space(self._options, self._reader, self._client, datetime.now(UTC)))

    def close(self) -> None:
        """Close all connections, and remove the state of the client."""
        if self._client is not None:
            self._client.close()
        for http in (self._http, self._gateway):
            if http is not None:
                http.close()
        if self._options.chain.rpc is not None:
            self._options.chain.rpc.close()

    def _deliver(self, dag: Dag, progress: Progress) -> Delivery:
        """Upload what the space does not list, check the result, and list the space again."""
        if self._client is None or self._options.agent is None:
            raise UnsupportedError("no principal and no proof: the credentials are for reading only")
        check_upload_permission(self.name, self._options, datetime.now(UTC))
        root = dag.layout.root
        if self._uploads is None:
            self._uploads = self._reader.uploads()
        if root in self._uploads:
            pieces = shard_pieces(dag, self._sharding, progress)
            if has_all_cars(self._uploads[root], pieces):
                return Delivery(State.HELD, pieces=pieces)
        car, result = self._upload(self._client, dag, progress)
        check_upload(self.name, result, root, car.pieces.shards)
        self._uploads = self._reader.uploads()
        if not has_all_cars(self._uploads.get(root), car.pieces):
            detail = "the client reports it as stored, but the space does not list all of its CARs"
            return Delivery(State.PARTIAL, detail=detail)
        return Delivery(State.HELD, dag.layout.size, len(dag.layout), pieces=car.pieces)

    def _upload(self, client: StorachaClient, dag: Dag, progress: Progress) -> tuple[HashedCar, UploadResult]:
        """Stream the CAR of `dag` into the client and hash it; repeat when the connection breaks."""
        for attempt in range(1, _ATTEMPTS + 1):
            car = HashedCar(dag, self._sharding)
            try:
                with (
                    progress.task(f"upload to {self.name}", dag.layout.car_size) as task,
                    self._cars_ahead(client, dag) as ahead,
                ):

                    def waiting(task: Task = task) -> None:
                        task.advance(0)

                    chunks = _advancing(ahead.follow(car, waiting), task)
                    return car, client.upload(chunks, self._sharding.max_bytes, waiting)
            except TransientError as error:
                if attempt == _ATTEMPTS:
                    raise
                progress.note(f"{error.message}; retrying in {_PAUSE * attempt:.0f} s")
                self._sleep(_PAUSE * attempt)
        raise AssertionError("unreachable")

    def _cars_ahead(self, client: StorachaClient, dag: Dag) -> CarsAhead:
        """Return the CARs to send ahead of the upload; the client is made ready first, by one thread."""
        client.prepare()
        return CarsAhead(dag, self._sharding, client.store_car if client.takes_cars else None)


def _cache_name(options: StorachaOptions) -> str:
    """Return the file name of the cached claims of one space of one service."""
    return hashlib.sha256(f"{options.endpoint} {options.space}".encode()).hexdigest()


def _advancing(chunks: Iterable[bytes], task: Task) -> Iterable[bytes]:
    """Yield `chunks`, and advance `task` by the length of each."""
    for chunk in chunks:
        yield chunk
        task.advance(len(chunk))
