"""A payer on a chain of its own: in memory, and for the tests of both chains also on anvil."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.onchain.lab import OnchainLab, copied_lab, onchain_lab
from tests.support.onchain.payer import Payer


@pytest.fixture(scope="session")
def funded() -> OnchainLab:
    """A chain in memory, no longer running, on which the payer has 5 USDFC."""
    with onchain_lab() as lab:
        Payer(lab).close()
    return lab


@contextmanager
def payer_in_memory(funded: OnchainLab) -> Iterator[Payer]:
    """A payer on a copy of that chain."""
    with copied_lab(funded) as lab:
        made = Payer(lab, funds=0)
        yield made
        made.close()


@pytest.fixture(params=["memory", pytest.param("anvil", marks=pytest.mark.anvil)])
def payer(request: pytest.FixtureRequest, funded: OnchainLab) -> Iterator[Payer]:
    """A payer with 5 USDFC, on each of both chains."""
    if request.param == "memory":
        with payer_in_memory(funded) as made:
            yield made
        return
    with onchain_lab(anvil=True) as lab:
        made = Payer(lab)
        yield made
        made.close()


@pytest.fixture
def fake_payer(funded: OnchainLab) -> Iterator[Payer]:
    """A payer with 5 USDFC on a chain in memory, whose faults are `payer.lab.fake`."""
    with payer_in_memory(funded) as made:
        yield made
