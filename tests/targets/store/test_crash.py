"""A store whose writer is killed at every system call that changes something, and inside each write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from tests.support.pairs import pairs
from tests.targets.store import crash_scenes
from tests.targets.store.crash_scenes import HARM, SEEDS

Scene = Callable[..., int]


def only(fast: str) -> list[Any]:
    """Return the kinds of content as parameters; all but one are slow."""
    return [pytest.param(seed, marks=() if seed == fast else pytest.mark.slow) for seed in SEEDS]


@pytest.fixture(scope="module")
def deaths() -> Iterator[Scene]:
    """Run a scene in a separate process; return its number of kills, or raise its failure."""
    with ProcessPoolExecutor(1, get_context("spawn"), crash_scenes.no_waiting_for_the_disk) as pool:
        yield lambda scene, *arguments: pool.submit(scene, *arguments).result()


@pytest.mark.parametrize("seed", only("two"))
def test_a_killed_publish_is_never_reported_as_held_and_the_next_one_finishes_it(
    deaths: Scene, tmp_path: Path, seed: str
) -> None:
    assert deaths(crash_scenes.publish, tmp_path, seed) >= 20


@pytest.mark.parametrize(("harmed", "seed"), pairs(HARM, list(SEEDS), every=3))
def test_a_killed_repair_leaves_it_partial_and_the_next_one_finishes_it(
    deaths: Scene, tmp_path: Path, seed: str, harmed: str
) -> None:
    assert deaths(crash_scenes.repair, tmp_path, seed, harmed) > 5


@pytest.mark.parametrize("seed", only("one"))
def test_a_killed_unpin_is_finished_by_the_next_writer(deaths: Scene, tmp_path: Path, seed: str) -> None:
    assert deaths(crash_scenes.unpin, tmp_path, seed) > 5


@pytest.mark.parametrize("seed", only("two"))
def test_a_killed_unpin_does_not_stop_a_new_publish(deaths: Scene, tmp_path: Path, seed: str) -> None:
    assert deaths(crash_scenes.unpin_and_publish, tmp_path, seed) > 5


@pytest.mark.parametrize("seed", only("three"))
def test_a_killed_relabel_keeps_the_root(deaths: Scene, tmp_path: Path, seed: str) -> None:
    assert deaths(crash_scenes.relabel, tmp_path, seed) > 0


@pytest.mark.slow
def test_a_store_killed_while_it_is_made_is_made_by_the_next_run(deaths: Scene, tmp_path: Path) -> None:
    assert deaths(crash_scenes.make, tmp_path) > 20
