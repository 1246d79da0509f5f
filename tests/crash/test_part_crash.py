"""Runs that publish parts of a version and are killed at random moments: the run for the whole converges."""

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


def repository(root: Path) -> Path:
    (root / "releases").mkdir(parents=True)
    (root / "share/llm").mkdir(parents=True)
    for name, text in (("index", INDEX), ("sources", SOURCES), ("targets", TARGETS)):
        (root / f"releases/{name}.yaml").write_text(text)
    (root / "share/llm/model.safetensors").write_bytes(safetensors(random.Random(3).randbytes(24 << 20)))
    return root


@pytest.mark.slow
def test_parts_that_are_killed_at_random_moments_converge(tmp_path: Path) -> None:
    """Parts come in any order. STREAM_KILLS sets the number of kills."""
    moments = random.Random()
    whole, killed = repository(tmp_path / "whole"), repository(tmp_path / "killed")
    subprocess.run(RUN, cwd=whole, check=True, capture_output=True)
    for _ in range(int(os.environ.get("STREAM_KILLS", "12"))):
        part = f"llm@1.0.0#{moments.randint(1, 3)}/3"
        command = [*RUN, "--only", part, "--propose", "none"]
        process = subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(RUN, cwd=killed, check=True, capture_output=True)
    for name in ("store", "second"):
        assert list((killed / f".reconcile/{name}/tmp").iterdir()) == []
    assert (whole / "releases/index.yaml").read_text() == (killed / "releases/index.yaml").read_text()
