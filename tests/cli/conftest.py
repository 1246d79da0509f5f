"""A command line in a directory of its own, empty or with two versions to publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    (tmp_path / "repository").mkdir()
    return CommandLine(tmp_path / "repository", monkeypatch, capsys)


@pytest.fixture
def reconcile(empty: CommandLine) -> CommandLine:
    empty.releases()
    return empty
