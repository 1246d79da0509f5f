"""Run pytest inside pytest, with the settings of this project and selected programs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tests.support.scratch import PROJECT


def planted(folder: Path, tests: str, programs: Iterable[str]) -> list[str | Path]:
    """Write `tests` and stubs for `programs` to `folder`; return the arguments of pytest to run them."""
    (folder / "bin").mkdir()
    for program in programs:
        (folder / "bin" / program).write_text("#!/bin/sh\n")
        (folder / "bin" / program).chmod(0o755)
    (folder / "conftest.py").write_text("from tests.conftest import pytest_configure\n")
    (folder / "test_sample.py").write_text(tests)
    settings = ["-c", PROJECT / "pyproject.toml", "--rootdir", folder]
    plugins = ["-p", "no:cacheprovider", "-p", "pytest_socket", "-p", "pytest_timeout"]
    return [*plugins, *settings, folder / "test_sample.py"]


def environ(folder: Path, require: str) -> dict[str, str]:
    """Return the environment of a run with only the required plugins, which halves its time."""
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": str(folder / "bin"), "REQUIRE": require}
    return os.environ | alone
