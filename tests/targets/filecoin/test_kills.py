"""A run that is killed at any request: the next one finds what was done, and sends and pays nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.index.label import Label
from reconciler.net.transport import Session
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle

LABEL = Label("reconciler/acme/model@1.0.0")

#: writing requests of a publication with two copies of one piece, in order
STEPS = ["uploads", "PUT", "finish", "create-and-add", "pull", "pull again", "second create-and-add"]


class Killed(BaseException):
    """The end of the process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, when: str) -> None:
    """Kill this process before or after it sends its writing request number `step` to a provider."""
    send, count = Session.send, iter(range(10_000))

    def counted(self: Session, method: str, path: str, **options: Any) -> Any:
        if method not in ("POST", "PUT") or not path.startswith("pdp/") or next(count) != step:
            return send(self, method, path, **options)
        if when == "after":
            send(self, method, path, **options).close()
        raise Killed

    monkeypatch.setattr(Session, "send", counted)


#: each with and without a cache; those that are run always
ALWAYS = {(1, "after", True), (3, "after", False)}


@pytest.mark.parametrize(
    ("step", "when", "cached"),
    [
        pytest.param(
            step,
            when,
            cached,
            marks=() if (step, when, cached) in ALWAYS else pytest.mark.slow,
            id=f"{when} {name}{' with a cache' if cached else ''}",
        )
        for step, name in enumerate(STEPS)
        for when in ("before", "after")
        for cached in (True, False)
    ],
)
def test_a_killed_run_is_continued(
    cloud: OnchainStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, when: str, cached: bool
) -> None:
    dag = bundle(f"{step} {when}")
    cache = tmp_path if cached else None
    with monkeypatch.context() as killing, pytest.raises(Killed):
        kill_at(killing, step, when)
        cloud.target(copies=2, cache=cache, providers=[1, 2]).publish(dag, LABEL, QUIET)
    target = cloud.target(copies=2, cache=cache, providers=[1, 2])
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    seen = target.observe([Expected(dag.layout.root, (LABEL,))], Check.FULL, LABEL.mark, QUIET)
    assert seen.observations[dag.layout.root].state is State.HELD
    added = [count for number in (1, 2) for count in cloud.added[number].values()]
    assert added == [1, 1]
    lost_without_a_note = not cached and (step, when) in (
        (1, "after"),
        (2, "before"),
        (2, "after"),
        (3, "before"),
    )
    assert sum(cloud.stored.values()) == (2 if lost_without_a_note else 1)
