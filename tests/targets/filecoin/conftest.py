"""Filecoin Onchain Cloud in memory, with four providers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.onchain.storage import OnchainStorage, onchain_storage


@pytest.fixture
def cloud() -> Iterator[OnchainStorage]:
    with onchain_storage() as running:
        yield running
