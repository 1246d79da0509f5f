"""A payer on a chain of its own: in memory, and for the tests of both chains also on anvil."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.onchain.lab import onchain_lab
from tests.support.onchain.payer import Payer


@pytest.fixture(params=["memory", pytest.param("anvil", marks=pytest.mark.anvil)])
def payer(request: pytest.FixtureRequest) -> Iterator[Payer]:
    """A payer with 5 USDFC, on each of both chains."""
    with onchain_lab(anvil=request.param == "anvil") as lab:
        made = Payer(lab)
        yield made
        made.close()


@pytest.fixture
def fake_payer() -> Iterator[Payer]:
    """A payer with 5 USDFC on a chain in memory, whose faults are `payer.lab.fake`."""
    with onchain_lab() as lab:
        made = Payer(lab)
        yield made
        made.close()
