"""`.ci/run` installs missing programs if it may, and otherwise names them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.scratch import PROJECT

RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >>"$RECORD"\n'


def run(folder: Path, *programs: str, apt: bool, venv: bool = True) -> tuple[int, str, list[str]]:
    """Run it with only `programs` on PATH; return exit code, standard error, and the commands it ran."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name in ("bash", "sh", "dirname", "basename"):
        (bin_folder / name).symlink_to(str(shutil.which(name)))
    recorders = [*programs, *(["apt-get"] if apt else [])]
    for name in recorders:
        (bin_folder / name).write_text(RECORD)
        (bin_folder / name).chmod(0o755)
    if "python3" in programs:
        works = f'exec {sys.executable} "$@"' if venv else "exit 1"
        (bin_folder / "python3").write_text(f"#!/bin/sh\n{works}\n")
    record = folder / "record"
    record.touch()
    done = subprocess.run(
        [bin_folder / "bash", PROJECT / ".ci" / "run"],
        env={"PATH": str(bin_folder), "RECORD": str(record)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, record.read_text().splitlines()


def test_a_machine_that_has_everything_only_runs_make_test(tmp_path: Path) -> None:
    assert run(tmp_path, "python3", "git", "make", apt=True) == (0, "", ["make test"])


def test_without_apt_missing_programs_are_named_and_nothing_runs(tmp_path: Path) -> None:
    code, error, commands = run(tmp_path, "python3", "make", apt=False, venv=False)
    assert (code, commands) == (1, [])
    assert error.splitlines()[0] == "error: missing: git python3-venv"


def test_apt_installs_exactly_the_missing_programs_for_root_only(tmp_path: Path) -> None:
    code, error, commands = run(tmp_path, "python3", "make", apt=True, venv=False)
    if os.geteuid() == 0:
        assert commands[0] == "apt-get update --quiet"
        assert commands[1].startswith("apt-get install")
        assert commands[1].endswith("--no-install-recommends git python3-venv")
        assert commands[2:] == ["make test"]
    else:
        assert (code, commands) == (1, [])
        assert "error: missing: git python3-venv" in error
