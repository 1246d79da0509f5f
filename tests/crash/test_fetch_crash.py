"""After `reconcile fetch` is killed, the next run continues; no partial directory is ever published."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.consume.conftest import content, files
from tests.support.command_line import RUN
from tests.support.dags import MemoryDag
from tests.support.scripted_gateway import scripted_gateway
from tests.support.shapes import Builder


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    build = Builder("killed")
    sub = build.directory("sub", [build.file(f"small-{number}", 1, 3000) for number in range(9)])
    return build.dag(build.directory("", [build.file("model.bin", 150, 65536), sub]))


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kills", [6, pytest.param(110, marks=pytest.mark.slow)])
def test_after_random_kills_the_fetched_bytes_are_the_same(
    dag: MemoryDag, tmp_path: Path, kills: int, seed: int
) -> None:
    chance = random.Random(seed)
    destination = tmp_path / "d"
    with scripted_gateway(dag) as gateway:
        command = [*RUN, "fetch", str(dag.layout.root), str(destination), "--gateway", gateway.url]
        environment = {**os.environ, "RECONCILE_CACHE": str(tmp_path / "cache")}

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )

        for _ in range(kills):
            process = start()
            time.sleep(chance.uniform(0.15, 0.75))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if destination.exists():
                assert files(destination) == content(dag), "what is there is whole"
                subprocess.run(["rm", "-rf", str(destination), str(tmp_path / "cache")], check=True)
        last = start()
        _, said = last.communicate(timeout=60)
        assert last.returncode == 0, said
    assert files(destination) == content(dag)
    assert {path.name for path in tmp_path.iterdir()} <= {"d", "cache", ".reconcile"}
