"""The target of one account at a pinning service: pin, rename and unpin roots by CID.

Each call first queries the pins of its root, so that calling it again changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import PeerError, UsageError
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.errors import TransientError, sanitize
from reconciler.net.multiaddr import names_peer, parse_multiaddr
from reconciler.progress import Progress
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Diagnosis,
    Expected,
    Inventory,
    Pin,
    State,
    UnsupportedError,
)
from reconciler.targets.pinning_service.api import MAX_NAME, MAX_ORIGINS, PinningApi, PinRequest
from reconciler.targets.pinning_service.observe import (
    furthest_request,
    observe_account,
    pin_state,
    takes_own_request,
)

_MAX_SKEW = 300.0  # seconds between two clocks that a slow response does not explain
_PAUSES = (0.25, 0.5, 1.0, 2.0, 5.0)  # seconds between two queries of a new pin; the last one repeats
_UNMARKED = (
    "the service keeps neither name nor meta, so this pin cannot be recognized as ours and is never removed"
)


class PinningServiceTarget:
    """One account at the pinning service behind `http`.

    `origins` are multiaddrs that go with every pin, `poll` is how many seconds a new pin is waited for.
    """

    kind = "pinning-service"
    # Some services keep one pin for each CID, and the API does not say which do: a root gets one label.
    capabilities = Capabilities(takes_bytes=False, pins_by_cid=True, serves_blocks=False, one_label=True)

    def __init__(self, name: str, http: HttpClient, *, origins: Sequence[str], poll: float) -> None:
        self.name = name
        self._http = http
        self._api = PinningApi(http)
        self._configured_origins = tuple(origins)
        self._poll = poll

    def observe(
        self,
        expected: Sequence[Expected],
        check: Check,  # noqa: ARG002  all levels are the same
        mark: str,
        progress: Progress,  # noqa: ARG002  one listing needs no progress
    ) -> Inventory:
        """List the account. All check levels are the same, because a service serves no blocks."""
        return observe_account(self._api, expected, mark)

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("a pinning service accepts CIDs, not bytes")

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("a pinning service accepts CIDs, not bytes")

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:
        """Pin `root` under `label`; the configured origins are sent first, then `origins`.

        Raises PeerError when the service reports that pinning failed.
        """
        _check_length(label)
        pins = self._api.find((root,))
        ours = [pin for pin in pins if pin.label.startswith(label.mark)]
        alive = [pin for pin in ours if pin.status != "failed"]
        if alive:
            current = furthest_request([pin for pin in alive if pin.label == label] or alive)
            if current.label != label:
                self.relabel(root, label)
                current = self._labelled(root, label) or current
            return self._await_delivery(current)
        theirs = [pin for pin in pins if pin not in ours]
        if not takes_own_request(theirs):
            detail = "kept by a pin that is not ours, which is left unchanged"
            return Delivery(_delivery_state(pin_state(furthest_request(theirs))), detail=detail)
        chosen = choose_origins(self._configured_origins, origins, near=self._http.address.loopback)
        created = self._add(root, label, chosen)
        for failed in ours:
            if failed.request_id != created.request_id:
                self._api.remove(failed.request_id)
        delivery = self._await_delivery(created)
        if created.label != label:
            detail = "; ".join(part for part in (_UNMARKED, delivery.detail) if part)
            return Delivery(delivery.state, detail=detail)
        return delivery

    def relabel(self, root: Cid, label: Label) -> None:
        """Put `label` on a pin of ours. Raises PeerError when there is none, or when the old name stays."""
        _check_length(label)
        ours = self._own_pins(root, label)
        if not ours:
            raise PeerError(
                f"{self.name} has no pin of ours for {root}", hint="run again, so that it is pinned first"
            )
        if any(pin.label == label for pin in ours):
            return
        self._rename(furthest_request(ours), root, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """Rename a foreign pin to `label`. Raises PeerError when it no longer has the label of `pin`."""
        _check_length(label)
        theirs = [one for one in self._api.find((pin.root,)) if one.label == pin.label]
        if not theirs:
            raise PeerError(
                f"{self.name}: {pin.root} is no longer pinned as {pin.label!r}",
                hint="run again to list its current pins",
            )
        self._rename(furthest_request(theirs), pin.root, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """Remove every request for `root` that has `label`; one CID may have several."""
        for pin in self._own_pins(root, label):
            if pin.label == label:
                self._api.remove(pin.request_id)

    def dag(self, root: Cid) -> Dag:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("a pinning service serves no blocks")

    def origins(self) -> tuple[str, ...]:
        """Return no addresses: a service does not say where its blocks are."""
        return ()

    def diagnose(self) -> Sequence[Diagnosis]:
        """Check that the service responds, accepts the token, and agrees with the clock of this machine."""
        try:
            now = self._api.server_time()
        except PeerError as error:
            return (Diagnosis("API", ok=False, text=error.message, hint=error.hint or ""),)
        findings = [Diagnosis("API", ok=True, text="responds and lists the pins of this account")]
        if now is not None:
            skew = abs((now - datetime.now(UTC)).total_seconds())
            in_sync = skew < _MAX_SKEW
            findings.append(
                Diagnosis(
                    "clock",
                    ok=in_sync,
                    text=f"differs by {skew:.0f} s from the clock of this machine",
                    hint="" if in_sync else "set the clock of this machine: pins are listed by time",
                )
            )
        return tuple(findings)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _own_pins(self, root: Cid, label: Label) -> Sequence[PinRequest]:
        """Return the pin requests of `root` that have the mark of `label`."""
        return [pin for pin in self._api.find((root,)) if pin.label.startswith(label.mark)]

    def _labelled(self, root: Cid, label: Label) -> PinRequest | None:
        pins = [pin for pin in self._own_pins(root, label) if pin.label == label]
        return furthest_request(pins) if pins else None

    def _add(self, root: Cid, label: Label, origins: tuple[str, ...]) -> PinRequest:
        """Create a pin request; when the response is lost, look for the request before failing."""
        try:
            return self._api.add(root, label, origins)
        except TransientError:
            found = self._labelled(root, label)
            if found is None or found.status == "failed":
                raise
            return found

    def _rename(self, old: PinRequest, root: Cid, label: Label) -> None:
        """Pin under `label`, and remove `old` once that is pinned: blocks are deleted with their last pin."""
        created = self._add(root, label, old.origins)
        if created.label != label and created.request_id == old.request_id and not old.id_is_cid:
            created = self._api.replace(old.request_id, root, label, old.origins)
        if created.label != label:
            raise PeerError(f"{self.name} keeps the old name of {root}", hint=_UNMARKED)
        if created.request_id != old.request_id and self._await(created).status == "pinned":
            self._api.remove(old.request_id)

    def _await(self, pin: PinRequest) -> PinRequest:
        """Query `pin` until it is neither queued nor being pinned, for at most `poll` seconds."""
        begin, queries = time.monotonic(), 0
        while pin_state(pin) is State.PENDING and time.monotonic() - begin < self._poll:
            self._http.pause(_PAUSES[min(queries, len(_PAUSES) - 1)])
            queries += 1
            pin = self._api.get(pin.request_id) or pin
        return pin

    def _await_delivery(self, pin: PinRequest) -> Delivery:
        """Wait for `pin`. Raises PeerError when the service reports that it failed."""
        pin = self._await(pin)
        if pin.status == "failed":
            reason = f": {pin.details}" if pin.details else ""
            raise PeerError(
                f"{self.name} failed to pin {pin.cid}{reason}",
                hint="list a node under `origins` that has the content and that the service can reach",
            )
        details = [pin.details] if pin.details else []
        if pin_state(pin) is State.PENDING and pin.delegates:
            details.append(f"connect your node to {sanitize(', '.join(pin.delegates[:3]))} to speed it up")
        return Delivery(_delivery_state(pin_state(pin)), detail="; ".join(details))


def choose_origins(configured: Sequence[str], offered: Sequence[str], *, near: bool) -> tuple[str, ...]:
    """Return at most MAX_ORIGINS origins: the configured ones, then the offered ones, reachable ones first.

    `near` means that the service runs on this machine; any other service cannot reach loopback addresses, so
    these are left out.
    """
    found = {address: _distance(address) for address in offered if names_peer(address)}
    useful = [address for address, distance in found.items() if near or distance < 2]
    ordered = (*configured, *sorted(useful, key=found.__getitem__))
    return tuple(dict.fromkeys(ordered))[:MAX_ORIGINS]


def _distance(address: str) -> int:
    """Return 0 for a public address or a name, 1 for a private network, 2 for this machine only."""
    found = parse_multiaddr(address)
    if found is None or found.ip is None:
        return 0
    if found.ip.is_loopback or found.ip.is_unspecified:
        return 2
    return 0 if found.ip.is_global else 1


def _check_length(label: Label) -> None:
    """Raise UsageError when `label` is too long for the name of a pin."""
    if len(label) > MAX_NAME:
        raise UsageError(
            f"label {label!r} has {len(label)} characters; a service accepts at most {MAX_NAME}",
            hint="shorten the index id, the model name or the version",
        )


def _delivery_state(state: State) -> State:
    """Return HELD for HELD and PENDING for any other state: the pin is not complete yet."""
    return State.HELD if state is State.HELD else State.PENDING
