"""Progress: bars on a terminal, which are removed at the end, notes elsewhere, and events as JSON lines."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from reconciler.render.progress import Bars, Events, Lines
from tests.support.releases import assert_document


class Screen:
    """A terminal, and what was written to it."""

    def __init__(self) -> None:
        self._parent, child = pty.openpty()
        self.stream: TextIO = os.fdopen(child, "w", buffering=1)

    def text(self) -> str:
        """Close the stream and return everything that was written."""
        self.stream.close()
        said = b""
        while True:
            try:
                data = os.read(self._parent, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            said += data
        os.close(self._parent)
        return said.decode()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Screen()


def test_a_task_is_a_bar_with_its_name_and_amount(screen: Screen) -> None:
    bars = Bars(screen.stream)
    with bars.task("storing llm@1.0.0", 2 << 20) as task:
        task.advance(1 << 20)
        bars.note("trying again: the peer was busy")
        assert bars._display is not None
        bars._display.refresh()
    bars.close()
    said = screen.text()
    assert "storing llm@1.0.0" in said
    assert "1.0/2.0 MiB" in said
    assert "note: trying again: the peer was busy" in said
    assert said.count("\x1b[?25h") == said.count("\x1b[?25l") == 1  # the cursor is shown again


def test_hostile_labels_and_notes_are_text_there_too(screen: Screen) -> None:
    bars = Bars(screen.stream)
    with bars.task("[bold]\x1b]0;owned\x07[/bold]", None):
        bars.note("[red]\x1b]0;owned\x07")
    bars.close()
    said = screen.text()
    assert "\x1b]0;" not in said
    assert "note: [red]" in said
    assert "[bold]" in said


def test_bars_take_many_threads_and_a_second_close(screen: Screen) -> None:
    bars = Bars(screen.stream)

    def work(number: int) -> None:
        with bars.task(f"lane {number}", 100) as task:
            for _ in range(100):
                task.advance(1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bars.close()
    bars.close()
    said = screen.text()
    assert re.search(r"lane \d", said)


def test_without_a_task_nothing_is_drawn(screen: Screen) -> None:
    bars = Bars(screen.stream)
    bars.note("one line")
    bars.close()
    assert screen.text() == "note: one line\r\n"


def test_elsewhere_there_are_only_notes() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    with lines.task("hashing", 10) as task:
        task.advance(10)
    lines.note("a\nb\x1b[0m")
    assert stream.getvalue() == "note: a\\nb\\x1b[0m\n"


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
