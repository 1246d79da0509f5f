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
@pytest.mark.parametrize("kills", [3, pytest.param(110, marks=pytest.mark.slow)])
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


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_kill_between_two_versions_leaves_one_of_them(dag: MemoryDag, tmp_path: Path, kills: int) -> None:
    build = Builder("killed")
    newer = build.dag(
        build.directory("", [build.file("model.bin", 150, 65536), build.file("new", 40, 65536)])
    )
    chance, destination = random.Random(kills), tmp_path / "d"
    environment = {**os.environ, "RECONCILE_CACHE": str(tmp_path / "cache")}
    index = tmp_path / "index.yaml"
    versions = {"1.0.0": dag, "2.0.0": newer}
    lines = [f'      "{name}": {{cid: {one.layout.root}}}' for name, one in versions.items()]
    index.write_text("\n".join(["schema: 1", "id: x", "models:", "  m:", "    versions:", *lines, ""]))
    with scripted_gateway(dag) as first, scripted_gateway(newer) as second:
        options = ["--index", str(index), "--gateway", first.url, "--gateway", second.url, "--no-cache"]

        def start(version: str) -> subprocess.Popen[bytes]:
            command = [*RUN, "fetch", f"m@{version}", str(destination), *options]
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

        def complete(version: str) -> None:
            _, said = (process := start(version)).communicate(timeout=60)
            assert process.returncode == 0, said
            assert files(destination) == content(versions[version])

        complete("1.0.0")
        for number in range(kills):
            process = start("2.0.0" if number % 2 == 0 else "1.0.0")
            time.sleep(chance.uniform(0.2, 0.9))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert files(destination) in (content(dag), content(newer)), "what is there is whole"
        complete("2.0.0")
        complete("1.0.0")
    assert {path.name for path in tmp_path.iterdir()} <= {"d", "cache", ".reconcile", "index.yaml"}
