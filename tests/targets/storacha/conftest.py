"""One real service for the tests of this folder; tests that turn its writes off turn them on again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.storacha_service import StorachaService, packages, storacha_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorachaService]:
    installed = packages()
    if installed is None:
        pytest.skip("npm cannot bring the Storacha service: no Node.js, or no network")
    with storacha_service(installed, tmp_path_factory.mktemp("storacha")) as running:
        yield running
