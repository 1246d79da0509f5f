"""The calls of the REST API of a cluster peer that we need, one method each.

Source: ipfs-cluster v1.1.6, `api/rest/restapi.go`; unexpected behaviour was found by experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.errors import NotFoundError, RejectedError
from reconciler.net.response import Response, UploadBody, multipart_file
from reconciler.net.retry import RetryPolicy
from reconciler.targets.interface import pin_metadata
from reconciler.targets.ipfs_cluster import wire

_TOO_FEW_PEERS = "not enough peers to allocate"
_LIST_LIMIT = 256 << 20  # bytes of a listing; about 300 for each pin and peer


@dataclass(frozen=True, slots=True)
class PinOptions:
    """The options of a pin. Setting a pin again replaces all of them, so every call has to send them all.

    A factor of 0 selects the default of the cluster; `expire_in` is a Go duration, "" for a pin that does not
    expire.
    """

    label: Label
    factor_min: int = 0
    factor_max: int = 0
    expire_in: str = ""
    origins: tuple[str, ...] = ()

    def params(self) -> list[tuple[str, str]]:
        """Return the query parameters."""
        pairs = [("name", self.label), ("mode", "recursive")]
        pairs += [(f"meta-{key}", value) for key, value in pin_metadata(self.label).items()]
        if self.factor_min:
            pairs.append(("replication-min", str(self.factor_min)))
        if self.factor_max:
            pairs.append(("replication-max", str(self.factor_max)))
        if self.expire_in:
            pairs.append(("expire-in", self.expire_in))
        if self.origins:
            pairs.append(("origins", ",".join(self.origins)))
        return pairs


@dataclass(frozen=True, slots=True)
class PinStatuses:
    """The status of all pins, and the time of the cluster's clock, to which their times refer."""

    by_cid: dict[Cid, wire.PinStatus]
    now: datetime


class ClusterRest:
    """One cluster peer behind `http`, which uses `is_command_error`. Every method raises RequestError."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http
        self._name = http.name

    def version(self) -> str:
        """Return the version of this peer."""
        answer = self.http.request("GET", "version", repeatable=True)
        return wire.read_object(self._name, answer.json(), "a version").text_or("", "version")

    def entries(self) -> dict[Cid, wire.ClusterPin]:
        """Return the whole pinset; of two entries for one root, the one of the CIDv1.

        The API cannot filter by name or metadata: it ignores such parameters.
        """
        found = (wire.read_entry(self._name, line) for line in self._list("allocations"))
        entries = [entry for entry in found if entry is not None]
        return {entry.cid: entry for entry in sorted(entries, key=lambda entry: not entry.spelling)}

    def entry(self, root: Cid, *, v0: bool = False) -> wire.ClusterPin | None:
        """Return one entry of the pinset, or None; with `v0` that of its CIDv0.

        `/pins/<cid>` answers 200 even for a CID without a pin.
        """
        text = cids.v0_text(root) if v0 else str(root)
        if text is None:
            return None
        try:
            answer = self.http.request("GET", f"allocations/{text}", repeatable=True)
        except NotFoundError:
            return None
        return wire.read_entry(self._name, answer.json())

    def statuses(self) -> PinStatuses:
        """Return the status of every pin on every peer that answers."""
        answer = self._ask_list("pins")
        read = (wire.read_status(self._name, line) for line in answer.json_lines())
        found = [status for status in read if status is not None]
        found.sort(key=lambda status: not status.spelling)  # a pin of the CIDv1 goes before one of its CIDv0
        return PinStatuses({status.cid: status for status in found}, _server_time(answer))

    def status(self, root: Cid) -> tuple[wire.PinStatus, datetime]:
        """Return the status of one pin on every peer that answers, and the time of the cluster's clock."""
        answer = self.http.request("GET", f"pins/{root}", repeatable=True)
        return wire.read_status(self._name, answer.json()) or wire.PinStatus(root, ()), _server_time(answer)

    def peers(self) -> tuple[wire.ClusterPeer, ...]:
        """Return the peers that this one sees. A peer that died disappears after two missed pings."""
        return tuple(wire.read_peer(self._name, line) for line in self._list("peers"))

    def own(self) -> wire.ClusterPeer:
        """Return the peer that answers the request."""
        return wire.read_peer(self._name, self.http.request("GET", "id", repeatable=True).json())

    def alerts(self) -> tuple[wire.PeerAlert, ...]:
        """Return the peers that stopped reporting since this one started, including those that returned."""
        try:
            answer = self.http.request("GET", "health/alerts", repeatable=True, expect=(200, 204))
        except NotFoundError:  # before 1.0
            return ()
        value = answer.json() if answer.body.strip() else None
        if not isinstance(value, list):
            return ()
        return tuple(wire.read_alert(self._name, alert) for alert in value)

    def add(
        self, car: UploadBody, options: PinOptions | None, retry: RetryPolicy | None = None
    ) -> wire.AddedCar:
        """Add the blocks of `car` to the Kubo of this peer, and pin its root unless `options` is None.

        An incomplete CAR is accepted without an error, so compare AddedCar.size. `stream-channels=false`
        keeps errors out of trailers, which proxies drop. `retry` replaces the policy of the client.
        """
        params = [("format", "car"), ("local", "true"), ("stream-channels", "false")]
        params += [("no-pin", "true")] if options is None else options.params()
        body = multipart_file("bundle.car", car)
        with self._explain_allocation():
            answer = self.http.request(
                "POST", "add", repeatable=True, params=params, content=body, retry=retry
            )
        return wire.read_added(self._name, answer.json())

    def add_everywhere(self, car: UploadBody) -> None:
        """Add the blocks of `car` to the Kubo of every peer, through the cluster instead of Bitswap."""
        params = [("format", "car"), ("local", "false"), ("stream-channels", "false"), ("no-pin", "true")]
        params += [(f"replication-{end}", str(wire.EVERYWHERE)) for end in ("min", "max")]
        body = multipart_file("blocks.car", car)
        answer = self.http.request("POST", "add", repeatable=True, params=params, content=body)
        wire.read_added(self._name, answer.json())

    def pin(self, root: Cid, options: PinOptions) -> wire.ClusterPin | None:
        """Pin `root`, or replace all options of its pin; missing peers are replaced by others."""
        with self._explain_allocation():
            answer = self.http.request("POST", f"pins/{root}", repeatable=True, params=options.params())
        return wire.read_entry(self._name, answer.json())

    def unpin(self, root: Cid, *, v0: bool = False) -> None:
        """Remove `root`, or with `v0` its CIDv0, from the pinset. Not an error when it is not in it."""
        text = cids.v0_text(root) if v0 else str(root)
        try:
            answer = self.http.request("DELETE", f"pins/{text}", repeatable=True)
        except NotFoundError:
            return
        wire.read_entry(self._name, answer.json())  # a login page answers 200 as well

    def recover(self, root: Cid) -> None:
        """Make every peer that lost the pin, or failed to pin, try again."""
        answer = self.http.request("POST", f"pins/{root}/recover", repeatable=True)
        wire.read_status(self._name, answer.json())

    def _list(self, path: str) -> Iterator[object]:
        return self._ask_list(path).json_lines()

    def _ask_list(self, path: str) -> Response:
        return self.http.request("GET", path, repeatable=True, expect=(200, 204), limit=_LIST_LIMIT)

    @contextmanager
    def _explain_allocation(self) -> Iterator[None]:
        """Add a hint to the error of a cluster that has too few peers for the requested replication."""
        try:
            yield
        except RejectedError as error:
            if _TOO_FEW_PEERS not in error.reason:
                raise
            raise RejectedError(
                self._name,
                f"cannot allocate the pin to the requested number of peers: {error.reason}",
                reason=error.reason,
                status=error.status,
                hint="start the peers that are down, or lower replication in targets.yaml",
            ) from None


def is_command_error(answer: Response) -> bool:
    """Return whether a 500 is permanent. A cluster answers 500 for every kind of error."""
    return _TOO_FEW_PEERS in answer.message


def _server_time(answer: Response) -> datetime:
    """Return the `Date` of an answer; our own time when it is missing or malformed."""
    try:
        now = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return datetime.now(UTC)
    return now if now.tzinfo else now.replace(tzinfo=UTC)
