"""The help texts of docs/commands.md are those of the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scratch import PROJECT
from tests.support.scripts import check

MAX_FLAG_PLACES = 215  #: a new option has to earn its place: a user reads every one of them

RESOLVE = re.compile(r"<!-- help: resolve -->\n.*?<!-- end -->\n", re.DOTALL)


@pytest.mark.slow
def test_a_help_text_that_differs_from_the_program_is_found_and_rewritten(scratch_clone: Path) -> None:
    page, script = scratch_clone / "docs/commands.md", scratch_clone / "scripts/make_commands.py"
    before = page.read_text()
    assert check(script) == (0, "")
    page.write_text(before.replace("the CID given as REF", "the CID given as REF, if any"))
    code, error = check(script)
    assert code == 1
    assert "docs/commands.md differs from the program" in error
    assert page.read_text() != before, "a check writes nothing"
    subprocess.run([sys.executable, script], check=True)
    assert page.read_text() == before


@pytest.mark.slow
def test_a_command_that_the_page_lacks_is_named_and_nothing_is_written(scratch_clone: Path) -> None:
    page, script = scratch_clone / "docs/commands.md", scratch_clone / "scripts/make_commands.py"
    page.write_text(RESOLVE.sub("", page.read_text()))
    without = page.read_text()
    for arguments in (["--check"], []):
        done = subprocess.run(
            [sys.executable, script, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "docs/commands.md lacks resolve\n" in done.stderr
    assert page.read_text() == without


def test_the_texts_depend_on_the_program_beside_the_script_and_not_on_the_terminal(
    scratch_clone: Path,
) -> None:
    app = scratch_clone / "reconciler/cli/reader_commands.py"
    app.write_text(app.read_text().replace("Print every version that", "Print each version that"))
    script = scratch_clone / "scripts/make_commands.py"
    environ = {**os.environ, "COLUMNS": "40", "TERMINAL_WIDTH": "40", "FORCE_COLOR": "1"}
    subprocess.run([sys.executable, script], check=True, env=environ)
    changed = subprocess.run(
        ["git", "diff", "--numstat", "docs"], cwd=scratch_clone, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"[12]\t[12]\tdocs/commands\.md\n", changed.stdout)


def test_the_commands_declare_no_more_options_than_the_limit() -> None:
    script = PROJECT / "scripts/make_commands.py"
    done = subprocess.run([sys.executable, script, "--count"], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= MAX_FLAG_PLACES
