"""Misbehaving gateways: no wrong byte is written, the fetch ends in time, and the error names the gateway."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.content.cid import RAW
from reconciler.errors import BlockUnavailableError
from reconciler.net.deadline import Timeouts
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from tests.consume.conftest import content, files
from tests.hostile.gateway_behaviours import ANY, CAR_ONLY, FILE_ONLY, RAW_ONLY
from tests.support.dags import MemoryDag
from tests.support.scripted_gateway import Answer, Behaviour, Form, scripted_gateway
from tests.support.shapes import Builder

HASTY = Timeouts(connect=30.0, silence=0.3, total=0.8)
LONGEST = 60.0  # seconds, for two sources, two failures each, and a busy machine
MEMORY = 32 << 20  # bytes

WHERE = {"leaf": ANY | RAW_ONLY, "car": ANY | CAR_ONLY, "file": ANY | FILE_ONLY, "tree": ANY | RAW_ONLY}


def _quick_place(name: str, behaviour: Behaviour, number: int) -> str:
    """Return the place in which a behaviour is tried in every run; it takes turns."""
    places = [where for where, behaviours in WHERE.items() if behaviours.get(name) is behaviour]
    return places[number % len(places)]


CASES = [
    pytest.param(
        where,
        behaviour,
        id=f"{where}-{name}",
        marks=() if where == _quick_place(name, behaviour, number) else pytest.mark.slow,
    )
    for where, behaviours in WHERE.items()
    for number, (name, behaviour) in enumerate(behaviours.items())
]

SPOILS: dict[str, Callable[[Answer], bool]] = {
    "leaf": lambda answer: answer.cid.codec == RAW and answer.form == "block",
    "car": lambda answer: answer.form == "car",
    "file": lambda answer: answer.form == "file",
    "tree": lambda answer: answer.cid.codec != RAW and answer.form == "block",
}
FORMS: dict[str, tuple[Form, ...]] = {"leaf": (), "car": ("car",), "file": ("file", "car"), "tree": ()}


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    build = Builder("hostile gateways")
    return build.dag(
        build.directory(
            "", [build.file("model.bin", 40, 700), build.directory("sub", [build.file("small", 1, 20)])]
        )
    )


def source(url: str) -> GatewaySource:
    return GatewaySource(url, timeouts=HASTY, retry=NO_RETRY)


def run(dag: MemoryDag, destination: Path, *urls: str) -> Fetched:
    return fetch(dag.layout.root, destination, [source(url) for url in urls], QUIET, name="it")


def assert_no_wrong_byte_is_staged(dag: MemoryDag, directory: Path) -> None:
    """Every staged byte is correct or part of a hole, and there are no other files."""
    right = content(dag)
    for path, data in files(directory).items():
        assert path.startswith(".d.fetch-")
        name = path.partition("/content/")[2]
        assert len(data) == len(right[name])
        assert all(byte in (0, good) for byte, good in zip(data, right[name], strict=True))


def test_there_are_at_least_220_cases_and_each_behaviour_is_tried_in_every_run() -> None:
    assert len(CASES) >= 220
    quick = [case.values[1] for case in CASES if not case.marks]
    assert len(quick) == len(set(quick))
    assert set(quick) == {behaviour for behaviours in WHERE.values() for behaviour in behaviours.values()}


@pytest.mark.parametrize(("where", "behaviour"), CASES)
def test_a_single_gateway_ends_in_an_error_or_in_the_right_bytes(
    dag: MemoryDag, tmp_path: Path, where: str, behaviour: Behaviour
) -> None:
    started = time.monotonic()
    with scripted_gateway(dag, behaviour, spoils=SPOILS[where], forms=FORMS[where]) as gateway:
        try:
            run(dag, tmp_path / "d", gateway.url)
        except BlockUnavailableError as error:
            assert gateway.url in str(error.hint), "the error names the source"
            assert not (tmp_path / "d").exists()
            assert_no_wrong_byte_is_staged(dag, tmp_path)
        else:
            assert FORMS[where], "other forms of the content were correct"
            assert files(tmp_path / "d") == content(dag)
    assert time.monotonic() - started < LONGEST


@pytest.mark.parametrize(("where", "behaviour"), CASES)
@pytest.mark.slow
def test_a_good_gateway_completes_the_fetch(
    dag: MemoryDag, tmp_path: Path, where: str, behaviour: Behaviour
) -> None:
    with (
        scripted_gateway(dag, behaviour, spoils=SPOILS[where], forms=FORMS[where]) as bad,
        scripted_gateway(dag) as good,
    ):
        run(dag, tmp_path / "d", bad.url, good.url)
    assert files(tmp_path / "d") == content(dag)


@pytest.mark.parametrize("name", ["endless", "endless chunks", "endless head", "gzip bomb", "a huge length"])
@pytest.mark.parametrize("where", ["leaf", "car", "file"])
def test_memory_stays_bounded(dag: MemoryDag, tmp_path: Path, where: str, name: str) -> None:
    with scripted_gateway(dag, ANY[name], spoils=SPOILS[where], forms=FORMS[where]) as gateway:
        tracemalloc.start()
        try:
            with pytest.raises(BlockUnavailableError) if where == "leaf" else _either():
                run(dag, tmp_path / "d", gateway.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MEMORY


def _either() -> object:
    from contextlib import suppress

    return suppress(BlockUnavailableError)
