"""Gateways that do not bear many connections: the fetch is complete, and an honest gateway is not dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.content.cid import RAW
from reconciler.download import pace
from reconciler.net.deadline import Timeouts
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from tests.consume.conftest import content, files
from tests.hostile.gateway_behaviours import ANY, FILE_ONLY, RAW_ONLY
from tests.support.dags import MemoryDag
from tests.support.scripted_gateway import Answer, Behaviour, honest, scripted_gateway, send
from tests.support.shapes import Builder

PATIENT = Timeouts(connect=30.0, silence=60.0, total=120.0)
HASTY = Timeouts(connect=30.0, silence=2.0, total=4.0)  # for answers that never end


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    build = Builder("many connections")
    small = build.directory("sub", [build.file(f"s{n:02}", 1, 20) for n in range(12)])
    return build.dag(build.directory("", [build.file("model.bin", 160, 256), small]))


@pytest.fixture(autouse=True)
def sixteen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "START", 16)


def run(dag: MemoryDag, destination: Path, *urls: str, timeouts: Timeouts = PATIENT) -> Fetched:
    sources = [GatewaySource(url, timeouts=timeouts, retry=NO_RETRY) for url in urls]
    return fetch(dag.layout.root, destination, sources, QUIET, name="it")


class Crowd:
    """Answers at most `most` requests for leaves at once; `refuse` answers the others."""

    def __init__(self, most: int, refuse: Behaviour) -> None:
        self._most, self._refuse = most, refuse
        self._lock = threading.Lock()
        self._inside = 0
        self.refused = 0

    def __call__(self, connection: BinaryIO, answer: Answer) -> None:
        with self._entered() as is_in:
            if not is_in:
                self.refused += 1
                self._refuse(connection, answer)
                return
            time.sleep(0.005)
            honest(connection, answer)
            connection.flush()

    @contextmanager
    def _entered(self) -> Iterator[bool]:
        with self._lock:
            is_in = self._inside < self._most
            self._inside += is_in
        try:
            yield is_in
        finally:
            with self._lock:
                self._inside -= is_in


def closes(connection: BinaryIO, _: Answer) -> None:
    connection.close()


def status(line: str) -> Behaviour:
    def say(connection: BinaryIO, _: Answer) -> None:
        connection.write(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode())

    return say


REFUSALS: dict[str, Behaviour] = {
    "resets": closes,
    "429": status("429 Too Many Requests"),
    "429 with a time": status("429 Too Many Requests\r\nRetry-After: 0"),
    "503": status("503 Service Unavailable"),
    "503 with a time": status("503 Service Unavailable\r\nRetry-After: 0"),
}


def is_leaf(answer: Answer) -> bool:
    return answer.form == "file" or (answer.form == "block" and answer.cid.codec == RAW)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_gateway_that_limits_its_connections_is_used_to_its_limit(
    dag: MemoryDag, tmp_path: Path, name: str, most: int
) -> None:
    crowd = Crowd(most, REFUSALS[name])
    with scripted_gateway(dag, crowd, spoils=is_leaf, forms=("file",)) as gateway:
        done = run(dag, tmp_path / "d", gateway.url)
    assert files(tmp_path / "d") == content(dag)
    assert crowd.refused, "more were tried"
    assert [(source.bad, source.dropped) for source in done.sources] == [(0, "")]


def parts_of(limit: int) -> Behaviour:
    """Answer a range with at most `limit` bytes from its start, as RFC 9110 permits."""

    def say(connection: BinaryIO, answer: Answer) -> None:
        numbers, _, size = answer.span.removeprefix("bytes ").partition("/")
        first = int(numbers.partition("-")[0])
        body = answer.body[:limit]
        honest(connection, replace(answer, body=body, span=f"bytes {first}-{first + len(body) - 1}/{size}"))

    return say


def closed_after(connection: BinaryIO, answer: Answer) -> None:
    """Send the right answer, and close the connection without announcing it."""
    honest(connection, answer)
    connection.flush()
    connection.close()


def multipart(connection: BinaryIO, answer: Answer) -> None:
    head = f"--x\r\nContent-Type: {answer.kind}\r\nContent-Range: {answer.span}\r\n\r\n".encode()
    kind = "multipart/byteranges; boundary=x"
    send(connection, head + answer.body + b"\r\n--x--\r\n", status="206 Partial Content", kind=kind)


ODD: dict[str, Behaviour] = {
    "one part of a range at a time": parts_of(1000),
    "less than a block at a time": parts_of(100),
    "several parts": multipart,
    "the whole file": FILE_ONLY["the range ignored"],
    "a new connection for each answer": closed_after,
}


@pytest.mark.parametrize("name", ODD)
def test_a_gateway_with_other_ideas_of_ranges_serves_everything(
    dag: MemoryDag, tmp_path: Path, name: str
) -> None:
    with scripted_gateway(
        dag, ODD[name], spoils=lambda answer: answer.form == "file", forms=("file",)
    ) as gateway:
        done = run(dag, tmp_path / "d", gateway.url)
    assert files(tmp_path / "d") == content(dag)
    assert [(source.bad, source.dropped) for source in done.sources] == [(0, "")]
    size = sum(block.size for block in dag.layout)
    assert done.sources[0].bytes <= size, "no block twice"


LIES = ["other bytes", "one bit in the middle", "twice", "another range's bytes", "one byte too few"]


@pytest.mark.parametrize("name", LIES)
def test_what_a_liar_sent_before_is_kept(dag: MemoryDag, tmp_path: Path, name: str) -> None:
    """It is honest for the first half of its answers, on sixteen connections, and lies from then on."""
    answers = 0
    lie = (ANY | RAW_ONLY | FILE_ONLY)[name]

    def turns(connection: BinaryIO, answer: Answer) -> None:
        nonlocal answers
        answers += 1
        (honest if answers <= 8 else lie)(connection, answer)

    def late(connection: BinaryIO, answer: Answer) -> None:
        time.sleep(0.03)
        honest(connection, answer)

    with (
        scripted_gateway(dag, turns, spoils=is_leaf, forms=("file",)) as bad,
        scripted_gateway(dag, late, spoils=is_leaf, forms=("file",)) as good,
    ):
        done = run(dag, tmp_path / "d", bad.url, good.url)
    assert files(tmp_path / "d") == content(dag)
    size = sum(block.size for block in dag.layout)
    assert sum(source.bytes for source in done.sources) <= size, "nothing was fetched again"
    assert not done.sources[1].dropped
    assert list(tmp_path.iterdir()) == [tmp_path / "d"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ANY | FILE_ONLY))
def test_every_third_answer_is_wrong_and_another_gateway_is_right(
    dag: MemoryDag, tmp_path: Path, name: str
) -> None:
    count = iter(range(1_000_000))

    def sometimes(connection: BinaryIO, answer: Answer) -> None:
        ((ANY | FILE_ONLY)[name] if next(count) % 3 == 2 else honest)(connection, answer)

    with (
        scripted_gateway(dag, sometimes, spoils=is_leaf, forms=("file",)) as bad,
        scripted_gateway(dag) as good,
    ):
        run(dag, tmp_path / "d", bad.url, good.url, timeouts=HASTY)
    assert files(tmp_path / "d") == content(dag)
