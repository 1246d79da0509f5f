"""After SIGKILL at any point, the next run completes: same CIDs, same CARs, then an empty plan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.scratch import PROJECT

RUNNER = Path(__file__).with_name("runner.py")
SCENARIOS = ("publish", "repair", "prune", "branch")


def quick(*names: str) -> list[Any]:
    """Return the scenarios, those not in `names` for the slow suite."""
    return [each if each in names else pytest.param(each, marks=pytest.mark.slow) for each in SCENARIOS]


STREAMS = ("stream", "spool")
CALLS = {"fsync", "replace", "pwrite", "unlink", "mkdir", "ftruncate"}  #: a run of any scenario makes all


def cases(scenario: str, directory: Path, *arguments: str) -> list[str]:
    """Run the cases of one scenario; return a line about each."""
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


@pytest.mark.parametrize("scenario", quick("publish"))
def test_killed_at_every_kind_of_call_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert {line.split()[3] for line in cases(scenario, tmp_path, "1", "few")} == CALLS


@pytest.mark.slow
@pytest.mark.parametrize("scenario", STREAMS)
def test_a_streaming_run_killed_at_every_kind_of_call_converges(scenario: str, tmp_path: Path) -> None:
    assert {line.split()[3] for line in cases(scenario, tmp_path, "1", "few")} == CALLS | {"pwritev"}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", (*SCENARIOS, *STREAMS))
def test_killed_around_three_calls_of_every_kind_the_next_run_converges(
    scenario: str, tmp_path: Path
) -> None:
    points = {tuple(line.split()[2:4]) for line in cases(scenario, tmp_path, "3")}
    assert points >= {(moment, call) for moment in ("before", "after") for call in CALLS}


@pytest.mark.parametrize("scenario", quick("prune"))
def test_killed_at_random_times_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "2", "random")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_a_hundred_times_the_next_run_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "25", "random")) == 25


@pytest.mark.slow
@pytest.mark.parametrize("scenario", STREAMS)
def test_a_streaming_run_killed_a_hundred_times_converges(scenario: str, tmp_path: Path) -> None:
    assert len(cases(scenario, tmp_path, "100", "random")) == 100
