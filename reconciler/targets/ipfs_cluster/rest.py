"""The calls of a cluster peer's REST API that we need, one method each.

Source: ipfs-cluster v1.1.6, `api/rest/restapi.go`; what is surprising about them was found by trying.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reconciler.content.cid import Cid
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.errors import NotFoundError, RejectedError
from reconciler.net.response import Response, UploadBody, multipart_file
from reconciler.targets import fields
from reconciler.targets.interface import pin_metadata
from reconciler.targets.ipfs_cluster import wire

_TOO_FEW = "not enough peers to allocate"
_LIST_LIMIT = 256 << 20  # bytes of a listing; about 300 a pin and peer


@dataclass(frozen=True, slots=True)
class PinOptions:
    """What goes with a pin. A pin that is set again is replaced whole, so every call has to give all of it.

    A factor of 0 leaves it to the cluster's own default; `expire_in` is a Go duration, "" for a pin that
    stays.
    """

    label: Label
    factor_min: int = 0
    factor_max: int = 0
    expire_in: str = ""
    origins: tuple[str, ...] = ()

    def params(self) -> list[tuple[str, str]]:
        """As query parameters."""
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
    """All statuses, and the cluster's own clock, by which their times are judged."""

    by_cid: dict[Cid, wire.PinStatus]
    now: datetime


class ClusterRest:
    """One cluster peer behind `http`, which was made with `is_command_error`. All raise RequestError."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http
        self._name = http.name

    def version(self) -> str:
        """The version of this peer."""
        answer = self.http.request("GET", "version", repeatable=True)
        return fields.text(self._name, fields.record(self._name, answer.json(), "a version"), "version")

    def entries(self) -> dict[Cid, wire.ClusterPin]:
        """The whole pinset. The API cannot filter it by name or metadata: such parameters are ignored."""
        found = (wire.read_entry(self._name, line) for line in self._list("allocations"))
        return {entry.cid: entry for entry in found if entry is not None}

    def entry(self, root: Cid) -> wire.ClusterPin | None:
        """One entry of the pinset. Only this call tells: `/pins/<cid>` answers 200 for what nobody pinned."""
        try:
            answer = self.http.request("GET", f"allocations/{root}", repeatable=True)
        except NotFoundError:
            return None
        return wire.read_entry(self._name, answer.json())

    def statuses(self) -> PinStatuses:
        """How every pin does on every peer that answers."""
        answer = self._ask_list("pins")
        found = (wire.read_status(self._name, line) for line in answer.json_lines())
        return PinStatuses({status.cid: status for status in found if status is not None}, _clock(answer))

    def status(self, root: Cid) -> tuple[wire.PinStatus, datetime]:
        """How one pin does on every peer that answers, and the cluster's clock."""
        answer = self.http.request("GET", f"pins/{root}", repeatable=True)
        return wire.read_status(self._name, answer.json()) or wire.PinStatus(root, ()), _clock(answer)

    def peers(self) -> tuple[wire.ClusterPeer, ...]:
        """The peers that are there, as this one sees it. One that died is missing after two of its pings."""
        return tuple(wire.read_peer(self._name, line) for line in self._list("peers"))

    def own(self) -> wire.ClusterPeer:
        """The peer that answers here."""
        return wire.read_peer(self._name, self.http.request("GET", "id", repeatable=True).json())

    def alerts(self) -> tuple[wire.Alert, ...]:
        """Peers that stopped reporting since this one started; also those that are back."""
        try:
            answer = self.http.request("GET", "health/alerts", repeatable=True, expect=(200, 204))
        except NotFoundError:  # before 1.0
            return ()
        value = answer.json() if answer.body.strip() else None
        if not isinstance(value, list):
            return ()
        return tuple(wire.read_alert(self._name, alert) for alert in value)

    def add(self, car: UploadBody, options: PinOptions | None) -> wire.Added:
        """Put the blocks of `car` into the Kubo of this peer, and pin its root unless `options` is None.

        An incomplete CAR is taken without a word; compare Added.size. Errors would come in a trailer, which
        no proxy keeps, were it not for `stream-channels=false`.
        """
        params = [("format", "car"), ("local", "true"), ("stream-channels", "false")]
        params += [("no-pin", "true")] if options is None else options.params()
        body = multipart_file("bundle.car", car)
        with self._placing():
            answer = self.http.request("POST", "add", repeatable=True, params=params, content=body)
        return wire.read_added(self._name, answer.json())

    def spread(self, car: UploadBody) -> None:
        """Put the blocks of `car` into the Kubo of every peer, through the cluster and not by bitswap."""
        params = [("format", "car"), ("local", "false"), ("stream-channels", "false"), ("no-pin", "true")]
        params += [(f"replication-{end}", str(wire.EVERYWHERE)) for end in ("min", "max")]
        body = multipart_file("blocks.car", car)
        answer = self.http.request("POST", "add", repeatable=True, params=params, content=body)
        wire.read_added(self._name, answer.json())

    def pin(self, root: Cid, options: PinOptions) -> wire.ClusterPin | None:
        """Put `root` into the pinset, or replace its entry whole, and peers that are gone by others."""
        with self._placing():
            answer = self.http.request("POST", f"pins/{root}", repeatable=True, params=options.params())
        return wire.read_entry(self._name, answer.json())

    def unpin(self, root: Cid) -> None:
        """Take `root` out of the pinset. No error when it is not in it."""
        try:
            answer = self.http.request("DELETE", f"pins/{root}", repeatable=True)
        except NotFoundError:
            return
        wire.read_entry(self._name, answer.json())  # a login page says 200 as well

    def recover(self, root: Cid) -> None:
        """Have every peer try again that lost its pin or failed to make it."""
        answer = self.http.request("POST", f"pins/{root}/recover", repeatable=True)
        wire.read_status(self._name, answer.json())

    def _list(self, path: str) -> Iterator[object]:
        return self._ask_list(path).json_lines()

    def _ask_list(self, path: str) -> Response:
        return self.http.request("GET", path, repeatable=True, expect=(200, 204), limit=_LIST_LIMIT)

    @contextmanager
    def _placing(self) -> Iterator[None]:
        """Say what to do where the cluster has too few peers for what was asked."""
        try:
            yield
        except RejectedError as error:
            if _TOO_FEW not in error.reason:
                raise
            raise RejectedError(
                self._name,
                f"cannot place the pin on as many peers as asked for: {error.reason}",
                reason=error.reason,
                status=error.status,
                hint="start the peers that are down, or lower replication in targets.yaml",
            ) from None


def is_command_error(answer: Response) -> bool:
    """Whether a 500 says that it will not work the next time either. A cluster says 500 for everything."""
    return _TOO_FEW in answer.message


def _clock(answer: Response) -> datetime:
    try:
        now = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return datetime.now(UTC)
    return now if now.tzinfo else now.replace(tzinfo=UTC)
