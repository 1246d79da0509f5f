"""Progress as JSON lines: every line is valid against the schema, they are few, and their order is fixed."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from reconciler.render.progress import Events
from tests.support.releases import assert_document


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in found:
        assert_document("event", line)
    return found


def test_a_task_begins_goes_on_and_ends() -> None:
    stream, clock = io.StringIO(), Clock()
    events = Events(stream, clock=clock)
    with events.task("fetch llm@1.0.0", 1000) as task:
        for _ in range(8):
            clock.now += 0.25
            task.advance(100)
        events.note("a retry")
    found = lines(stream)
    assert [line["event"] for line in found] == ["begin", *["progress"] * 4, "note", "end"]
    assert found[0] | {"task": 1, "label": "fetch llm@1.0.0", "total": 1000} == found[0]
    last = found[4]
    assert (last["done"], last["rate"], last["remaining"], last["seconds"]) == (800, 400, 0.5, 2.0)
    assert found[-1] | {"done": 800, "whole": True} == found[-1]


def test_what_failed_is_not_whole_and_what_has_no_size_has_no_end_in_sight() -> None:
    stream, clock = io.StringIO(), Clock()
    with pytest.raises(ValueError), Events(stream, clock=clock).task("it", None) as task:
        clock.now += 1
        task.advance(10)
        raise ValueError
    found = lines(stream)
    assert (found[1]["total"], found[1]["remaining"]) == (None, None)
    assert found[-1]["whole"] is False


def test_tasks_that_overlap_are_told_apart() -> None:
    stream = io.StringIO()
    events = Events(stream)
    with events.task("one", 1), events.task("two", 1) as two:
        two.advance(1)
    assert [(line["event"], line["task"]) for line in lines(stream)] == [
        ("begin", 1),
        ("begin", 2),
        ("end", 2),
        ("end", 1),
    ]
