"""`make test` runs the tests in two halves, and every test in one of them."""

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
def test_of_a_real_peer():
    assert {peer}

def test_of_none():
    assert {other}

@pytest.mark.slow
def test_that_takes_long():
    pass
"""


def run(
    folder: Path, *arguments: str, peer: bool = True, other: bool = True, require: str = ""
) -> tuple[int, str]:
    """Run the script over TESTS, on a machine with `ipfs`; its exit code and all it said."""
    given = planted(folder, TESTS.format(peer=peer, other=other), ["ipfs"])
    done = subprocess.run(
        [sys.executable, PROJECT / "scripts/run_tests.py", *given, *arguments],
        cwd=PROJECT,
        env=environ(folder, require),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_every_test_is_in_one_half_and_a_required_peer_is_asked_of_its_own(tmp_path: Path) -> None:
    code, said = run(tmp_path, "-m", "not slow", require="ipfs")
    assert code == 0, said
    assert said.count("1 passed") == 2
    assert said.count("ipfs: 1 ran") == 1


@pytest.mark.parametrize(("peer", "other"), [(False, True), (True, False)])
def test_a_failure_in_either_half_is_one_of_the_run(tmp_path: Path, peer: bool, other: bool) -> None:
    code, said = run(tmp_path, peer=peer, other=other)
    assert code == 1
    failed = [line.rpartition("::")[2] for line in said.splitlines() if line.startswith("FAILED ")]
    assert failed == ["test_of_none"] * (not other) + ["test_of_a_real_peer"] * (not peer)


def test_a_half_without_a_test_is_no_failure_but_a_run_without_one_is(tmp_path: Path) -> None:
    code, said = run(tmp_path, "-m", "slow")
    assert (code, said.count("1 passed")) == (0, 1)
    (tmp_path / "bin/ipfs").unlink()
    (tmp_path / "bin").rmdir()
    assert run(tmp_path, "-k", "nothing_at_all")[0] == 5
