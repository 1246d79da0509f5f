"""Fixtures for tests of forges: a clock that does not wait, and GitHub's description of its API."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from reconciler.forges.interface import Clock
from tests.forges import github_description
from tests.forges.fake_github import TEMPLATES
from tests.forges.github_description import GitHubDescription


@dataclass
class TestClock:
    """A clock that advances only in `sleep`."""

    __test__ = False
    passed: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.passed += seconds
        self.pauses.append(seconds)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.passed, lambda: 1_800_000_000 + self.passed, self.sleep)


@pytest.fixture
def ticking() -> TestClock:
    return TestClock()


@pytest.fixture(scope="session")
def description() -> GitHubDescription:
    """Load the description. Skips the test when npm cannot download it."""
    file = github_description.bring(
        github_description.PACKAGE, github_description.VERSION, github_description.MEMBER
    )
    return GitHubDescription(file, TEMPLATES)


@pytest.fixture(scope="session")
def description_if_there(request: pytest.FixtureRequest) -> GitHubDescription | None:
    """Load the description; None when npm cannot download it, which tests marked `node` report."""
    try:
        found: GitHubDescription = request.getfixturevalue("description")
    except pytest.skip.Exception:
        return None
    return found
