"""A run that streams a version and is killed at a random moment: the next runs converge."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.command_line import RUN
from tests.support.safetensors import safetensors

INDEX = """\
schema: 1
id: acme
defaults: {targets: [store, second]}
models:
  llm:
    format: safetensors
    license: Apache-2.0
    versions:
      "1.0.0": {source: "share:llm", created_at: "2026-05-01T00:00:00Z"}
"""
SOURCES = "sources:\n  share: {kind: directory, path: share}\n"
TARGETS = """\
targets:
  store: {kind: store, path: .reconcile/store}
  second: {kind: store, path: .reconcile/second}
"""


def repository(root: Path, size: int) -> Path:
    (root / "releases").mkdir(parents=True)
    (root / "share/llm").mkdir(parents=True)
    for name, text in (("index", INDEX), ("sources", SOURCES), ("targets", TARGETS)):
        (root / f"releases/{name}.yaml").write_text(text)
    (root / "share/llm/model.safetensors").write_bytes(safetensors(os.urandom(size)))
    (root / "share/llm/zeros.bin").write_bytes(bytes(3 << 20))
    return root


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(RUN, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def kill_after(root: Path, seconds: float) -> None:
    process = subprocess.Popen(RUN, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def converges(tmp_path: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    whole = repository(tmp_path / "whole", 24 << 20)
    begin = time.monotonic()
    done = run(whole)
    longest = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    killed = whole.with_name("killed")
    for number in range(kills):
        if number % 5 == 0:
            subprocess.run(["rm", "-rf", killed], check=True)
            (killed / "releases").mkdir(parents=True)
            (killed / "share").symlink_to(whole / "share")
            for name, text in (("index", INDEX), ("sources", SOURCES), ("targets", TARGETS)):
                (killed / f"releases/{name}.yaml").write_text(text)
        kill_after(killed, moments.uniform(0.2, 1.2) * longest)
    done = run(killed)
    assert done.returncode == 0, done.stderr
    for name in ("store", "second"):
        cars = [sorted((root / f".reconcile/{name}/cars").iterdir()) for root in (whole, killed)]
        assert [path.name for path in cars[0]] == [path.name for path in cars[1]]
        assert [path.read_bytes() for path in cars[0]] == [path.read_bytes() for path in cars[1]]
        assert list((killed / f".reconcile/{name}/tmp").iterdir()) == []
    assert (whole / "releases/index.yaml").read_text() == (killed / "releases/index.yaml").read_text()
    again = subprocess.run([*RUN, "--dry-run", "--check", "full", "--exit-code"], cwd=killed, check=False)
    assert again.returncode == 0


def test_kills_at_random_moments_converge(tmp_path: Path) -> None:
    converges(tmp_path, 2, 7)


@pytest.mark.slow
def test_many_kills_at_random_moments_converge(tmp_path: Path) -> None:
    """STREAM_KILLS sets their number."""
    converges(tmp_path, int(os.environ.get("STREAM_KILLS", "20")), random.randrange(1 << 30))
