"""The end of a run reports real peers, and REQUIRE forbids skips, tested by pytest inside pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.inner_pytest import environ, planted
from tests.support.scratch import PROJECT

TESTS = """
import pytest

@pytest.mark.ipfs
def test_needs_a_program():
    pass

@pytest.mark.node
def test_skips_itself():
    pytest.skip("nothing to install from")

@pytest.mark.slow
def test_takes_long():
    pass
"""


def run(
    folder: Path, *arguments: str, programs: tuple[str, ...] = (), require: str = ""
) -> tuple[int, list[str]]:
    """Run TESTS with this project's settings and only `programs` on PATH; return exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *planted(folder, TESTS, programs), *arguments],
        cwd=PROJECT,
        env=environ(folder, require),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_the_report_of_peers_precedes_the_last_line(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "-m", "not slow", programs=("node", "npm"))
    assert code == 0
    assert lines[-4:-1] == [
        "ipfs: 1 skipped (ipfs not on PATH)",
        "node: 1 skipped (nothing to install from)",
        "slow: 1 left out (make test-all runs them)",
    ]
    assert lines[-1].startswith("2 skipped, 1 deselected")


@pytest.mark.slow
def test_a_program_on_path_lets_its_tests_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, programs=("ipfs",), require="ipfs")
    assert code == 0
    assert "ipfs: 1 ran" in lines
    assert "node: 1 skipped (node and npm not on PATH)" in lines


def test_a_required_peer_that_is_not_installed_fails_the_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, require="ipfs")
    assert code == 1
    assert any("required by REQUIRE=ipfs, but skipped: Skipped: ipfs not on PATH" in line for line in lines)


@pytest.mark.slow
def test_a_required_peer_whose_test_skips_itself_fails_the_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, programs=("node", "npm"), require="node")
    assert code == 1
    assert any("required by REQUIRE=node" in line for line in lines)


@pytest.mark.slow
def test_a_required_peer_that_no_test_needs_fails_the_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, require="ipfs_cluster")
    assert code == 1
    assert "ipfs_cluster: required by REQUIRE, but no test of it took part" in lines


@pytest.mark.slow
def test_a_misspelt_requirement_is_an_error(tmp_path: Path) -> None:
    code, lines = run(tmp_path, require="kubo")
    assert code == 4
    assert any("REQUIRE names kubo; the peers are ipfs, ipfs_cluster, " in line for line in lines)


def test_the_workers_of_a_parallel_run_are_counted_together(tmp_path: Path) -> None:
    code, lines = run(
        tmp_path, "-p", "xdist", "-n", "2", "-m", "not slow", programs=("ipfs",), require="ipfs"
    )
    assert code == 0
    assert lines[-4:-1] == [
        "ipfs: 1 ran",
        "node: 1 skipped (node and npm not on PATH)",
        "slow: 1 left out (make test-all runs them)",
    ]


@pytest.mark.slow
def test_a_forbidden_skip_fails_a_parallel_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "-p", "xdist", "-n", "2", require="ipfs")
    assert code == 1
    assert any("required by REQUIRE=ipfs, but skipped: Skipped: ipfs not on PATH" in line for line in lines)
