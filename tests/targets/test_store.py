"""The embedded store under the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from reconciler.targets.interface import Check
from tests.conformance.targets import Damage, TargetSuite
from tests.support.store_subject import StoreSubject


class TestStore(TargetSuite):
    seen_at: ClassVar = {
        Damage.ALL_LOST: Check.QUICK,
        Damage.LOST_ROOT: Check.SAMPLE,
        Damage.LOST_INNER: Check.SAMPLE,
        Damage.LOST_LEAF: Check.FULL,
        Damage.CORRUPT_LEAF: Check.FULL,
    }
    vague = frozenset({Damage.ALL_LOST})

    @pytest.fixture
    def subject(self, tmp_path: Path) -> StoreSubject:
        return StoreSubject(tmp_path / "store")
