"""After SIGKILL at any point, the next run completes: same CIDs, same CARs, then an empty plan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scratch import PROJECT

RUNNER = Path(__file__).with_name("runner.py")
SCENARIOS = ("publish", "repair", "prune", "branch")
NAMED_POINTS = 20


def cases(scenario: str, directory: Path, *arguments: str) -> list[str]:
    return ended(started(scenario, directory, *arguments))


def started(scenario: str, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, RUNNER, scenario, directory, *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(runner: subprocess.Popen[str]) -> list[str]:
    said, errors = runner.communicate()
    assert runner.returncode == 0, errors
    lines = said.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    return lines


def named_points(directory: Path, seeds: int) -> set[tuple[str, ...]]:
    """Run all scenarios in parallel, because they mostly wait for the disk."""
    runners = []
    for scenario in SCENARIOS:
        (directory / scenario).mkdir()
        runners.append(started(scenario, directory / scenario, str(seeds)))
    return {tuple(line.split()[1:4]) for runner in runners for line in ended(runner)}


def test_killed_at_every_kind_of_call_the_next_run_converges(tmp_path: Path) -> None:
    points = named_points(tmp_path, 1)
    assert len(points) >= NAMED_POINTS, points


@pytest.mark.slow
def test_killed_at_three_calls_of_every_kind_the_next_run_converges(tmp_path: Path) -> None:
    points = named_points(tmp_path, 3)
    assert len(points) >= NAMED_POINTS, points


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_random_times_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "5", "random")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_a_hundred_times_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "25", "random")) == 25
