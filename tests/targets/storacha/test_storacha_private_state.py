"""The key and proof of the client are removed after a run, even a killed one, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.targets.storacha.client import PrivateState

HOLDER = """
import os, subprocess, sys
from reconciler.targets.storacha.client import PrivateState
state = PrivateState()
(state.path / "proof.car").write_text("secret")
(state.path / "w3access").mkdir()
(state.path / "w3access" / "key.json").write_text("secret")
client = None
if "client" in sys.argv:
    client = subprocess.Popen(["sleep", "60"], pass_fds=(state.lock,), start_new_session=True)
print(state.path, client.pid if client else 0, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


class Holder:
    """Another run that uses a private state."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        path, client = self.process.stdout.readline().split()
        self.state, self.client = Path(path), int(client)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    made: list[Holder] = []
    yield made
    for each in made:
        each.kill()
        if each.client:
            os.kill(each.client, signal.SIGKILL)


def test_it_is_readable_by_us_only_and_removed_with_its_content(temporary: Path) -> None:
    state = PrivateState()
    assert state.path.parent == temporary
    assert state.path.stat().st_mode & 0o777 == 0o700
    (state.path / "deep" / "er").mkdir(parents=True)
    (state.path / "deep" / "er" / "file").write_text("secret")
    (state.path / "link").symlink_to("/")
    state.remove()
    assert list(temporary.iterdir()) == []


def test_the_state_of_a_killed_run_is_removed_by_the_next(temporary: Path, holders: list[Holder]) -> None:
    holders += [Holder(), Holder()]
    killed, alive = holders
    killed.kill()
    assert (killed.state / "w3access" / "key.json").exists()
    state = PrivateState()
    assert sorted(temporary.iterdir()) == sorted([alive.state, state.path])
    assert (alive.state / "proof.car").read_text() == "secret"
    state.remove()


def test_a_client_that_outlives_its_run_keeps_its_state(holders: list[Holder]) -> None:
    holders.append(Holder("client"))
    (killed,) = holders
    killed.kill()
    PrivateState().remove()
    assert (killed.state / "proof.car").exists()
    os.kill(killed.client, signal.SIGKILL)
    killed.client = 0
    for _ in range(100):
        PrivateState().remove()
        if not killed.state.exists():
            break
    assert not killed.state.exists()


def test_only_state_that_is_certainly_ours_is_removed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "owner").write_text("")
    (temporary / "reconcile-storacha-link").symlink_to(elsewhere)
    (temporary / "reconcile-storacha-file").write_text("")
    for name, mode, owner in (("open", 0o755, True), ("unowned", 0o700, False)):
        path = temporary / f"reconcile-storacha-{name}"
        path.mkdir()
        path.chmod(mode)
        if owner:
            (path / "owner").write_text("")
    strange = temporary / "reconcile-storacha-pipe"
    strange.mkdir(mode=0o700)
    (strange / "owner").symlink_to(elsewhere / "owner")
    before = sorted(temporary.rglob("*"))
    PrivateState().remove()
    assert sorted(temporary.rglob("*")) == before
    others = temporary / "reconcile-storacha-others"
    others.mkdir(mode=0o700)
    (others / "owner").write_text("")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    PrivateState().remove()
    assert others.exists()
    monkeypatch.setattr(os, "geteuid", lambda: mine)
    PrivateState().remove()
    assert not others.exists()


def test_runs_that_start_together_do_not_remove_each_other(temporary: Path) -> None:
    code = (
        "from reconciler.targets.storacha.client import PrivateState\n"
        "for _ in range(50):\n"
        "    state = PrivateState()\n"
        "    (state.path / 'proof').write_text('x')\n"
        "    assert (state.path / 'proof').read_text() == 'x'\n"
        "    state.remove()\n"
    )
    together = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [each.wait(60) for each in together] == [0] * 4
    assert list(temporary.iterdir()) == []
