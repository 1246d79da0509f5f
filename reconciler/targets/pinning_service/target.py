"""The target itself: the interface's methods, each handed to the file that knows how."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
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
from reconciler.targets.pinning_service import observe
from reconciler.targets.pinning_service.api import PinningApi
from reconciler.targets.pinning_service.options import PinningOptions
from reconciler.targets.pinning_service.pinning import Pinning

_SKEW = 300.0  # seconds between clocks that no longer are a slow answer


class PinningServiceTarget:
    """One account at the pinning service behind `http`."""

    kind = "pinning-service"
    # Some services keep one pin for a CID, and nothing says which: so a root gets one label everywhere.
    capabilities = Capabilities(takes_bytes=False, pins_by_cid=True, serves_blocks=False, one_label=True)

    def __init__(self, name: str, http: HttpClient, options: PinningOptions) -> None:
        self.name = name
        self._options = options
        self._http = http
        self._api = PinningApi(self._http)
        self._pinning = Pinning(self._api, options.poll)

    def observe(
        self,
        expected: Sequence[Expected],
        check: Check,  # noqa: ARG002  there is one depth only
        mark: str,
        progress: Progress,  # noqa: ARG002  one listing needs no progress
    ) -> Inventory:
        """One listing of the account, whatever `check` asks for: a service shows no blocks."""
        return observe.look(self._api, expected, mark)

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """Not offered."""
        raise UnsupportedError("a pinning service takes CIDs, not bytes")

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:  # noqa: ARG002
        """Not offered."""
        raise UnsupportedError("a pinning service takes CIDs, not bytes")

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:
        """See Pinning.pin; the configured origins come first, and then `origins`."""
        return self._pinning.pin(root, label, self._origins(origins))

    def relabel(self, root: Cid, label: Label) -> None:
        """See Pinning.relabel."""
        self._pinning.relabel(root, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """See Pinning.adopt."""
        self._pinning.adopt(pin, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """See Pinning.unpin."""
        self._pinning.unpin(root, label)

    def dag(self, root: Cid) -> Dag:  # noqa: ARG002
        """Not offered."""
        raise UnsupportedError("a pinning service serves no blocks")

    def origins(self) -> tuple[str, ...]:
        """None: where a service keeps its blocks is its own affair."""
        return ()

    def diagnose(self) -> Sequence[Diagnosis]:
        """Whether it answers, knows us, and has our time."""
        try:
            now = self._api.clock()
        except PeerError as error:
            return (Diagnosis("API", ok=False, text=error.message, hint=error.hint or ""),)
        findings = [Diagnosis("API", ok=True, text="answers, and lists the pins of this account")]
        if now is not None:
            skew = abs((now - datetime.now(UTC)).total_seconds())
            findings.append(
                Diagnosis(
                    "clock",
                    ok=skew < _SKEW,
                    text=f"{skew:.0f} s apart from ours",
                    hint="" if skew < _SKEW else "set this machine's clock; lists are paged by time",
                )
            )
        return tuple(findings)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _origins(self, offered: Sequence[str]) -> tuple[str, ...]:
        return observe.choose(self._options.origins, offered, near=self._http.address.loopback)
