"""SIGKILL anywhere leaves only what the next run finishes: same CIDs, same CARs, then an empty plan."""

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
    ran = subprocess.run(
        [sys.executable, RUNNER, scenario, directory, *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    return lines


def test_killed_at_every_kind_of_call_the_next_run_converges(tmp_path: Path) -> None:
    points = set()
    for scenario in SCENARIOS:
        directory = tmp_path / scenario
        directory.mkdir()
        points |= {tuple(line.split()[1:4]) for line in cases(scenario, directory, "3")}
    assert len(points) >= NAMED_POINTS, points


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_random_times_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "5", "random")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_a_hundred_times_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "25", "random")) == 25
