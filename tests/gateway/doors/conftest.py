from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.doors import DoorServer, door_server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorServer]:
    """One server with every door."""
    with door_server(tmp_path_factory.mktemp("doors")) as running:
        yield running
