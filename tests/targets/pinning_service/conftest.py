"""A fake service, and targets that query a new pin without pauses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.targets.pinning_service import target as target_module
from reconciler.targets.pinning_service.target import PinningServiceTarget
from tests.support.fake_pinning_service import FakePinningService, fake_pinning_service
from tests.targets.pinning_service.targets import service_target


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_PAUSES", (0.01,))


@pytest.fixture
def fake() -> Iterator[FakePinningService]:
    with fake_pinning_service() as running:
        yield running


@pytest.fixture
def target(fake: FakePinningService) -> Iterator[PinningServiceTarget]:
    made = service_target(fake.url, poll=0.5)
    yield made
    made.close()
