"""The first step of action.yml: what it says where it cannot work, and that a second has nothing to do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.scratch import PROJECT

#: a Python whose pip notes what it was asked for; `--python` fails where PIP says so
PYTHON = """\
#!/bin/sh
case " $* " in
*" -m pip --python "*) [ "$PIP" = new ] || exit 1; echo "$*" >>"$RECORD" ;;
*" -m pip "*) echo "$*" >>"$RECORD" ;;
*" -m venv "*) mkdir -p "$5/bin" && cp "$0" "$5/bin/python" ;;
*" -m ensurepip "*) [ "$PIP" = old ] || exit 1 ;;
*) exec {python} "$@" ;;
esac
"""


@dataclass
class Machine:
    folder: Path
    environ: dict[str, str]

    def install(self, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", PROJECT / "scripts" / "install_action.sh"],
            env=self.environ | environ,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def asked(self) -> list[str]:
        record = self.folder / "record"
        return [line for line in record.read_text().splitlines() if "--version" not in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    python = tmp_path / "python3"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    (tmp_path / "record").touch()
    environ = {
        "PATH": os.environ["PATH"],
        "RECORD": str(tmp_path / "record"),
        "RECONCILE_PYTHON": str(python),
        "GITHUB_ACTION_PATH": str(PROJECT),
        "RUNNER_TEMP": str(tmp_path),
        "PIP": "new",
    }
    return Machine(tmp_path, environ)


def test_only_this_checkout_and_hashed_packages_are_installed(machine: Machine) -> None:
    assert machine.install() == (0, "")
    first, second = machine.asked
    assert "--require-hashes" in first
    assert all(f"{PROJECT}/requirements/{name}.txt" in first for name in ("run", "build"))
    assert second.endswith(f"--no-deps --no-build-isolation {PROJECT}")


def test_a_step_that_signs_installs_the_libraries_for_it(machine: Machine) -> None:
    machine.install()
    assert machine.install(RECONCILE_SIGN="true") == (0, "")
    assert f"{PROJECT}/requirements/keyless.txt" in machine.asked[2]


def test_a_second_step_of_the_job_installs_nothing(machine: Machine) -> None:
    machine.install()
    machine.install()
    assert len(machine.asked) == 2


def test_an_interrupted_installation_is_repeated(machine: Machine) -> None:
    machine.install()
    (machine.folder / "reconcile-action" / "installed").unlink()
    machine.install()
    assert len(machine.asked) == 4


def test_an_old_or_missing_pip_is_replaced_by_that_of_the_environment(machine: Machine) -> None:
    assert machine.install(PIP="old") == (0, "")
    assert len(machine.asked) == 2


def test_without_any_pip_the_error_has_a_hint(machine: Machine) -> None:
    code, said = machine.install(PIP="none")
    assert code == 1
    assert said.startswith("::error title=reconcile::this Python has neither pip nor ensurepip")


def test_a_missing_python_is_reported(machine: Machine) -> None:
    code, said = machine.install(RECONCILE_PYTHON="no-such-python")
    assert code == 1
    assert said.startswith("::error title=reconcile::this action needs Python 3.11 or newer")


def test_windows_is_reported_as_unsupported(machine: Machine) -> None:
    assert machine.install(RUNNER_OS="Windows") == (
        1,
        "::error title=reconcile::this action runs on Linux and macOS\n",
    )
