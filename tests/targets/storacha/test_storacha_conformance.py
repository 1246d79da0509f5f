"""The suite of all targets against the real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.targets import TargetSuite
from tests.support.storacha_service import StorachaService, packages, storacha_service
from tests.targets.storacha.subjects import StorachaSubject, opened


@pytest.mark.slow
@pytest.mark.storacha
class TestStoracha(TargetSuite):
    """The whole suite takes minutes: every upload starts Node.js once or twice."""

    @pytest.fixture
    def subject(self, service: StorachaService) -> Iterator[StorachaSubject]:
        with opened(service) as target:
            yield StorachaSubject(service, target)

    def test_an_unreachable_target_is_unknown_not_absent(  # type: ignore[override]
        self, tmp_path: Path, salt: str
    ) -> None:
        """Use a separate service, because the test stops it."""
        installed = packages()
        assert installed is not None
        with storacha_service(installed, tmp_path) as running, opened(running) as target:
            super().test_an_unreachable_target_is_unknown_not_absent(StorachaSubject(running, target), salt)
