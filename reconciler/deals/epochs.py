"""Epochs of a Filecoin chain as dates: one every 30 seconds since the chain's first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Chain:
    """One Filecoin network: its name, and the moment of its epoch 0 (UTC)."""

    name: str
    genesis: datetime

    def date(self, epoch: int) -> datetime | None:
        """When `epoch` begins; None when no calendar reaches that far."""
        try:
            return self.genesis + epoch * EPOCH
        except OverflowError:
            return None

    def epoch(self, moment: datetime) -> int:
        """The epoch at `moment`."""
        return (moment - self.genesis) // EPOCH


MAINNET = Chain("mainnet", datetime(2020, 8, 24, 22, tzinfo=UTC))
CALIBRATION = Chain("calibration", datetime(2022, 11, 1, 18, 13, tzinfo=UTC))

CHAINS: Mapping[str, Chain] = {chain.name: chain for chain in (MAINNET, CALIBRATION)}


def in_epochs(period: timedelta) -> int:
    """`period` in epochs, rounded up."""
    return -(-period // EPOCH)
