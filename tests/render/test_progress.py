"""Progress: bars on a terminal, which are removed at the end, and notes elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from reconciler.render.progress import Bars, Lines


class Screen:
    """A terminal, and what was written to it."""

    def __init__(self) -> None:
        self._parent, child = pty.openpty()
        self.stream: TextIO = os.fdopen(child, "w", buffering=1)

    def text(self) -> str:
        """Close the stream; everything that was written."""
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
