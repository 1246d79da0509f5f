"""Ctrl-C while a gateway stalls ends the fetch soon, with one line of output and no lock left."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from reconciler.content.cid import RAW
from tests.consume.conftest import content, files
from tests.support.command_line import RUN
from tests.support.dags import MemoryDag
from tests.support.scripted_gateway import Answer, ScriptedGateway, honest, scripted_gateway
from tests.support.shapes import Builder
from tests.support.waiting import wait_until

# a shell ignores SIGINT for tests that run in the background, and children inherit that
SCRIPT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + RUN[2]

_SOON = 60.0  # seconds, much less than the gateway stalls


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    build = Builder("interrupted")
    below = [build.directory(f"d{n}", [build.file(f"f{n}", 1, 100)]) for n in range(6)]
    return build.dag(build.directory("", [build.file("model", 200, 1024), *below]))


def stall(connection: BinaryIO, answer: Answer) -> None:
    """Send half of the response, then stall."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    connection.write(head.encode() + answer.body[: len(answer.body) // 2])
    connection.flush()
    time.sleep(300)


STALLS: dict[str, Callable[[MemoryDag, Answer], bool]] = {
    "the root": lambda dag, answer: answer.cid == dag.layout.root,
    "the rest of the tree": lambda dag, answer: answer.cid.codec != RAW and answer.cid != dag.layout.root,
    "a leaf": lambda dag, answer: answer.cid.codec == RAW,
    "a stream": lambda dag, answer: answer.form != "block",
}


@pytest.mark.parametrize(
    "what", ["a leaf", *(pytest.param(each, marks=pytest.mark.slow) for each in STALLS if each != "a leaf")]
)
def test_an_interrupted_fetch_ends_soon_and_the_next_run_continues(
    dag: MemoryDag, tmp_path: Path, what: str
) -> None:
    def command(gateway: ScriptedGateway, *rest: str) -> list[str]:
        place = [str(dag.layout.root), str(tmp_path / "d")]
        return [RUN[0], "-c", SCRIPT, "fetch", *place, "--gateway", gateway.url, "--no-cache", *rest]

    with scripted_gateway(dag, stall, spoils=lambda answer: STALLS[what](dag, answer)) as gateway:
        process = subprocess.Popen(
            command(gateway, "--json-events"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _wait_for_a_stall(gateway, what, dag)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < _SOON
    assert process.returncode == 130
    assert err == "error: interrupted\nhint: run again to finish\n"
    assert json.loads(out.splitlines()[-1])["error"]["exit_code"] == 130
    assert not (tmp_path / "d").exists()
    with scripted_gateway(dag) as gateway:
        done = subprocess.run(command(gateway), cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "d") == content(dag)
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.slow
def test_what_arrived_before_many_connections_stalled_is_used_by_the_next_run(
    dag: MemoryDag, tmp_path: Path
) -> None:
    served, stalls = itertools.count(), True

    def late(connection: BinaryIO, answer: Answer) -> None:
        (stall if stalls and next(served) >= 4 else honest)(connection, answer)

    with scripted_gateway(
        dag, late, spoils=lambda answer: answer.cid.codec == RAW or answer.form != "block", forms=()
    ) as gateway:
        place = [str(dag.layout.root), str(tmp_path / "d")]
        command = [RUN[0], "-c", SCRIPT, "fetch", *place, "--gateway", gateway.url, "--no-cache", "--json"]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until("several connections stall", lambda: len(gateway.asked) > 12)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - began < _SOON
        assert (process.returncode, "Traceback" in err) == (130, False)
        stalls = False
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout)["resumed"] > 0
    assert files(tmp_path / "d") == content(dag)
    assert os.listdir(tmp_path) == ["d"]


def _wait_for_a_stall(gateway: ScriptedGateway, what: str, dag: MemoryDag) -> None:
    """Wait until a stalling block was requested: after the root and five more inner nodes."""
    requests = {"the root": 1, "the rest of the tree": 2, "a leaf": 9, "a stream": 9}[what]
    deadline = time.monotonic() + 60
    while len(gateway.asked) < requests:
        assert time.monotonic() < deadline, gateway.asked
        time.sleep(0.05)
    time.sleep(0.5)
