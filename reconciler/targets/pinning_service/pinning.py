"""Pin, rename and unpin one root at a service, without ever touching a pin that is not ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from reconciler.content.cid import Cid
from reconciler.errors import PeerError, UsageError
from reconciler.index.label import Label
from reconciler.net.errors import TransientError, sanitize
from reconciler.targets.interface import Delivery, Pin, State
from reconciler.targets.pinning_service import wire
from reconciler.targets.pinning_service.api import PinningApi
from reconciler.targets.pinning_service.observe import best_of, state_of
from reconciler.targets.pinning_service.wire import RemotePin

_LONGEST_LABEL = 255  # characters of a name, by the specification
_PAUSES = (0.25, 0.5, 1.0, 2.0, 5.0)  # seconds between two looks at a new pin; the last one repeats
_UNMARKED = "the service keeps neither name nor meta, so this pin is never known as ours, nor removed"


class Pinning:
    """Acts on one root at a time; each method looks first, so that calling it again changes nothing."""

    def __init__(
        self,
        api: PinningApi,
        poll: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._poll = poll
        self._sleep = sleep
        self._clock = clock

    def pin(self, root: Cid, label: Label, origins: tuple[str, ...]) -> Delivery:
        """Have `root` pinned under `label`. Raises PeerError when the service gives up on it."""
        self._check(label)
        pins = wire.of(self._api, (root,))
        ours = [pin for pin in pins if pin.label.startswith(label.mark)]
        going = [pin for pin in ours if pin.status != "failed"]
        if going:
            best = best_of([pin for pin in going if pin.label == label] or going)
            if best.label != label:
                self.relabel(root, label)
                best = self._mine(root, label) or best
            return self._follow(best)
        taken = next((pin for pin in pins if pin not in ours and (pin.by_cid or not pin.label)), None)
        if taken is not None:
            # One pin for a CID, or one that may be ours with its mark lost: a second request would replace
            # what is not ours, or pile up with every run.
            words = "held under a pin that is not ours, which is not touched"
            return Delivery(_delivered(state_of(taken)), detail=words)
        made = self._add(root, label, origins)
        for failed in ours:
            if failed.request != made.request:
                self._api.remove(failed.request)
        delivery = self._follow(made)
        if made.label != label:
            detail = "; ".join(part for part in (_UNMARKED, delivery.detail) if part)
            return Delivery(delivery.state, detail=detail)
        return delivery

    def relabel(self, root: Cid, label: Label) -> None:
        """Put `label` on a pin of ours. Raises PeerError when there is none, or the old name stays."""
        self._check(label)
        ours = self._ours(root, label)
        if not ours:
            raise PeerError(
                f"{self._api.name} has no pin of ours for {root}", hint="run again; it has to be pinned first"
            )
        if any(pin.label == label for pin in ours):
            return
        self._rename(best_of(ours), root, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """Take somebody else's pin over. Raises PeerError when it is not as `pin` says any more."""
        self._check(label)
        theirs = [one for one in wire.of(self._api, (pin.root,)) if one.label == pin.label]
        if not theirs:
            raise PeerError(
                f"{self._api.name}: {pin.root} is no longer pinned as {pin.label!r}",
                hint="run again to see how",
            )
        self._rename(best_of(theirs), pin.root, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """Take away every request for `root` that carries `label`; one CID may have several."""
        for pin in self._ours(root, label):
            if pin.label == label:
                self._api.remove(pin.request)

    def _rename(self, old: RemotePin, root: Cid, label: Label) -> None:
        """Pin under `label`, and take `old` away once that is pinned: blocks go with their last pin."""
        made = self._add(root, label, old.origins)
        if made.label != label and made.request == old.request and not old.by_cid:
            made = self._api.replace(old.request, root, label, old.origins)
        if made.label != label:
            raise PeerError(f"{self._api.name} keeps the old name of {root}", hint=_UNMARKED)
        if made.request != old.request and self._waited(made).status == "pinned":
            self._api.remove(old.request)

    def _check(self, label: Label) -> None:
        if len(label) > _LONGEST_LABEL:
            raise UsageError(
                f"label {label!r} has {len(label)} characters; a pinning service takes {_LONGEST_LABEL}",
                hint="shorten the index id, the model name or the version",
            )

    def _ours(self, root: Cid, label: Label) -> Sequence[RemotePin]:
        return [pin for pin in wire.of(self._api, (root,)) if pin.label.startswith(label.mark)]

    def _mine(self, root: Cid, label: Label) -> RemotePin | None:
        pins = [pin for pin in self._ours(root, label) if pin.label == label]
        return best_of(pins) if pins else None

    def _add(self, root: Cid, label: Label, origins: tuple[str, ...]) -> RemotePin:
        """A new pin request; one whose answer was lost on the way is looked for before giving up."""
        try:
            return self._api.add(root, label, origins)
        except TransientError:
            found = self._mine(root, label)
            if found is None or found.status == "failed":
                raise
            return found

    def _waited(self, pin: RemotePin) -> RemotePin:
        """`pin` as it is when it is no longer on its way, or the operator's patience is over."""
        begin, looks = self._clock(), 0
        while state_of(pin) is State.PENDING and self._clock() - begin < self._poll:
            self._sleep(_PAUSES[min(looks, len(_PAUSES) - 1)])
            looks += 1
            pin = self._api.get(pin.request) or pin
        return pin

    def _follow(self, pin: RemotePin) -> Delivery:
        """What became of `pin`. Raises PeerError when the service gives up on it."""
        pin = self._waited(pin)
        if pin.status == "failed":
            why = f": {pin.details}" if pin.details else ""
            raise PeerError(
                f"{self._api.name} gave up on {pin.cid}{why}",
                hint="it has to reach a node that has the content: name some under `origins`",
            )
        words = [pin.details] if pin.details else []
        if state_of(pin) is State.PENDING and pin.delegates:
            words.append(f"connect your node to {sanitize(', '.join(pin.delegates[:3]))} to speed it up")
        return Delivery(_delivered(state_of(pin)), detail="; ".join(words))


def _delivered(state: State) -> State:
    """A delivery is held or pending; what else a service may say is not done yet."""
    return State.HELD if state is State.HELD else State.PENDING
